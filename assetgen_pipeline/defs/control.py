"""What commands ask of Dagster, in domain terms: execute, sweep, set pools.

Works on the instance of `DAGSTER_HOME`, so from any machine that shares its storage.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from assetgen_pipeline import wiring
from assetgen_pipeline.defs.assets import owner_tags
from assetgen_pipeline.defs.build import build_definitions
from assetgen_pipeline.defs.closing import RunFailed, close_run, death, end_dead_run, sweep
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.runs import PARTITION_TAG, run_is_live
from assetgen_pipeline.domain.errors import AssetgenError
from assetgen_pipeline.domain.status import is_terminal
from assetgen_pipeline.settings import Settings, adopt_dagster_home
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.close_batch import close_batch

_ROOT_FILE = Path(__file__).parents[2] / "dagster.yaml"
_PACKAGED_FILE = Path(__file__).parents[1] / "data" / "dagster.yaml"
REFERENCE_POOL = "reference_fetch"
GENERATION_POOL = "generation"


def prepare_home(settings: Settings) -> None:
    """Make `<HOME>/dagster` an instance with our `dagster.yaml`, and this process use it."""
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    source = _ROOT_FILE if _ROOT_FILE.exists() else _PACKAGED_FILE
    target = settings.dagster_home / "dagster.yaml"
    if not target.exists() or target.read_bytes() != source.read_bytes():
        shutil.copyfile(source, target)
    adopt_dagster_home(settings)


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance of this deployment, with the limits of its pools set."""
    prepare_home(settings)
    with dg.DagsterInstance.get() as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots(REFERENCE_POOL, 1)
        storage.set_concurrency_slots(GENERATION_POOL, settings.generation_pool)
        yield instance


def execute_batch(batch_id: str, settings: Settings) -> bool:
    """Run a batch's assets in this process; whether the run succeeded.

    Dead runs are swept first, and a failed run's batch is closed before this returns.
    """
    job = build_definitions(settings).resolve_job_def("generate_batch")
    with open_instance(settings) as instance:
        with wiring.open_all(settings) as services:
            sweep(instance, services=services)
        instance.add_dynamic_partitions(batches.name or "", [batch_id])
        result = job.execute_in_process(
            partition_key=batch_id,
            instance=instance,
            tags=owner_tags(batch_id),
            raise_on_error=False,
        )
        if not result.success:
            run = instance.get_run_by_id(result.run_id)
            if run is None:
                raise AssertionError("unreachable")
            with wiring.open_all(settings) as services:
                close_run(run, _why_failed(result), services=services)
    return result.success


def _why_failed(result: dg.ExecuteInProcessResult) -> AssetgenError:
    """What ended a failed run: TERM from the command that watches it, or a step."""
    for event in result.all_events:
        if event.is_run_failure:
            reason = event.job_failure_data.failure_reason
            if reason is not None and reason.name == "UNEXPECTED_TERMINATION":
                return death(cancelled=True)
    return RunFailed("a step of the run failed")


def end_killed(batch_id: str, settings: Settings, *, cancelled: bool) -> None:
    """End a batch whose process was killed; as cancelled where its operator stopped it."""
    with open_instance(settings) as instance, wiring.open_all(settings) as services:
        filters = dg.RunsFilter(tags={PARTITION_TAG: batch_id})
        for run in instance.get_runs(filters=filters):
            if not run.is_finished and not run_is_live(instance, run.run_id):
                end_dead_run(instance, run, services=services, cancelled=cancelled)
        # Where the process died before Dagster knew of a run, nobody has closed the batch.
        if not is_terminal(read_status(batch_id, store=services.store).state):
            close_batch(batch_id, death(cancelled=cancelled), run_id="", services=services)


def sweep_dead_runs(settings: Settings) -> list[str]:
    """End every run whose worker process is gone; returns their ids."""
    with open_instance(settings) as instance, wiring.open_all(settings) as services:
        return sweep(instance, services=services)


def daemons_healthy(settings: Settings) -> dict[str, bool]:
    """Whether each required daemon has a recent heartbeat."""
    with open_instance(settings) as instance:
        statuses = instance.get_daemon_statuses()
        return {name: bool(status.healthy) for name, status in statuses.items()}


def pool_slots(settings: Settings) -> dict[str, tuple[int, int]]:
    """Each pool's slots: the limit, and how many are taken."""
    with open_instance(settings) as instance:
        storage = instance.event_log_storage
        infos = {
            name: storage.get_concurrency_info(name) for name in (REFERENCE_POOL, GENERATION_POOL)
        }
        return {name: (info.slot_count, info.active_slot_count) for name, info in infos.items()}
