"""`assetgen loadtest`: its verdict, its servers, and its look at memory."""

import subprocess
import sys

import pytest

from assetgen_pipeline.cli import loadtest
from assetgen_pipeline.cli.load_servers import (
    MemoryWatch,
    ServerFailed,
    link_works,
    misbehaving_server,
    order,
    state_of,
)
from assetgen_pipeline_tests.domain.test_load_test import figures
from assetgen_pipeline_tests.ports import refusing_port
from assetgen_pipeline_tests.processes import until


@pytest.fixture
def measured(monkeypatch):
    """The figures that the rehearsal is said to have measured."""

    def set_figures(**changes):
        plans = []

        def rehearse(plan, *, say):
            plans.append(plan)
            return figures(**changes)

        monkeypatch.setattr(loadtest, "rehearse", rehearse)
        return plans

    return set_figures


def test_a_good_run_is_a_table_and_0(assetgen, measured, tmp_path):
    plans = measured()

    answer = assetgen("loadtest", "--rows", "100", "--home", tmp_path)

    assert answer.code == 0
    assert plans[0].home == tmp_path
    assert "90.0 s (ideal 60.0 s, 1.5 times)" in answer.out
    assert "estimated $4.90, spent $3.50" in answer.out
    assert "FAIL" not in answer.out


def test_a_missed_bar_is_1_and_is_named(assetgen, measured):
    plans = measured(links_expired=3)

    answer = assetgen("loadtest")

    assert answer.code == 1
    [missed] = [line for line in answer.out.splitlines() if line.startswith("FAIL")]
    assert missed.split()[1:3] == ["expired", "links"]
    assert not plans[0].home.exists()


def test_with_json_figures_and_bars_are_one_document(assetgen, measured):
    measured(provider_billed=102, booked=101)

    answer = assetgen("loadtest", "--json")

    assert answer.code == 1
    assert answer.document["passed"] is False
    assert answer.document["figures"]["duplicate_payments"] == 2
    assert answer.document["figures"]["unbooked_payments"] == 1
    assert answer.document["figures"]["spent_usd"] == "3.500000"
    assert {bar["name"] for bar in answer.document["bars"] if not bar["passed"]} == {
        "duplicate_payments",
        "unbooked payments",
    }


def test_the_provider_stands_in_as_a_process_of_its_own_and_takes_orders():
    with misbehaving_server("provider_stub", "--mix", "internal=0.05") as url:
        order(url, {"queue": ["shared_quota"]})
        state = state_of(url)

    assert state["counts"] == {}
    assert not link_works(f"{url}/images/1.png")


def test_its_servers_are_asked_past_a_proxy_of_the_environment(httpserver, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    httpserver.expect_request("/_stub").respond_with_json({"counts": {}})
    httpserver.expect_request("/link").respond_with_data(b"x")

    order(httpserver.url_for(""), {})

    assert state_of(httpserver.url_for("")) == {"counts": {}}
    assert link_works(httpserver.url_for("/link"))


def test_a_server_that_does_not_start_is_an_error_with_a_fix():
    with pytest.raises(ServerFailed), misbehaving_server("provider_stub", "--mix", "x"):
        pass


def test_a_link_works_where_it_gives_something(httpserver):
    httpserver.expect_request("/yes").respond_with_data(b"x")
    httpserver.expect_request("/no").respond_with_data(status=403)

    assert link_works(httpserver.url_for("/yes"))
    assert not link_works(httpserver.url_for("/no"))
    with refusing_port() as port:
        assert not link_works(f"http://127.0.0.1:{port}/")


def test_the_memory_of_every_process_of_a_home_is_watched_and_of_no_other(tmp_path):
    mine = {"ASSETGEN_HOME": str(tmp_path)}
    program = "import sys; data = bytearray(64_000_000); print(1, flush=True); sys.stdin.read()"
    with (
        MemoryWatch(tmp_path) as watch,
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=mine,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process,
    ):
        process.stdout.readline()
        try:
            until(lambda: watch.largest_mb >= 64)
        finally:
            process.stdin.close()

    assert 64 <= watch.largest_mb < 150
    assert watch.all_mb >= watch.largest_mb
