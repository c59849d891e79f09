"""Orders to a run at work: cancelled it ends CANCELED, paused it ends quietly and goes on later."""

import os
import signal
from datetime import timedelta

import dagster as dg
import pytest

from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pauses import Pause
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.approvals import (
    ApprovalPolicy,
    proposed_approval,
    record_approval,
)
from assetgen_pipeline.stages.orders import order_cancel, order_rows, withdraw_order
from assetgen_pipeline.stages.pausing import change_pauses
from assetgen_pipeline.stages.waiting_batches import read_waiting
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment, add_run, materialized
from assetgen_pipeline_tests.read_results import read_results

SCENES = [f"S{n}" for n in range(1, 7)]
CSV = a_csv(*[[scene, f"scene {scene}"] for scene in SCENES])


class Interrupts(ScriptedProvider):
    """A provider in the middle of whose first answers an operator gives an order."""

    def __init__(self, order, *, after=2):
        super().__init__()
        self.order, self.after = order, after

    async def generate(self, image, references, token):
        answer = await super().generate(image, references, token)
        if len(self.requests) == self.after:
            self.order()
        return answer


class Bed:
    """A deployment with one batch of six rows, generated one at a time in shards of two."""

    def __init__(self, instance, order=lambda bed: None, **choices):
        self.fakes = FakeDeployment(
            instance,
            provider=Interrupts(lambda: order(self)),
            generation_concurrency=1,
            shard_rows=2,
            **choices,
        )
        self.fakes.upload(CSV)
        self.store, self.clock = self.fakes.store, self.fakes.clock

    def cancel(self):
        order_cancel(BATCH_ID, by="ann", store=self.store, clock=self.clock)
        self.clock.advance(timedelta(minutes=1))

    def pause(self, scope="owner", name="studio"):
        pause = Pause(scope=scope, name=name, by="ann", at=NOW)
        change_pauses(lambda known: known.with_pause(pause), store=self.store)
        self.clock.advance(timedelta(minutes=1))

    def terminate(self, number=signal.SIGTERM):
        os.kill(os.getpid(), number)

    def resume(self):
        change_pauses(lambda known: known.without("all", ""), store=self.store)

    def run(self):
        result = self.fakes.run()
        return result, self.fakes.instance.get_run_by_id(result.run_id).status

    def rows(self):
        return read_results(self.store)


def test_a_batch_cancelled_amid_its_images_keeps_them_and_its_run_ends_canceled(instance):
    bed = Bed(instance, Bed.cancel)

    _result, run_status = bed.run()

    assert run_status is dg.DagsterRunStatus.CANCELED
    status = bed.fakes.status()
    assert status.state is BatchState.CANCELLED
    assert (status.images.delivered, status.images.not_attempted) == (2, 4)
    assert bed.fakes.asked() == ["S1/1", "S2/1"]
    assert bed.fakes.ledger.open_holds() == []
    assert bed.fakes.spent_micros() == (0, 4_000)
    assert [(row["status"], row["error_code"]) for row in bed.rows()] == [
        ("delivered", ""), ("delivered", ""), *[("not_attempted", "cancelled")] * 4,
    ]  # fmt: skip


def test_a_cancelled_batch_goes_on_where_it_stopped(instance):
    bed = Bed(instance, Bed.cancel)
    bed.run()
    withdraw_order(BATCH_ID, store=bed.store)

    result, _ = bed.run()

    assert result.success
    assert bed.fakes.status().state is BatchState.COMPLETED
    assert sorted(bed.fakes.asked()) == [f"{scene}/1" for scene in SCENES]


def test_a_batch_cancelled_before_its_run_begins_costs_nothing_and_lists_every_row(instance):
    bed = Bed(instance)
    bed.cancel()

    _result, run_status = bed.run()

    assert run_status is dg.DagsterRunStatus.CANCELED
    assert bed.fakes.status().state is BatchState.CANCELLED
    assert bed.fakes.asked() == []
    assert {(row["status"], row["error_code"]) for row in bed.rows()} == {
        ("not_attempted", "cancelled")
    }


