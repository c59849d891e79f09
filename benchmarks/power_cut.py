"""A power cut amid a backlog: seconds from the kill of everything to all batches finished. JSON.

One line: `baseline_s` is the same backlog without a cut, in the same run, so that the ratio
means something on a busy machine.
"""

import json
import tempfile
import time
from pathlib import Path

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.status import is_terminal
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.whole_stack import Up, until

OWNERS, ROWS = ("ada", "ben", "cleo"), 40
SLOW = {"ASSETGEN_LOCAL_LATENCY_S": "0.5", "ASSETGEN_GENERATION_CONCURRENCY": "2"}


def submit_all(up, folder):
    batches = []
    for owner in OWNERS:
        file = folder / f"{owner}.csv"
        rows = [f"S{n},{owner} {n}" for n in range(ROWS)]
        file.write_text("\n".join(["scene_id,prompt", *rows]) + "\n", encoding="utf-8")
        batches.append(up.answer("submit", file, "--owner", owner)[1]["batch_id"])
    return batches


def states(services, batches):
    found = [b for b in batches if services.store.stat(BatchFolder(b).status) is not None]
    return [read_status(b, store=services.store).state for b in found]


def measured(*, cut):
    """Seconds until all is finished, from the cut or (without one) from the drop."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        up = Up(home, **SLOW)
        try:
            up.start()
            settings = load_settings(home=home)
            began = time.monotonic()
            batches = submit_all(up, Path(folder))
            ready_s = 0.0
            if cut:
                until(lambda: images(settings, batches) >= OWNERS_IMAGES, every_s=0.5)
                began = time.monotonic()
                up.cut()
                up.start()
                ready_s = time.monotonic() - began
            with open_all(settings) as services:
                until(lambda: finished(services, batches), every_s=0.5)
                seconds = time.monotonic() - began
                attempts = [a for b in batches for a in services.ledger.attempts(b)]
                ended = [state.value for state in states(services, batches)]
            return {
                "seconds": round(seconds, 1),
                "up_again_s": round(ready_s, 1),
                "states": sorted(set(ended)),
                "images": sum(a.image is not None for a in attempts),
                "assumed_in_flight": sum(a.state.value == "assumed" for a in attempts),
            }
        finally:
            up.stop()


OWNERS_IMAGES = 20


def images(settings, batches):
    with open_all(settings) as services:
        return sum(a.image is not None for b in batches for a in services.ledger.attempts(b))


def finished(services, batches):
    found = states(services, batches)
    return (
        len(found) == len(batches)
        and all(is_terminal(state) for state in found)
        and not list(services.store.list("index/waiting/"))
    )


def main():
    baseline = measured(cut=False)
    after = measured(cut=True)
    print(
        json.dumps(
            {
                "benchmark": "power cut",
                "batches": len(OWNERS),
                "rows": ROWS * len(OWNERS),
                "from_cut_to_all_finished_s": after["seconds"],
                "from_cut_to_up_s": after["up_again_s"],
                "baseline_s": baseline["seconds"],
                "ratio": round(after["seconds"] / baseline["seconds"], 2),
                "states": after["states"],
                "images": after["images"],
                "assumed_in_flight": after["assumed_in_flight"],
            }
        )
    )


if __name__ == "__main__":
    main()
