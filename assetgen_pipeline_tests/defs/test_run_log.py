"""What a run writes to its console: our form, with its batch, and no secret."""

import json
import logging

import dagster as dg
import pytest

from assetgen_pipeline.defs.run_log import RUN_LOG_CONFIG, console_logger
from assetgen_pipeline.defs.url_refresh import refresh_run_config
from assetgen_pipeline.domain.delivery import RefreshCause
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, a_csv


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_the_lines_of_a_batchs_run_are_json_and_name_batch_owner_run_and_step(deployment, capsys):
    deployment.upload(a_csv(["S1", "a kitchen"]))

    result = deployment.run()

    assert result.success
    found = [line for line in lines(capsys) if line["logger"] == "dagster"]
    assert found
    assert {line["run"] for line in found} == {result.run_id}
    assert {(line["batch"], line["owner"]) for line in found} == {(BATCH_ID, "studio")}
    assert any(line.get("step", "").startswith("generated_images") for line in found)
    assert all(result.run_id not in line["message"] for line in found)


@pytest.mark.parametrize("job", ["refresh_urls", "publish_costs"])
def test_the_lines_of_every_other_job_have_the_same_form(deployment, capsys, job):
    deployment.upload(a_csv(["S1", "a kitchen"]))
    assert deployment.run().success
    capsys.readouterr()

    if job == "refresh_urls":
        result = deployment.definitions.resolve_job_def(job).execute_in_process(
            instance=deployment.instance,
            run_config=refresh_run_config([BATCH_ID], RefreshCause.OPERATOR),
        )
    else:
        result = deployment.publish_costs(NOW.date().isoformat())

    assert result.success
    found = lines(capsys)
    assert {line["run"] for line in found if line["logger"] == "dagster"} <= {result.run_id}
    assert "debug" not in {line["level"] for line in found}


@pytest.fixture
def quiet_root():
    """The record factory as it was."""
    kept = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(kept)


def test_a_failed_step_has_its_error_in_its_line_and_a_secret_in_neither(
    instance, capsys, quiet_root
):
    @dg.op
    def fails(context):
        context.log.info("key AIzaCANARY0123456789")
        raise RuntimeError("no luck")

    @dg.job(logger_defs={"console": console_logger}, config=RUN_LOG_CONFIG)
    def job():
        fails()

    job.execute_in_process(instance=instance, raise_on_error=False)

    found = lines(capsys)
    assert any("no luck" in line["message"] for line in found if line["level"] == "error")
    assert "CANARY" not in json.dumps(found)