@pytest.mark.parametrize(
    ("scope", "name"), [("owner", "studio"), ("provider", "local"), ("all", "")]
)
def test_a_batch_paused_amid_its_images_waits_with_neither_run_nor_money_and_goes_on(
    instance, scope, name
):
    bed = Bed(instance, lambda bed: bed.pause(scope, name))

    result, _ = bed.run()
    paused = bed.fakes.status()
    waiting = read_waiting(BATCH_ID, store=bed.store)
    bed.resume()
    again, _ = bed.run()

    assert result.success
    assert "delivered_images" not in materialized(result)
    assert (paused.state, paused.images.delivered) == (BatchState.RUNNING, 2)
    assert paused.reserved_usd == "0.000000"
    assert (waiting.cause, waiting.provider) == ("pause", "local")
    assert again.success
    assert bed.fakes.status().state is BatchState.COMPLETED
    assert sorted(bed.fakes.asked()) == [f"{scene}/1" for scene in SCENES]
    assert read_waiting(BATCH_ID, store=bed.store) is None


def test_a_batch_whose_process_is_told_to_end_books_its_calls_and_waits_for_a_daemon(instance):
    bed = Bed(instance, Bed.terminate)

    result, _ = bed.run()
    waits = read_waiting(BATCH_ID, store=bed.store)
    stopped = bed.fakes.status()
    holds = bed.fakes.ledger.open_holds()
    again, _ = bed.run()

    assert result.success
    assert waits.cause == "run"
    assert (stopped.state, stopped.images.delivered) == (BatchState.RUNNING, 2)
    assert holds == []
    assert again.success
    assert bed.fakes.status().state is BatchState.COMPLETED
    assert sorted(bed.fakes.asked()) == [f"{scene}/1" for scene in SCENES]
    states = {attempt.state for attempt in bed.fakes.ledger.attempts(BATCH_ID)}
    assert states == {AttemptState.CAPTURED}


@pytest.mark.parametrize("by", ["an order", "the UI"])
def test_a_process_that_is_told_to_end_because_of_a_cancel_leaves_nothing_waiting(instance, by):
    def cancel(bed):
        if by == "an order":
            order_cancel(BATCH_ID, by="ann", store=bed.store, clock=bed.clock)
        else:
            [run] = instance.get_runs()
            instance.report_run_canceling(run)
        bed.terminate(signal.SIGTERM if by == "an order" else signal.SIGINT)

    bed = Bed(instance, cancel)

    _result, run_status = bed.run()

    assert run_status is dg.DagsterRunStatus.CANCELED
    assert bed.fakes.status().state is BatchState.CANCELLED
    assert read_waiting(BATCH_ID, store=bed.store) is None


@pytest.mark.parametrize("order", [Bed.terminate, Bed.pause])
def test_a_run_that_was_ended_by_force_does_not_have_its_batch_run_again(instance, order):
    def force(bed):
        [run] = instance.get_runs()
        instance.report_run_canceled(run)
        order(bed)

    bed = Bed(instance, force)

    bed.run()

    assert bed.fakes.asked() == ["S1/1", "S2/1"]
    assert read_waiting(BATCH_ID, store=bed.store) is None


def test_a_run_that_another_took_over_leaves_its_hold_alone(instance):
    def take_over(bed):
        live = add_run(
            instance,
            status=dg.DagsterRunStatus.STARTED,
            assetgen__worker=worker_identity(),
        )
        bed.fakes.ledger.reserve(
            owner="studio",
            batch_id=BATCH_ID,
            run_id=live.run_id,
            amount=Money(2_000),
            price_version="1",
        )
        bed.terminate()

    bed = Bed(instance, take_over)

    bed.run()

    assert len(bed.fakes.ledger.open_holds()) == 1
    assert read_waiting(BATCH_ID, store=bed.store) is None


def test_a_paused_batch_holds_nothing_while_it_waits(instance):
    bed = Bed(instance, Bed.pause)

    bed.run()

    assert bed.fakes.ledger.open_holds() == []
    assert bed.fakes.spent_micros() == (0, 4_000)


def test_a_batch_whose_owner_is_paused_before_its_run_begins_is_not_even_read(instance):
    bed = Bed(instance)
    bed.pause()

    result, _ = bed.run()

    assert result.success
    assert materialized(result) == set()
    assert read_waiting(BATCH_ID, store=bed.store).cause == "pause"


