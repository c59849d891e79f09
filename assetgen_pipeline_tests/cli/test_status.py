"""`assetgen status`: what a person reads, also of what is damaged, hostile or not taken yet."""

import json

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.progress import BatchProgress
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline_tests.builders import a_csv

WELL = "ada.well.00000001"
DAMAGED = "ada.damaged.00000002"


@pytest.fixture
def store(home, monkeypatch):
    monkeypatch.setenv("ASSETGEN_HOME", str(home))
    with open_object_store(load_settings()) as opened:
        yield opened


def a_status(store, batch_id, state=BatchState.COMPLETED, **changes):
    write_status(batch_id, state, store=store, clock=open_clock(), **changes)


@pytest.mark.parametrize("damage", [b"{garbage", b"", b"null"])
def test_a_damaged_status_is_named_and_hides_no_other_batch(assetgen, store, damage):
    a_status(store, WELL)
    store.write(BatchFolder(DAMAGED).status, damage, content_type="application/json")

    everything = assetgen("status", "--json")
    alone = assetgen("status", DAMAGED, "--json")

    assert WELL in [one["batch_id"] for one in everything.document]
    assert f"{BatchFolder(DAMAGED).status} is damaged" in everything.err
    assert alone.code == 1
    assert "damaged" in alone.document["error"]["detail"]


def test_the_status_of_another_batch_is_not_believed(assetgen, store):
    a_status(store, WELL)
    stolen = store.read(BatchFolder(WELL).status)
    store.write(BatchFolder(DAMAGED).status, stolen, content_type="application/json")

    answer = assetgen("status", DAMAGED, "--json")

    assert answer.code == 1
    assert "another batch" in answer.document["error"]["detail"]


def test_nothing_in_a_status_steers_the_terminal(assetgen, store):
    problem = {"code": "\x1b]0;PWNED\x07", "detail": "\x1b[31mred", "fix": "a\rb", "title": "x"}
    a_status(store, "ada.hostile.00000003", BatchState.FAILED, problem=problem)

    answer = assetgen("status", "ada.hostile.00000003")

    assert not set("\x1b\x07\r") & set(answer.out)
    assert "PWNED" in answer.out


def test_the_images_that_are_missing_are_named_with_their_reasons(assetgen, store):
    batch_id = "ada.flaky.00000004"
    counts = {"requested": 30, "delivered": 5, "failed": 25}
    a_status(store, batch_id, BatchState.COMPLETED_WITH_FAILURES, images=counts)
    image = {"variant": 2, "status": "failed", "error_code": "provider-unavailable", "error": "no"}
    rows = [{**WHOLE, "scene_id": f"S{n}", "images": [image]} for n in range(25)]
    write_manifest(store, batch_id, *rows)

    answer = assetgen("status", batch_id)

    assert "  S0 v2  provider-unavailable: no" in answer.out
    assert "S19 v2" in answer.out
    assert "S20 v2" not in answer.out
    assert "… and 5 more in results.csv" in answer.out
    assert f"fix: assetgen retry {batch_id}" in answer.out


def write_manifest(store, batch_id, *rows):
    data = json.dumps({"rows": [{"scene_id": "S", "images": [], **row} for row in rows]}).encode()
    store.write(BatchFolder(batch_id).manifest, data, content_type="application/json")


GONE_ON = {"status": "delivered", "references_unfetched": ["reference 1, https://h/…#1: x"]}
WHOLE = {"status": "delivered", "references_unfetched": []}
NOT_TRIED = {**GONE_ON, "status": "not_attempted"}


@pytest.mark.parametrize("verb", ["status", "watch"])
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([GONE_ON, WHOLE, NOT_TRIED], "1 row without some references: see results.csv"),
        ([GONE_ON, GONE_ON], "2 rows without some references: see results.csv"),
        ([WHOLE, NOT_TRIED], None),
    ],
)
def test_rows_that_went_on_without_a_reference_are_counted_in_the_last_line(
    assetgen, store, verb, rows, said
):
    a_status(store, WELL, finished_at="2026-01-01T00:00:00+00:00")
    write_manifest(store, WELL, *rows)

    *_, last = assetgen(verb, WELL).out.splitlines()

    assert last == f"  {said}" if said else "without" not in last
    assert "without" not in assetgen(verb, WELL, "--json").out


@pytest.mark.parametrize(
    "damage",
    [b"{garbage", b"[]", b"{}", b'{"rows": 5}', b'{"rows": [{}]}', b'{"rows": [{"images": 1}]}'],
)
def test_a_damaged_manifest_is_named_and_the_status_told(assetgen, store, damage):
    a_status(store, WELL)
    store.write(BatchFolder(WELL).manifest, damage, content_type="application/json")

    answer = assetgen("status", WELL)

    assert (answer.code, answer.out.split()[0]) == (0, "completed")
    assert answer.err == f"left out  {BatchFolder(WELL).manifest} is damaged\n"


