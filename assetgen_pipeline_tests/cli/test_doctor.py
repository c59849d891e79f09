"""`assetgen doctor`: what it finds where something is wrong, and that nothing hides the rest."""

import json
import re
import sqlite3
import time
from contextlib import nullcontext
from datetime import timedelta

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from assetgen_pipeline.adapters.sql_ledger import upgrade_schema
from assetgen_pipeline.adapters.sql_ledger_migrations import VERSION_TABLE
from assetgen_pipeline.cli import doctor_bucket
from assetgen_pipeline.cli.doctor import examine
from assetgen_pipeline.cli.doctor_bucket import skew_finding
from assetgen_pipeline.cli.doctor_dagster import (
    daemon_findings,
    pool_findings,
    run_findings,
    sensor_findings,
)
from assetgen_pipeline.cli.doctor_machine import disk_finding
from assetgen_pipeline.cli.doctor_money import check_ledger, check_provider
from assetgen_pipeline.defs import control
from assetgen_pipeline.defs.inspection import looking_at
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.findings import Finding
from assetgen_pipeline.domain.health import DaemonHealth, InstanceHealth, PoolHealth, TickHealth
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.object_store import InMemoryObjectStore

ALIVE = DaemonHealth(name="SENSOR", age_s=3.0)
NEVER = DaemonHealth(name="SCHEDULER", age_s=None)
DEAD = DaemonHealth(name="SCHEDULER", age_s=91.0)


def tick(name="inbox_sensor", *, age_s=3.0, on=True, error=""):
    return TickHealth(name=name, kind="sensor", on=on, every_s=5, age_s=age_s, error=error)


def health(**changes):
    return InstanceHealth(
        **{
            "daemons": (ALIVE,),
            "ticks": (tick(),),
            "pools": (),
            "runs": {},
            "queue_oldest_s": 0.0,
            "dead_runs": (),
            **changes,
        }
    )


def states(findings):
    return [finding.state for finding in findings]


def found(answer):
    return {finding["subject"]: finding for finding in answer.document}


def test_every_dependency_is_tried_for_real(assetgen):
    answer = assetgen("doctor", "--json")

    findings = found(answer)
    assert answer.code == 0
    assert set(findings) == {
        *("versions", "disk", "bucket", "clock", "signing", "ledger", "prices", "provider"),
        *("pools", "daemons", "sensors", "runs", "settings", "proxies", "alerts"),
    }
    # How full the disk is, is the machine's affair.
    not_ok = {name for name, finding in findings.items() if finding["state"] != "ok"}
    assert not_ok - {"disk"} == {"daemons"}
    assert findings["daemons"]["fix"] == "assetgen up"
    assert "LOCAL FAKE BUCKET" in findings["bucket"]["value"]
    assert "list · write · precondition · delete" in findings["bucket"]["value"]
    assert findings["signing"]["value"].startswith(
        "local, signature verified, the link answers 200"
    )


def test_no_fix_of_doctor_sends_back_to_doctor(assetgen, monkeypatch, home):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("ASSETGEN_LEDGER_URL", "postgresql+psycopg://u:KANARIE@127.0.0.1:9/x")

    answer = assetgen("doctor", "--json")

    findings = found(answer)
    failed = {name: f["fix"] for name, f in findings.items() if f["state"] == "FAIL"}
    assert set(failed) == {"bucket", "signing", "ledger"}
    assert not [fix for fix in failed.values() if "assetgen doctor" in fix]
    assert failed["bucket"].startswith("start the emulator at http://127.0.0.1:9")
    assert failed["signing"] == failed["bucket"]
    assert failed["ledger"].startswith("start the database at 127.0.0.1")
    assert "KANARIE" not in answer.out


