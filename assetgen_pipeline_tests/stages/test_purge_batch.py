"""Purging: what is the batch's alone goes, what others use and the books stay."""

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import BatchBusy, BatchNotFound, StorageUnavailable
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages import purge_batch as module
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.close_batch import finish_batch, publish_results, settle_batch
from assetgen_pipeline.stages.purge_batch import plan_purge, purge_batch
from assetgen_pipeline.stages.waiting_batches import wait_for
from assetgen_pipeline_tests.builders import BATCH_ID, OWNER, a_reference, row_references
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

FOLDER = BatchFolder(BATCH_ID)
OTHER = f"{OWNER}.other.89abcdef"
STRANGER = "guild.spring.0123abcd"


async def publish(bench, batch_id, prompts, *references):
    """A batch that ran to its end; rows of one prompt share an image."""
    requests = some_requests(len(prompts))
    requests = [r.model_copy(update={"prompt": p}) for r, p in zip(requests, prompts, strict=True)]
    batch = bench.open(*requests, batch_id=batch_id, owner=batch_id.partition(".")[0])
    for reference in references:
        bench.store.write(reference.object_name, b"ref", content_type="image/png")
    decision = bench.decide(batch, *(row_references(r.scene_id, used=references) for r in requests))
    await bench.generate(batch, decision=decision)
    settle_batch(batch_id, services=bench.services)
    publish_results(bench.outcome(batch_id), services=bench.services)
    finish_batch(bench.outcome(batch_id), services=bench.services)


async def purge(bench, batch_id=BATCH_ID):
    plan = await plan_purge(batch_id, services=bench.services)
    return await purge_batch(plan, services=bench.services)


def pictures(bench):
    return [*bench.names("images/"), *bench.names("thumbnails/"), *bench.names("references/")]


async def test_everything_of_a_lone_batch_goes_and_its_books_stay():
    bench = Bench()
    await publish(bench, BATCH_ID, ["a", "b"], a_reference("a"))
    bench.store.write("packs/p/1.png", b"pack", content_type="image/png")
    facts, attempts = dict(bench.facts.files), bench.attempts()

    purged = await purge(bench)

    assert bench.names() == ["packs/p/1.png"]
    assert purged.deleted == {
        "images": 2, "thumbnails": 2, "references": 1, "artifacts": 3, "index": 1, "outbox": 6,
    }  # fmt: skip
    assert purged.kept_shared == 0
    assert (bench.facts.files, bench.attempts()) == (facts, attempts)
    assert bench.broken() == []


async def test_a_purged_batch_is_not_run_again_by_what_it_waited_for():
    bench = Bench()
    await publish(bench, BATCH_ID, ["a"])
    wait_for("run", BATCH_ID, store=bench.store, clock=bench.clock)

    purged = await purge(bench)

    assert bench.names() == []
    # What it waited for, and when its links end.
    assert purged.deleted["index"] == 2


async def test_what_another_batch_of_the_owner_uses_stays_until_the_last_of_them_goes():
    bench = Bench()
    shared, own = a_reference("a"), a_reference("b")
    # References shape an image: the same prompt with others is another image.
    await publish(bench, BATCH_ID, ["same"], shared)
    await publish(bench, OTHER, ["same"], shared)
    await publish(bench, f"{OWNER}.third.00000003", ["mine"], own)
    before = pictures(bench)

    first = await purge(bench)
    between = pictures(bench)
    second = await purge(bench, OTHER)

    assert (first.kept_shared, first.deleted["images"]) == (3, 0)
    assert between == before
    assert (second.kept_shared, second.deleted["images"], second.deleted["references"]) == (0, 1, 1)
    assert own.object_name in pictures(bench)
    assert shared.object_name not in pictures(bench)