def test_a_batch_whose_provider_is_paused_reserves_nothing(instance):
    bed = Bed(instance)
    bed.pause("provider", "local")

    result, _ = bed.run()

    assert materialized(result) == {"batch_requests"}
    assert bed.fakes.ledger.day("studio").held == Money(0)
    assert read_waiting(BATCH_ID, store=bed.store).provider == "local"


def test_a_pause_of_somebody_else_changes_nothing(instance):
    bed = Bed(instance, lambda bed: bed.pause("owner", "other"))

    result, _ = bed.run()

    assert result.success
    assert bed.fakes.status().state is BatchState.COMPLETED


def test_a_cancel_of_a_paused_batch_ends_it_when_it_would_go_on(instance):
    bed = Bed(instance, Bed.pause)
    bed.run()
    bed.cancel()
    bed.resume()

    _result, run_status = bed.run()

    assert run_status is dg.DagsterRunStatus.CANCELED
    assert bed.fakes.status().state is BatchState.CANCELLED
    assert read_waiting(BATCH_ID, store=bed.store) is None


def test_a_dear_batch_waits_for_approval_and_then_is_made(instance):
    policy = ApprovalPolicy(above=Money(1))
    bed = Bed(instance, approval=policy)

    result, _ = bed.run()
    waits = bed.fakes.status()
    held = bed.fakes.ledger.open_holds()
    services = bed.fakes.services
    approval = proposed_approval(BATCH_ID, by="ann", policy=policy, services=services)
    record_approval(approval, services=services)
    again, _ = bed.run()

    assert result.success
    assert materialized(result) == {"batch_requests"}
    assert (waits.state, waits.estimate_usd) == (BatchState.AWAITING_APPROVAL, "0.012000")
    assert held == []
    assert again.success
    assert bed.fakes.status().state is BatchState.COMPLETED


def test_a_dry_run_needs_no_approval(instance):
    fakes = FakeDeployment(instance, approval=ApprovalPolicy(above=Money(1)))
    fakes.upload(CSV, dry_run=True)

    fakes.run()

    assert fakes.status().state is BatchState.PRICED


def test_a_retry_of_some_rows_makes_these_holds_for_these_and_keeps_the_results_whole(instance):
    bed = Bed(instance, Bed.cancel)
    bed.run()
    before = bed.rows()
    reason = {"code": before[-1]["error_code"], "detail": before[-1]["error"]}
    order_rows(BATCH_ID, ["S4"], by="ann", others=reason, store=bed.store, clock=bed.clock)

    result, _ = bed.run()

    assert result.success
    assert bed.fakes.asked() == ["S1/1", "S2/1", "S4/1"]
    status = bed.fakes.status()
    assert status.state is BatchState.COMPLETED_WITH_FAILURES
    assert (status.images.requested, status.images.delivered) == (6, 3)
    assert status.spent_usd == "0.006000"
    assert status.estimate_usd == "0.012000"
    rows = bed.rows()
    assert [row["scene_id"] for row in rows] == SCENES
    assert [row["status"] for row in rows].count("delivered") == 3
    assert {row["error_code"] for row in rows if row["status"] == "not_attempted"} == {"cancelled"}
    assert bed.fakes.ledger.open_holds() == []


def test_a_batch_paused_amid_its_references_fetches_no_further_chunk_and_decides_nothing(instance):
    fakes, opened = FakeDeployment(instance, reference_chunk=1), []

    def open_fetcher():
        opened.append("fetcher")
        pause = Pause(scope="owner", name="studio", by="ann", at=NOW)
        change_pauses(lambda known: known.with_pause(pause), store=fakes.store)
        return fakes.fetcher

    fakes.choose(open_fetcher=open_fetcher)
    urls = [f"https://reference.test/{n}.png" for n in range(3)]
    rows = [[f"S{n}", "a kitchen", url] for n, url in enumerate(urls)]
    fakes.upload(a_csv(*rows, header=["scene_id", "prompt", "reference_urls"]))

    result = fakes.run()

    assert result.success
    assert opened == ["fetcher"]
    assert read_waiting(BATCH_ID, store=fakes.store).cause == "pause"
    assert not fakes.has(BatchFolder(BATCH_ID).artifact("reference_images"))
    assert fakes.ledger.open_holds() == []
    assert fakes.asked() == []