@pytest.mark.parametrize(
    ("step", "permission"),
    [
        ("list", "storage.objects.list"),
        ("create", "storage.objects.create"),
        ("delete", "storage.objects.delete"),
        ("stat", "storage.objects.get"),
    ],
)
def test_a_permission_that_is_missing_is_named(monkeypatch, step, permission):
    store = InMemoryObjectStore(bucket="assets", clock=ManualClock())

    def refuse(*_args, **_options):
        raise StorageUnavailable("the bucket refuses us; a permission is missing", status=403)

    monkeypatch.setattr(store, step, refuse)
    monkeypatch.setattr(doctor_bucket, "open_object_store", lambda _settings: nullcontext(store))

    [finding] = examine(load_settings(), {"bucket": doctor_bucket.check_bucket})

    assert finding.state == "FAIL"
    assert finding.fix.startswith(f"{permission} is missing on assetgen-local: grant")


@pytest.mark.parametrize(
    ("status", "bucket", "fix"),
    [
        (404, "assets", "create the bucket assets, or set ASSETGEN_BUCKET"),
        (429, "assets", "wait: "),
        (503, "assets", "wait: "),
        (0, "assets", "let this machine reach storage.googleapis.com"),
        (0, "", "read logs/bucket.log under HOME"),
    ],
)
def test_a_bucket_that_is_away_has_a_next_step_of_its_kind(monkeypatch, status, bucket, fix):
    monkeypatch.setenv("ASSETGEN_BUCKET", bucket)

    def fail(_settings):
        raise StorageUnavailable("away", status=status)

    monkeypatch.setattr(doctor_bucket, "open_object_store", fail)

    [finding] = examine(load_settings(), {"bucket": doctor_bucket.check_bucket})

    assert finding.fix.startswith(fix)


def test_a_ledger_that_is_away_has_a_next_step_of_its_kind(monkeypatch):
    monkeypatch.setenv("ASSETGEN_LEDGER_URL", "sqlite:////dev/null/ledger.db")

    [finding] = examine(load_settings(), {"ledger": check_ledger})

    assert finding.fix.startswith("let this account read and write the ledger's file")


def test_a_machine_without_credentials_is_told_which_to_set(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    monkeypatch.setenv("ASSETGEN_BUCKET", "assets")

    [finding] = examine(load_settings(), {"bucket": doctor_bucket.check_bucket})

    assert "GOOGLE_APPLICATION_CREDENTIALS" in finding.fix


def test_nothing_of_the_probes_is_left_in_the_bucket(assetgen, home):
    assetgen("doctor")

    assert not list((home / "bucket").rglob("*doctor*/*"))


def test_a_ledger_that_cannot_be_used_is_named_with_a_fix_and_hides_nothing(
    assetgen, monkeypatch, tmp_path
):
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("ASSETGEN_LEDGER_URL", f"sqlite:///{broken}")

    answer = assetgen("doctor")

    assert answer.code == 1
    assert re.search(r"^FAIL +ledger +ledger-unavailable: ", answer.out, re.MULTILINE)
    assert "      fix: " in answer.out
    assert str(broken) not in answer.out
    for subject in ("bucket", "signing", "prices", "pools", "daemons", "alerts"):
        assert re.search(rf"^(ok|warn) +{subject} ", answer.out, re.MULTILINE)


def test_a_model_without_a_price_is_named(assetgen, monkeypatch):
    monkeypatch.setenv("ASSETGEN_MODEL", "no-such-model")

    answer = assetgen("doctor", "--json")

    assert answer.code == 1
    assert found(answer)["prices"]["state"] == "FAIL"
    assert found(answer)["prices"]["value"].startswith("price-unknown: ")


def test_a_bucket_that_is_away_is_named_and_hides_nothing(assetgen, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")

    answer = assetgen("doctor", "--json")

    findings = found(answer)
    assert answer.code == 1
    assert findings["bucket"]["value"].startswith("storage-unavailable: ")
    assert findings["signing"]["state"] == "FAIL"
    assert findings["ledger"]["state"] == "ok"


def test_a_check_that_breaks_is_a_finding_without_its_secrets():
    def breaks(_settings):
        raise RuntimeError("key AIzaCANARY0123456789")

    def refuses(_settings):
        raise StorageUnavailable("no answer")

    def works(_settings):
        return [Finding("ok", "third", "fine")]

    findings = examine(None, {"first": breaks, "second": refuses, "third": works})

    assert states(findings) == ["FAIL", "FAIL", "ok"]
    assert "the check broke: RuntimeError" in findings[0].value
    assert "CANARY" not in findings[0].value
    assert all(finding.fix for finding in findings[:2])


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        (200, "ok", "knows"),
        (401, "FAIL", "refuses the key"),
        (400, "FAIL", "refuses the key"),
        (404, "warn", "says 404"),
        (503, "warn", "in trouble"),
    ],
)
@pytest.mark.parametrize("provider", ["gemini", "openai"])
def test_the_provider_is_asked_without_spending(
    assetgen, monkeypatch, httpserver, provider, status, state, words
):
    httpserver.expect_request(re.compile(r"/(v1beta|v1)/models/[\w.-]+"), "GET").respond_with_json(
        {}, status=status
    )
    monkeypatch.setenv("ASSETGEN_PROVIDER", provider)
    monkeypatch.setenv("GEMINI_API_KEY", "secret-key")
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", httpserver.url_for("").rstrip("/"))
    monkeypatch.setenv("OPENAI_BASE_URL", httpserver.url_for("/v1"))
    [finding] = check_provider(load_settings())

    assert finding.state == state
    assert words in finding.value
    assert "secret-key" not in finding.value
    [(request, _)] = httpserver.log
    assert "secret-key" in str(request.headers)
    assert "secret-key" not in request.url


