"""Telling live workers from dead ones."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import dagster as dg
import pytest

from assetgen_pipeline.defs import workers
from assetgen_pipeline.defs.runs import run_is_live
from assetgen_pipeline.defs.workers import (
    WORKER_TAG,
    ask_to_end,
    is_gone,
    launcher_is_gone,
    stamp_worker,
    worker_identity,
)
from assetgen_pipeline_tests.fake_deployment import add_run

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
OVER = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def changed(worker, **parts):
    names = ("host", "boot", "pid", "started")
    return "/".join(parts.get(n, v) for n, v in zip(names, worker.split("/"), strict=True))


@pytest.fixture
def child():
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.stdin.close()
    process.wait()


def test_this_process_is_not_gone():
    assert not is_gone(worker_identity())


def test_a_live_child_is_not_gone_and_a_dead_one_is(child):
    worker = worker_identity(child.pid)
    assert not is_gone(worker)

    child.kill()
    child.wait()

    assert is_gone(worker)
    assert worker_identity(child.pid) == ""


def test_a_zombie_is_gone_though_its_pid_still_stands(child):
    worker = worker_identity(child.pid)

    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert is_gone(worker)


@pytest.mark.parametrize("name", [b"l\xc3\xb6we", b"l\xf6we", b"a) Z (b"])
def test_a_process_is_known_whatever_its_program_is_called(name, tmp_path):
    program = tmp_path / os.fsdecode(name)
    program.symlink_to(shutil.which("cat"))
    with subprocess.Popen(["cat"], executable=program, stdin=subprocess.PIPE) as process:
        worker = worker_identity(process.pid)

        assert worker
        assert not is_gone(worker)
    assert is_gone(worker)


def test_a_worker_of_another_host_is_never_judged_gone():
    assert not is_gone(changed(worker_identity(), host="elsewhere", pid="999999999"))


def test_a_worker_of_another_boot_is_gone_even_where_its_pid_is_in_use():
    assert is_gone(changed(worker_identity(), boot="another-boot"))


def test_a_pid_that_another_process_got_since_is_gone():
    assert is_gone(changed(worker_identity(), started="1"))


@pytest.mark.parametrize(
    "worker",
    [
        "",
        "somebody",
        "host/boot/1",
        f"{socket.gethostname()}/b/x/1",
        changed(worker_identity(), pid="9" * 30, started="1"),
    ],
    ids=["empty", "one word", "three words", "no number", "no process id"],
)
def test_a_tag_that_names_no_worker_proves_no_death(worker):
    assert not is_gone(worker)
    assert not ask_to_end(worker)


@pytest.fixture
def anothers(child, monkeypatch):
    """A worker of another account, which we may not signal."""

    def refuse(_pid, _signal):
        raise PermissionError

    worker = worker_identity(child.pid)
    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", refuse)
        yield worker


def test_a_process_of_another_account_cannot_be_asked_to_end(anothers):
    assert not ask_to_end(anothers)


def test_a_process_of_another_account_that_proc_hides_is_not_gone(anothers, monkeypatch):
    monkeypatch.setattr(workers, "_start_time", lambda _pid: "")

    assert not is_gone(anothers)


def test_what_proc_refuses_to_show_is_not_known(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr(workers.Path, "read_text", refuse)

    assert workers._start_time(1) == ""


def test_a_resource_signs_its_run_with_this_process(instance):
    opened = []

    class Signing(dg.ConfigurableResource):
        name: str = "signing"

        def setup_for_execution(self, context):
            stamp_worker(context)
            opened.append(context.run.run_id)

    @dg.op
    def work(signing: Signing):
        pass

    @dg.job(resource_defs={"signing": Signing()})
    def some_job():
        work()

    result = some_job.execute_in_process(instance=instance)

    assert opened == [result.run_id]
    assert instance.get_run_by_id(result.run_id).tags[WORKER_TAG] == worker_identity()


def test_opening_a_resource_outside_a_run_signs_nothing(instance):
    stamp_worker(dg.build_init_resource_context(instance=instance))

    assert instance.get_runs() == []


def test_a_started_run_of_a_live_worker_is_live(instance):
    run = add_run(instance, status=dg.DagsterRunStatus.STARTED, assetgen__worker=worker_identity())

    assert run_is_live(instance, run.run_id)


def test_a_run_that_no_worker_signed_yet_is_live(instance):
    run = add_run(instance, status=dg.DagsterRunStatus.STARTING)

    assert run_is_live(instance, run.run_id)


def test_a_started_run_whose_worker_is_gone_is_not_live(instance):
    gone = changed(worker_identity(), started="1")
    run = add_run(instance, status=dg.DagsterRunStatus.STARTED, assetgen__worker=gone)

    assert not run_is_live(instance, run.run_id)


@pytest.mark.parametrize("status", OVER)
def test_a_run_that_is_over_is_not_live(instance, status):
    run = add_run(instance, status=status, assetgen__worker=worker_identity())

    assert not run_is_live(instance, run.run_id)


def test_a_run_that_nobody_knows_is_not_live(instance):
    assert not run_is_live(instance, "00000000-0000-0000-0000-000000000000")


def test_a_worker_of_this_host_is_asked_to_end(child):
    assert ask_to_end(worker_identity(child.pid))

    assert child.wait() == -signal.SIGTERM


def test_a_process_that_only_has_the_number_of_a_worker_is_left_alone(child):
    worker = worker_identity(child.pid)

    assert not ask_to_end(changed(worker, started="1"))
    assert not ask_to_end(changed(worker, host="elsewhere"))

    assert child.poll() is None


def test_a_launcher_is_gone_once_nobody_listens_on_its_socket(tmp_path):
    path = str(tmp_path / "server.sock")
    tags = {".dagster/grpc_info": json.dumps({"host": "localhost", "socket": path})}
    before = launcher_is_gone(tags)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen()
        listening = launcher_is_gone(tags)

    assert (before, listening, launcher_is_gone(tags)) == (True, False, True)


@pytest.mark.parametrize("where", [None, {"host": "code.internal", "port": 4000}])
def test_a_launcher_that_may_be_anywhere_is_never_judged_gone(where):
    tags = {".dagster/grpc_info": json.dumps(where)} if where else {}

    assert not launcher_is_gone(tags)
