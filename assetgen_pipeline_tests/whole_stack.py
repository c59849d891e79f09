"""`assetgen up` as a process of its own, with everything that it starts, for tests that kill."""

import contextlib
import json
import subprocess
import sys

from assetgen_pipeline.settings import environment_for_children, load_settings
from assetgen_pipeline_tests.processes import DEADLINE_S, kill_all_of, until


class Up:
    """`assetgen up` in one HOME, started as often as a test likes."""

    def __init__(self, home, **variables):
        self.home = home
        self.variables = variables
        self.log = home.parent / "up.log"
        self.started = []

    def file(self, name, rows):
        """A CSV of so many rows beside the HOME; files of other names ask for other images."""
        path = self.home.parent / name
        lines = [f"S{n},{path.stem} {n}" for n in range(rows)]
        path.write_text("\n".join(["scene_id,prompt", *lines]) + "\n", encoding="utf-8")
        return path

    def command(self, *words, **options):
        environment = environment_for_children(load_settings(home=self.home))
        process = subprocess.Popen(
            [sys.executable, "-m", "assetgen_pipeline", *map(str, words)],
            stdin=subprocess.DEVNULL,
            env={**environment, **self.variables},
            start_new_session=True,
            **options,
        )
        self.started.append(process)
        return process

    def start(self):
        """Start the stack and wait until it says that it is there."""
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            process = self.command("up", stdout=log, stderr=log)

        def is_there():
            assert process.poll() is None, self.log.read_text(encoding="utf-8")
            return b"submit " in self.log.read_bytes()[before:]

        until(is_there)
        return process

    def cut(self):
        """Kill everything of this HOME at once, as a power cut does."""
        kill_all_of(self.home)

    def stop(self):
        """End what is left, however the test ended."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()
        for process in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=60)
        kill_all_of(self.home)
        for process in self.started:
            process.wait()
            for pipe in filter(None, (process.stdout, process.stderr)):
                pipe.close()

    def answer(self, *words):
        """A command's exit code and its JSON document."""
        process = self.command(*words, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert out, err.decode()
        return process.returncode, json.loads(out)