def test_a_file_that_waits_in_the_inbox_of_a_paused_owner_is_said_to_wait(
    assetgen, store, tmp_path
):
    file = tmp_path / "spring.csv"
    file.write_bytes(a_csv(["S1", "a kitchen"]))
    assetgen("pause", "--owner", "eve")

    dropped = assetgen("submit", file, "--owner", "eve").out
    batch_id = dropped.split()[1]
    answer = assetgen("status", batch_id, "--json")

    assert "owner eve is paused" in dropped
    assert answer.code == 1
    assert "still in the inbox; owner eve is paused" in answer.document["error"]["detail"]


@pytest.mark.parametrize(
    ("state", "shown"), [(BatchState.RESERVED, True), (BatchState.COMPLETED, False)]
)
def test_what_a_batch_waits_for_is_said_until_it_has_ended(assetgen, store, state, shown):
    batch_id = f"ada.queued.{'0000000' + str(int(shown))}"
    a_status(store, batch_id, state)
    progress = BatchProgress(stage="references", waits_for="a slot of the pool x: 1 of 1\x1b[31m")
    store.write(
        BatchFolder(batch_id).artifact("progress"),
        progress.model_dump_json().encode(),
        content_type="application/json",
    )

    answer = assetgen("status", batch_id)

    assert ("waits for a slot of the pool x: 1 of 1" in answer.out) is shown
    assert "\x1b[31m" not in answer.out


def test_a_batch_that_is_complete_is_not_run_again(assetgen, store):
    a_status(store, WELL)
    store.write(BatchFolder(WELL).request, a_csv(["S1", "x"]), content_type="text/csv")

    answer = assetgen("retry", WELL, "--json")

    assert (answer.code, answer.document["state"]) == (0, "completed")
    assert "nothing is left to do" in answer.err


@pytest.fixture
def waiting(assetgen, store, tmp_path):
    """A file that was just submitted; no daemon is there to take it."""
    file = tmp_path / "spring.csv"
    file.write_bytes(a_csv(["S1", "a kitchen"]))
    return assetgen("submit", file, "--owner", "ira", "--dry-run", "--json").document["batch_id"]


def test_a_file_that_was_just_submitted_is_listed_last_as_in_the_inbox(assetgen, store, waiting):
    a_status(store, WELL)

    text = assetgen("status").out.splitlines()
    document = assetgen("status", "--json").document

    assert text[-1].startswith(f"in the inbox  {waiting}  since 20")
    last = document[-1]
    assert (last["batch_id"], last["owner"], last["state"]) == (waiting, "ira", "in the inbox")
    assert (last["mode"], last["started_at"]) == ("dry_run", None)
    assert last.keys() == document[0].keys()


def test_a_file_that_a_run_has_claimed_is_listed_once_as_its_batch(assetgen, store, waiting):
    a_status(store, waiting, BatchState.RECEIVED)

    listed = assetgen("status", "--owner", "ira", "--json").document

    found = [one["state"] for one in listed if one["batch_id"] == waiting]
    store.delete(BatchFolder(waiting).status)
    assert found == ["received"]


@pytest.fixture
def three(store):
    """Three batches of two owners; the name of one begins with that of the other."""
    batches = {
        "eli.one.00000011": BatchState.FAILED,
        "eli.two.00000012": BatchState.COMPLETED,
        "elias.one.00000013": BatchState.FAILED,
    }
    for batch_id, state in batches.items():
        a_status(store, batch_id, state)
    return list(batches)


@pytest.mark.parametrize(
    ("words", "places"),
    [
        (["--owner", "eli"], [0, 1]),
        (["--owner", "elias"], [2]),
        (["--owner", "eli", "--state", "failed"], [0]),
        (["--owner", "eli", "--state", "failed", "--state", "completed"], [0, 1]),
        (["--state", "failed"], [0, 2]),
        (["--owner", "eli", "--state", "refused"], []),
        (["--owner", "nobody"], []),
    ],
)
def test_the_list_is_of_one_owner_or_of_some_states_where_that_is_asked(
    assetgen, three, words, places
):
    listed = [one["batch_id"] for one in assetgen("status", *words, "--json").document]
    text = assetgen("status", *words).out

    wanted = [three[place] for place in places]
    assert [batch_id for batch_id in listed if batch_id in three] == wanted
    assert [batch_id for batch_id in three if batch_id in text] == wanted
    assert ("no batch of that owner or in that state" in text) is not bool(places)


def test_what_waits_in_the_inbox_is_a_state_to_ask_for(assetgen, three, waiting):
    listed = assetgen("status", "--state", "inbox", "--json").document
    others = assetgen("status", "--owner", "ira", "--state", "received", "--json").document

    assert waiting in [one["batch_id"] for one in listed]
    assert {one["state"] for one in listed} == {"in the inbox"}
    assert others == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--owner", "BAD OWNER"], "owner-invalid", "'BAD OWNER'"),
        (["--state", "nonsense"], "usage", "'nonsense' is not one of 'inbox', 'received'"),
        ([WELL, "--owner", "ada"], "usage", "are for the list"),
        ([WELL, "--state", "failed"], "usage", "are for the list"),
    ],
    ids=str,
)
def test_a_list_that_cannot_be_is_refused(assetgen, words, code, said):
    answer = assetgen("status", *words, "--json")

    assert (answer.code, answer.document["error"]["code"]) == (2, code)
    assert said in answer.document["error"]["detail"]
