"""The executor of every run: its steps one after another, in one process, which hears while it waits.

Dagster's own waits for the slot of a pool in a loop that never rests (its interval is the
least of 0 and the times left) and that hears neither signals nor orders. Who is to stop needs
no slot: its step is let in only to say so, and the run ends as it does between two images.
https://docs.dagster.io/guides/operate/managing-concurrency/concurrency-pools
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import cast

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import DagsterEvent
from dagster._core.execution.api import ExecuteRunWithPlanIterable
from dagster._core.execution.context.system import PlanExecutionContext, PlanOrchestrationContext
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.execute_in_process import core_execute_in_process, merge_run_tags
from dagster._core.execution.plan.execute_plan import inner_plan_execution_iterator
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor
from dagster._utils.interrupts import pop_captured_interrupt

from assetgen_pipeline.defs.runs import PARTITION_TAG
from assetgen_pipeline.domain.bucket_layout import owner_of
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.orders import StopCode
from assetgen_pipeline.stages.batch_files import read_artifact
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.orders import stop_code
from assetgen_pipeline.stages.progress import EVERY_S
from assetgen_pipeline.stages.reserve_budget import BudgetHold
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.stage_progress import note_wait

_RESOURCES = {"services", "deployment"}
_NAP_S = 1.0


class SlotQueue(InstanceConcurrencyContext):
    """One run's place in the queues of the pools."""

    def __init__(self, context: PlanExecutionContext) -> None:
        """Ask for slots on behalf of a run."""
        super().__init__(context.instance, context.dagster_run)
        self._context = context
        self._next_look_s = 0.0
        self._next_word_s = 0.0
        self._has_said = False

    def claim(self, concurrency_key: str, step_key: str, step_priority: int = 0) -> bool:
        """Whether a step may begin: it has a slot, or only says that it stops."""
        if step_key in self._pending_claims and self._is_to_stop():
            self._instance.event_log_storage.free_concurrency_slot_for_step(self._run_id, step_key)
            self._pending_claims.remove(step_key)
            self._pending_timeouts.pop(step_key, None)
            self._say_that_it_goes_on()
            return True
        claimed = super().claim(concurrency_key, step_key, step_priority)
        if claimed:
            self._say_that_it_goes_on()
        else:
            self._say_what_it_waits_for(concurrency_key)
        return claimed

    def interval_to_next_pending_claim_check(self) -> float:
        """How long to rest until a slot, a signal or an order may be there."""
        next_claim = min(self._pending_timeouts.values(), default=0.0)
        return min(max(0.0, next_claim - time.time()), _NAP_S)

    def _is_to_stop(self) -> bool:
        services, deployment = self._resources()
        if pop_captured_interrupt():
            deployment.memory.stop(self._run_id, "interrupted")
        elif services.clock.monotonic() >= self._next_look_s:
            self._next_look_s = services.clock.monotonic() + EVERY_S
            deployment.memory.stop(self._run_id, self._order(services))
        return deployment.memory.stop_code(self._run_id) != ""

    def _order(self, services: Services) -> StopCode:
        batch_id = self._context.run_tags[PARTITION_TAG]
        try:
            held = read_artifact(batch_id, "budget_hold", BudgetHold, store=services.store)
            return stop_code(
                batch_id,
                owner=owner_of(batch_id),
                provider=held.provider if held is not None else "",
                store=services.store,
            )
        except StorageUnavailable:
            # Nothing is lost by waiting on; the step itself will say so.
            return ""

    def _say_what_it_waits_for(self, pool: str) -> None:
        """Have `watch` and `status` tell, as long as it lasts, who has the slots."""
        services, _ = self._resources()
        if services.clock.monotonic() < self._next_word_s:
            return
        self._next_word_s = services.clock.monotonic() + EVERY_S
        self._has_said = True
        self._say(f"a slot of the pool {pool}: {self._takers(pool)}", services)

    def _say_that_it_goes_on(self) -> None:
        if self._has_said:
            services, _ = self._resources()
            self._has_said, self._next_word_s = False, 0.0
            self._say("", services)

    def _say(self, waits_for: str, services: Services) -> None:
        # Only words: where the bucket is away, the step itself will say so.
        with contextlib.suppress(StorageUnavailable):
            note_wait(self._context.run_tags[PARTITION_TAG], waits_for, services=services)

    def _takers(self, pool: str) -> str:
        info = self._instance.event_log_storage.get_concurrency_info(pool)
        by = sorted({self._taker(slot.run_id) for slot in info.claimed_slots})
        taken = f"{info.active_slot_count} of {info.slot_count} taken"
        return f"{taken}, by {', '.join(by)}" if by else taken

    def _taker(self, run_id: str) -> str:
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return "a run that is over (`assetgen doctor --fix` frees it)"
        return run.tags.get(PARTITION_TAG, f"run {run_id}")

    def _resources(self) -> tuple[Services, Deployment]:
        """Those of the steps that have a pool."""
        opened = self._context.scoped_resources_builder.build(_RESOURCES)
        return cast("Services", opened.services), cast("Deployment", opened.deployment)


class OneProcess(InProcessExecutor):
    """Dagster's executor, with a queue of our own."""

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[DagsterEvent]:
        """Execute the steps."""
        yield from ExecuteRunWithPlanIterable(
            execution_plan=execution_plan,
            iterator=_in_turn,
            execution_context_manager=PlanExecutionContextManager(
                job=plan_context.job,
                retry_mode=plan_context.retry_mode,
                execution_plan=execution_plan,
                run_config=plan_context.run_config,
                dagster_run=plan_context.dagster_run,
                instance=plan_context.instance,
                raise_on_error=plan_context.raise_on_error,
                output_capture=plan_context.output_capture,
                step_dependency_config=self.step_dependency_config,
            ),
        )


def _in_turn(
    job_context: PlanExecutionContext, execution_plan: ExecutionPlan
) -> Iterator[DagsterEvent]:
    with SlotQueue(job_context) as queue:
        yield from inner_plan_execution_iterator(job_context, execution_plan, queue)


@dg.executor(name="in_process")
def one_process(_context: dg.InitExecutorContext) -> OneProcess:
    """Execute the steps of a run in one process."""
    return OneProcess(retries=RetryMode.ENABLED)


def execute_here(
    job: dg.JobDefinition,
    partition_key: str,
    *,
    instance: dg.DagsterInstance,
    tags: Mapping[str, str],
) -> dg.ExecuteInProcessResult:
    """Execute a job in this process by its own executor, which `execute_in_process` replaces."""
    return core_execute_in_process(
        job=InMemoryJob(job),
        run_config=job.run_config or {},
        instance=instance,
        output_capturing_enabled=True,
        raise_on_error=False,
        run_tags=merge_run_tags(
            job_def=job,
            partition_key=partition_key,
            tags=tags,
            asset_selection=None,
            instance=instance,
            run_config=job.run_config,
        ),
    )