@pytest.mark.parametrize(
    ("url", "in_clear"),
    [
        ("http://images.invalid/v1", True),
        ("https://images.invalid/v1", False),
        ("http://127.0.0.1:9/v1", False),
    ],
)
def test_a_key_that_others_on_the_network_can_read_is_told(monkeypatch, url, in_clear):
    monkeypatch.setenv("ASSETGEN_PROVIDER", "openai")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-KEY")
    monkeypatch.setenv("OPENAI_BASE_URL", url)

    findings = list(check_provider(load_settings()))

    assert any("in clear text" in finding.value for finding in findings) is in_clear


def test_a_provider_without_a_key_or_without_an_answer_fails(monkeypatch):
    monkeypatch.setenv("ASSETGEN_PROVIDER", "openai")
    [keyless] = check_provider(load_settings())
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    [silent] = check_provider(load_settings())

    assert (keyless.state, keyless.fix) == ("FAIL", "set OPENAI_API_KEY")
    assert (silent.state, silent.value) == ("FAIL", "openai at 127.0.0.1 does not answer")


def test_proxy_variables_are_named_and_their_values_are_not(assetgen, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:CANARY@proxy.test:3128")

    answer = assetgen("doctor", "--json")

    assert found(answer)["proxies"]["state"] == "warn"
    assert "HTTPS_PROXY" in found(answer)["proxies"]["value"]
    assert "CANARY" not in answer.out


def test_a_misspelt_setting_is_a_warning_with_the_name_meant_and_no_failure(assetgen, monkeypatch):
    monkeypatch.setenv("ASSETGEN_MAX_ROW", "CANARY")

    answer = assetgen("doctor", "--json")

    [finding] = [one for one in answer.document if one["subject"] == "settings"]
    assert (answer.code, finding["state"]) == (0, "warn")
    assert finding["value"].startswith("ASSETGEN_MAX_ROW ")
    assert finding["fix"].startswith("rename it to ASSETGEN_MAX_ROWS, ")
    assert "CANARY" not in answer.out


def test_a_test_alert_reaches_the_webhook_or_says_that_it_did_not(
    assetgen, monkeypatch, httpserver
):
    httpserver.expect_request("/hook").respond_with_data("ok")
    httpserver.expect_request("/gone").respond_with_data(status=404)
    monkeypatch.setenv("ASSETGEN_ALERT_WEBHOOK_URL", httpserver.url_for("/hook"))
    first = assetgen("doctor", "--test-alert", "--json")
    monkeypatch.setenv("ASSETGEN_ALERT_WEBHOOK_URL", httpserver.url_for("/gone"))

    second = assetgen("doctor", "--test-alert", "--json")

    assert found(first)["test alert"]["value"] == "sent to log, webhook"
    assert found(second)["test alert"]["state"] == "FAIL"
    assert second.code == 1
    assert "a test" in httpserver.log[0][0].json["text"]


@pytest.mark.timeout(600)
def test_fix_mends_schema_pool_limits_leaked_slots_and_dead_runs(assetgen, home):
    settings = load_settings(home=home)
    with control.open_instance(settings) as instance:
        over = dg.DagsterRun(job_name="generate_batch", status=dg.DagsterRunStatus.FAILURE)
        instance.add_run(over)
        storage = instance.event_log_storage
        storage.claim_concurrency_slot("generation", over.run_id, "step")
        storage.set_concurrency_slots("reference_fetch", 7)
        dead = dg.DagsterRun(
            job_name="generate_batch",
            status=dg.DagsterRunStatus.STARTED,
            tags={"assetgen/worker": gone_worker()},
        )
        instance.add_run(dead)
    before = assetgen("doctor", "--json")

    mended = assetgen("doctor", "--fix", "--json")
    after = assetgen("doctor", "--json")

    assert before.code == 1
    assert found(before)["pools"]["state"] == "FAIL"
    assert dead.run_id in found(before)["runs"]["value"]
    assert mended.code == after.code == 0
    said = " ".join(f["value"] for f in mended.document if f["subject"] == "fixed")
    assert over.run_id in said
    assert dead.run_id in said
    with looking_at(settings) as instance:
        assert instance.get_run_by_id(dead.run_id).status is dg.DagsterRunStatus.FAILURE
        assert instance.event_log_storage.get_concurrency_info("reference_fetch").slot_count == 1


def gone_worker():
    host, boot, pid, _started = worker_identity().split("/")
    return f"{host}/{boot}/{pid}/1"


def test_looking_changes_no_limit(assetgen, home):
    settings = load_settings(home=home)
    with looking_at(settings) as instance:
        instance.event_log_storage.set_concurrency_slots("generation", 9)

    answer = assetgen("doctor", "--json")

    assert "generation 0/9" in found(answer)["pools"]["value"]
    assert found(answer)["pools"]["fix"] == "assetgen doctor --fix"
    assetgen("doctor", "--fix")


def test_an_older_schema_fails_and_is_mended_by_fix_alone(assetgen, tmp_path, monkeypatch):
    path = tmp_path / "ledger.db"
    upgrade_schema(f"sqlite:///{path}", revision="0002")
    monkeypatch.setenv("ASSETGEN_LEDGER_URL", f"sqlite:///{path}")

    before = assetgen("doctor", "--json")
    unchanged = version_of(path, VERSION_TABLE)
    mended = assetgen("doctor", "--fix", "--json")

    assert found(before)["ledger"]["state"] == "FAIL"
    assert unchanged == "0002"
    assert found(mended)["ledger"]["state"] == "ok"
    assert version_of(path, VERSION_TABLE) != "0002"


def version_of(path, table):
    with sqlite3.connect(path) as connection:
        [[version]] = connection.execute(f"SELECT version_num FROM {table}").fetchall()
    connection.close()
    return version


@pytest.mark.parametrize(
    ("earliest_s", "latest_s", "state"),
    [
        (0.2, -0.2, "ok"),
        (5, 4.9, "ok"),
        (30, 29, "warn"),
        (-30, -31, "warn"),
        (90, 89, "FAIL"),
        (-90, -91, "FAIL"),
        (100, -100, "ok"),
    ],
)
def test_a_clock_is_judged_by_the_least_difference_that_is_possible(earliest_s, latest_s, state):
    finding = skew_finding(
        "clock", "the bucket", timedelta(seconds=earliest_s), timedelta(seconds=latest_s)
    )

    assert finding.state == state


@pytest.mark.parametrize(
    ("free_mib", "state"), [(50_000, "ok"), (2_047, "warn"), (199, "FAIL"), (0, "FAIL")]
)
def test_a_full_disk_fails_before_it_stops_the_ledger(free_mib, state):
    assert disk_finding(free_mib).state == state


@pytest.mark.parametrize(
    ("daemons", "stopped", "state"),
    [
        ((ALIVE,), False, "ok"),
        ((NEVER,), False, "warn"),
        ((ALIVE, NEVER), False, "FAIL"),
        ((ALIVE, DEAD), True, "FAIL"),
        ((DEAD, NEVER), False, "FAIL"),
        ((DEAD, NEVER), True, "warn"),
    ],
)
def test_a_deployment_that_died_is_worse_than_one_that_is_off(daemons, stopped, state):
    assert states(daemon_findings(health(daemons=daemons), stopped=stopped)) == [state]


def test_a_daemon_that_was_killed_is_dead_after_90_seconds_and_not_after_half_an_hour(
    assetgen,
):
    settings = load_settings()
    died = time.time() - 170
    with looking_at(settings) as instance:
        for name in instance.get_required_daemon_types():
            beat = DaemonHeartbeat(died, name, "killed")
            instance.add_daemon_heartbeat(beat)
    (settings.home / "up.lock").write_text("1", encoding="ascii")

    killed = assetgen("doctor", "--json")
    at_most = time.time() - died
    (settings.home / "up.lock").write_text("", encoding="ascii")
    stopped = assetgen("doctor", "--json")

    assert (killed.code, found(killed)["daemons"]["state"]) == (1, "FAIL")
    said = re.match(r"dead: the last heartbeat was (\d+) s ago", found(killed)["daemons"]["value"])
    assert 170 <= int(said[1]) <= at_most + 1
    assert "assetgen up" in found(killed)["daemons"]["fix"]
    assert (stopped.code, found(stopped)["daemons"]["state"]) == (0, "warn")


def test_daemons_that_were_stopped_in_order_are_said_to_be_off_at_once(assetgen):
    settings = load_settings()
    with looking_at(settings) as instance:
        for name in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - 5, name, "stopped"))
    record = settings.home / "up.lock"
    record.write_text("1", encoding="ascii")
    before = assetgen("doctor", "--json")

    record.write_text("", encoding="ascii")
    after = assetgen("doctor", "--json")

    assert found(before)["daemons"]["state"] == "ok"
    assert found(after)["daemons"] == {
        "state": "warn",
        "subject": "daemons",
        "value": "none runs: drops wait",
        "fix": "assetgen up",
    }
    assert found(after)["sensors"]["value"] == "not judged: no daemon runs"
    assert after.code == 0


