"""What `docs/bucket.md` says of objects, states and ids is what a deployment does."""

import json
import re
from pathlib import Path

import pytest

from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pauses import Pause
from assetgen_pipeline.domain.rollout import Rollout
from assetgen_pipeline.domain.status import BatchState, BatchStatus, ImageCounts, exit_code
from assetgen_pipeline.stages.approvals import ApprovalPolicy, proposed_approval, record_approval
from assetgen_pipeline.stages.orders import order_rows
from assetgen_pipeline.stages.pausing import change_pauses
from assetgen_pipeline.stages.rollout import write_rollout
from assetgen_pipeline.stages.waiting_batches import wait_for
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment

PAGE = (Path(__file__).parents[2] / "docs" / "bucket.md").read_text(encoding="utf-8")
OBJECTS = re.findall(r"^\| `([a-z_]+/[^`]*)` \|", PAGE, re.MULTILINE)
REJECTED = "studio.summer.89abcdef"
PLACES = {
    "owner": r"[a-z0-9][a-z0-9_-]{0,62}",
    "batch_id": r"[a-z0-9][a-z0-9_-]{0,62}\.[A-Za-z0-9_-]{1,64}\.[0-9a-f]{8}",
    "name": r"[^/]+",
    "pack_id": r"[^/]+",
    "file": r"[^/]+\.(?:png|jpe?g|webp)",
    "xx": r"[0-9a-f]{2}",
    "image_id": r"[0-9a-f]{40}",
    "ext": r"(?:png|jpg|webp)",
    "sha256": r"[0-9a-f]{64}",
    "asset": r"[a-z_]+",
    "run_id": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "step": r"[a-z_.]+(?:\[\w+\])?",
    "UTC hour": r"\d{4}-\d{2}-\d{2}T\d{2}",
}


def meant(pattern):
    """A regular expression of the names that a line of the page means."""
    parts = re.split(r"<([^>]+)>", pattern.replace("YYYY-MM-DD", "<day>"))
    places = PLACES | {"day": r"\d{4}-\d{2}-\d{2}"}
    return "".join(
        places[part] if index % 2 else re.escape(part) for index, part in enumerate(parts)
    )


def part(name):
    """The rows of a table of the page that is named in a comment: first cells and last cells."""
    table = PAGE.split(f"<!-- {name} -->")[1].split("<!-- end -->")[0]
    rows = [line.split("|")[1:-1] for line in table.strip().splitlines()[2:]]
    return [(row[0].strip(" `"), row[-1].strip()) for row in rows]


@pytest.fixture
def used(instance):
    """The names of a bucket in which each kind of thing has happened once."""
    policy = ApprovalPolicy(above=Money(1))
    url = "https://pictures.example/a.png"
    deployment = FakeDeployment(instance, references={url: b"a picture"}, approval=policy)
    store, clock, services = deployment.store, deployment.clock, deployment.services
    csv = a_csv(
        ["S1", "a kitchen", url, "kit"],
        header=["scene_id", "prompt", "reference_urls", "ref_pack_id"],
    )
    store.write("packs/kit/1.png", b"a picture", content_type="image/png")
    store.write("inbox/studio/waits.csv", csv, content_type="text/csv")
    store.write("inbox/studio/dry-run/waits.csv", csv, content_type="text/csv")
    deployment.upload(csv)
    deployment.run()
    approval = proposed_approval(BATCH_ID, by="ann", policy=policy, services=services)
    record_approval(approval, services=services)
    assert deployment.run().success
    assert deployment.publish_costs("2026-01-05").success
    deployment.upload(b"scene_id\nS1\n", batch_id=REJECTED)
    assert not deployment.run(batch_id=REJECTED).success
    order_rows(BATCH_ID, ["S1"], by="ann", others=None, store=store, clock=clock)
    wait_for("run", BATCH_ID, store=store, clock=clock)
    pause = Pause(scope="all", by="ann", at=NOW)
    change_pauses(lambda pauses: pauses.with_pause(pause), store=store)
    write_rollout(Rollout(), generation=0, store=store)
    return [found.name for found in store.list("")]


def test_every_object_of_a_bucket_is_on_the_page(used):
    known = re.compile("|".join(map(meant, OBJECTS)))

    assert [name for name in used if not known.fullmatch(name)] == []


def test_every_object_on_the_page_is_one_of_a_bucket(used):
    # Of a run that lasts longer than this one.
    late = {"artifacts/<batch_id>/progress.json"}

    assert {
        pattern for pattern in OBJECTS if not any(re.fullmatch(meant(pattern), n) for n in used)
    } <= late


def test_the_page_lists_the_fields_of_the_status_in_their_order():
    fields = part("status")

    assert [name for name, _ in fields] == list(BatchStatus.model_fields)
    assert re.findall(r"`(\w+)`", dict(fields)["images"]) == list(ImageCounts.model_fields)


def test_the_page_lists_every_state_with_its_exit_code():
    assert {state: int(code) if code else None for state, code in part("states")} == {
        state.value: exit_code(state) for state in BatchState
    }


def test_the_example_of_a_rollout_is_read():
    [example] = re.findall(r"```json\n(.+?)\n```", PAGE, re.DOTALL)

    rollout = Rollout.model_validate_json(example)

    assert json.loads(example).keys() == {"candidate", "percent", "owners", "salt"}
    assert (rollout.percent, rollout.owners) == (10, ("studio",))
