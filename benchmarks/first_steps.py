"""How long a newcomer waits: `--help`, `doctor`, a run of 12 rows with its memory, the demo. JSON lines.

`/usr/bin/env time` is not needed: children are measured by the kernel's own accounting.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What docs/promises.md says.
FIRST_IMAGE_S = 60
ASSETGEN = str(Path(sys.executable).parent / "assetgen")
SAMPLE = str(ROOT / "assetgen_pipeline" / "data" / "samples" / "storyboard.csv")


def measured(name, *command):
    """Run a command; print seconds, CPU seconds, and the largest process's peak memory."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "ASSETGEN_HOME": home}
        began = time.monotonic()
        child = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        output = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        peaks = [int(kb) for kb in re.findall(r"peak_rss_kb=(\d+)", output + logs_of(Path(home)))]
    print(
        json.dumps(
            {
                "benchmark": name,
                "exit": child.returncode,
                "seconds": round(seconds, 2),
                "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
                "peak_mb": round(max([usage.ru_maxrss, *peaks]) / 1024),
            }
        ),
        flush=True,
    )
    return output


def logs_of(home):
    return "".join(
        path.read_text(encoding="utf-8", errors="replace") for path in home.glob("logs/*.log")
    )


def main():
    for _ in range(3):
        measured("assetgen --help", ASSETGEN, "--help")
    for _ in range(3):
        measured("assetgen doctor", ASSETGEN, "doctor", "--json")
    for _ in range(2):
        measured("assetgen run, 12 rows", ASSETGEN, "run", SAMPLE, "--owner", "bench")
    shown = json.loads(measured("assetgen demo --json", ASSETGEN, "demo", "--json"))
    print(json.dumps({"benchmark": "demo milestones", "seconds": shown["seconds"]}))
    if shown["seconds"]["first_image"] > FIRST_IMAGE_S:
        sys.exit(f"the demo's first image took more than {FIRST_IMAGE_S} s")


if __name__ == "__main__":
    main()
