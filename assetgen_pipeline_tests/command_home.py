"""Whole commands in a HOME of their own, and what they leave there."""

import json
import subprocess
import sys
from contextlib import contextmanager
from zoneinfo import ZoneInfo

from assetgen_pipeline.adapters.gcs_object_store import GcsObjectStore, emulator_client
from assetgen_pipeline.adapters.local_bucket import hold_local_bucket
from assetgen_pipeline.adapters.sql_ledger import open_sql_ledger
from assetgen_pipeline.adapters.system_clock import SystemClock
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.settings import environment_for_children, load_settings
from assetgen_pipeline_tests.noon import NOON_ZONE
from assetgen_pipeline_tests.processes import DEADLINE_S, kill_all_of, processes_of


class Home:
    """One HOME, and the command started in it."""

    def __init__(self, path):
        self.path = path
        self.started = []

    def start(self, *words, **settings):
        process = subprocess.Popen(
            [sys.executable, "-m", "assetgen_pipeline", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment_for_children(load_settings(home=self.path)), **settings},
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *words, **settings):
        """The command's exit code and the JSON document on its stdout."""
        process = self.start(*words, "--json", **settings)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode >= 0, f"signal {-process.returncode} ended it: {err.decode()}"
        return process.returncode, json.loads(out), err.decode()

    @contextmanager
    def bucket(self):
        """The bucket, let go of at the end so that it stops with its last user."""
        with hold_local_bucket(self.path) as endpoint:
            client = emulator_client(endpoint)
            try:
                store = GcsObjectStore(client, bucket="assetgen-local")
                store.ensure_bucket()
                yield store
            finally:
                client.close()

    def attempts(self, batch_id):
        ledger = open_sql_ledger(
            f"sqlite:///{self.path / 'ledger.db'}",
            clock=SystemClock(),
            time_zone=ZoneInfo(NOON_ZONE),
            default_limit=Money(0),
            project_limit=None,
        )
        try:
            broken = [check.name for check in ledger.verify() if check.violations]
            return ledger.attempts(batch_id), ledger.open_holds(), broken
        finally:
            ledger.close()

    def processes(self):
        """The command lines of all processes that belong to this HOME."""
        return list(processes_of(self.path).values())

    def pids(self, word):
        """The ids of this HOME's processes whose command line has `word`."""
        return [pid for pid, command in processes_of(self.path).items() if word in command]

    def stop(self):
        """Kill what is still there of what was started, and of what that started."""
        kill_all_of(self.path)
        for process in self.started:
            process.communicate()