def test_sensors_are_judged_where_a_daemon_could_tick_them():
    silent = (tick(age_s=None, error="no bucket"), tick("other", on=False))

    assert states(sensor_findings(health(ticks=silent, daemons=(DEAD,)))) == ["ok"]
    assert states(sensor_findings(health(ticks=(tick(age_s=None),)), up_s=60)) == ["ok"]
    dead, off = sensor_findings(health(ticks=silent))
    assert (dead.state, dead.value) == ("FAIL", "inbox_sensor last ticked never: no bucket")
    assert (off.state, off.value) == ("warn", "switched off: other")
    assert states(sensor_findings(health())) == ["ok"]


def test_a_run_whose_process_is_gone_is_named():
    [finding] = run_findings(health(runs={"started": 1}, dead_runs=("r-1",)))

    assert finding.state == "FAIL"
    assert "1 started" in finding.value
    assert "r-1" in finding.value


@pytest.mark.parametrize(
    ("limit", "leaked", "state"), [(1, 0, "ok"), (0, 0, "ok"), (2, 0, "FAIL"), (1, 1, "FAIL")]
)
def test_a_pool_fails_for_another_limit_and_for_leaked_slots(limit, leaked, state):
    pool = PoolHealth(name="reference_fetch", limit=limit, used=leaked, leaked=leaked)

    assert states(pool_findings((pool,), {"reference_fetch": 1})) == [state]


def test_findings_are_plain_json(assetgen):
    answer = assetgen("doctor", "--json")

    assert all(
        set(finding) == {"state", "subject", "value", "fix"} for finding in json.loads(answer.out)
    )