async def test_an_image_of_a_purged_batch_is_made_and_paid_again_never_linked_dead():
    bench = Bench()
    await publish(bench, BATCH_ID, ["same"])
    await purge(bench)

    await publish(bench, OTHER, ["same"])

    assert [a.cost_basis for a in bench.attempts(OTHER)] == ["flat"]
    assert len(bench.names("images/")) == 1


async def test_the_objects_of_other_owners_are_never_touched():
    bench = Bench()
    await publish(bench, STRANGER, ["same"])
    before = bench.names()
    await publish(bench, BATCH_ID, ["same"])

    await purge(bench)

    assert bench.names() == before


async def test_a_plan_changes_nothing():
    bench = Bench()
    await publish(bench, BATCH_ID, ["a"])
    before = bench.names()

    plan = await plan_purge(BATCH_ID, services=bench.services)

    assert bench.names() == before
    assert plan.report.deleted["images"] == 1
    assert sorted(plan.names) == before


async def test_purging_twice_deletes_nothing_more_and_is_no_error():
    bench = Bench()
    await publish(bench, BATCH_ID, ["a"])
    await purge(bench)

    again = await purge(bench)

    assert sum(again.deleted.values()) == 0


async def test_a_purge_that_was_interrupted_is_finished_by_the_next():
    bench = Bench()
    await publish(bench, BATCH_ID, ["a", "b", "c"], a_reference())
    deletions = len((await plan_purge(BATCH_ID, services=bench.services)).names)
    for _ in range(deletions):
        bench.store.fail_next("delete")
        with pytest.raises(StorageUnavailable):
            await purge(bench)
        assert bench.store.stat(FOLDER.status) is not None

    await purge(bench)

    assert bench.names() == []


async def test_a_plan_that_is_no_longer_right_is_not_followed_to_its_end(monkeypatch):
    monkeypatch.setattr(module, "_BETWEEN_LOOKS", 2)
    bench = Bench()
    await publish(bench, BATCH_ID, ["a", "b", "c"])
    before, looks = len(bench.names()), []

    def look():
        looks.append(len(bench.names()))
        if len(looks) == 3:
            raise BatchBusy("somebody ended the purge")

    plan = await plan_purge(BATCH_ID, services=bench.services)
    with pytest.raises(BatchBusy):
        await purge_batch(plan, services=bench.services, see_it_goes_on=look)

    assert looks == [before, before - 2, before - 4]
    assert len(bench.names()) == before - 4


@pytest.mark.parametrize("state", ["received", "running", "awaiting_approval"])
async def test_a_batch_under_way_is_refused(state):
    bench = Bench()
    await publish(bench, BATCH_ID, ["a"])
    write_status(BATCH_ID, BatchState(state), store=bench.store, clock=bench.clock)
    before = bench.names()

    with pytest.raises(BatchBusy, match=state):
        await purge(bench)
    assert bench.names() == before


async def test_a_batch_whose_images_a_running_one_may_be_reusing_is_refused():
    bench = Bench()
    await publish(bench, BATCH_ID, ["a"])
    write_status(OTHER, BatchState.RUNNING, store=bench.store, clock=bench.clock)

    with pytest.raises(BatchBusy, match="other") as refused:
        await purge(bench)
    assert f"`assetgen watch {OTHER}`" in refused.value.fix


@pytest.mark.parametrize(
    ("other", "state"),
    [(OTHER, "awaiting_approval"), (OTHER, "completed"), (STRANGER, "running")],
)
async def test_others_that_cannot_be_reusing_its_images_hold_no_purge_up(other, state):
    bench = Bench()
    await publish(bench, BATCH_ID, ["a"], a_reference())
    write_status(other, BatchState(state), store=bench.store, clock=bench.clock)
    bench.store.write(f"outbox/{OWNER}/notes.txt", b"", content_type="text/plain")

    await purge(bench)

    assert bench.store.stat(FOLDER.prefix + "results.csv") is None


async def test_a_batch_that_nobody_knows_is_not_found():
    with pytest.raises(BatchNotFound):
        await purge(Bench())
