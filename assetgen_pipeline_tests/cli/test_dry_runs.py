"""Every verb that takes `--dry-run` says so in its document, in one way."""

import pytest

from assetgen_pipeline.cli.app import cli
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.approvals import ApprovalPolicy, must_wait
from assetgen_pipeline.stages.batch_files import rows_of
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.parse_batch import claim_metadata
from assetgen_pipeline.wiring.deployment import csv_limits
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.builders import a_csv
from assetgen_pipeline_tests.command_tree import leaves

CSV = a_csv(["S1", "a kitchen"], ["S2", "a harbour"])
FAILED, DEAR = "ada.failed.00000001", "ada.dear.00000002"
CANDIDATE = ("--provider", "gemini", "--model", "gemini-3-pro-image", "--percent", "10")
CALLS = {
    ("submit",): ("FILE", "--owner", "ada"),
    ("retry",): (FAILED,),
    ("cancel",): (FAILED,),
    ("approve",): (DEAR,),
    ("pause",): ("--owner", "ada"),
    ("resume",): ("--all",),
    ("refresh-urls",): ("--expiring", "24h"),
    ("purge",): (FAILED,),
    ("rollout", "set"): CANDIDATE,
    ("rollout", "rollback"): (),
}
# Its document is that of `status.json`, whose `mode` says it.
STATUS = ("run",)


@pytest.fixture
def batches(assetgen):
    with open_all(load_settings()) as services:
        for batch_id in (FAILED, DEAR):
            services.store.write(
                BatchFolder(batch_id).request,
                CSV,
                content_type="text/csv",
                metadata=claim_metadata(run_id="", dry_run=False, clock=services.clock),
            )
            write_status(batch_id, BatchState.FAILED, store=services.store, clock=services.clock)
        batch = rows_of(DEAR, limits=csv_limits(load_settings()), store=services.store)
        policy = ApprovalPolicy(above=Money(1))
        assert must_wait(batch, Money(6_000), policy=policy, services=services)


def test_every_verb_that_takes_dry_run_is_called_below():
    takes = {
        tuple(words)
        for words, command in leaves(cli)
        if "--dry-run" in {flag for option in command.params for flag in option.opts}
    }

    assert takes == {*CALLS, STATUS}


@pytest.mark.parametrize("verb", CALLS, ids=" ".join)
def test_the_document_of_a_dry_run_says_that_it_is_one(assetgen, batches, tmp_path, verb):
    file = tmp_path / "two.csv"
    file.write_bytes(CSV)
    words = [file if word == "FILE" else word for word in CALLS[verb]]

    answer = assetgen(*verb, *words, "--dry-run", "--json")

    assert answer.code == 0
    assert answer.document["dry_run"] is True


@pytest.mark.parametrize("verb", [("submit",), ("rollout", "set"), ("rollout", "rollback")])
def test_the_document_of_what_was_done_says_that_it_was(assetgen, tmp_path, verb):
    file = tmp_path / "two.csv"
    file.write_bytes(CSV)
    words = [file if word == "FILE" else word for word in CALLS[verb]]

    assert assetgen(*verb, *words, "--json").document["dry_run"] is False
