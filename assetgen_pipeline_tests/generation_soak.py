"""A soak of generation: a bad provider, a worker killed again and again, then the books.

The real command, bucket, ledger and SDK against the provider stub. Every kill is SIGKILL to
the worker's whole process group in the middle of paid calls. Afterwards nothing may be paid
twice without the ledger knowing, nothing paid may be missing from it, and every row has a
reason. `make soak` runs it long, a slow test runs it short.
"""

import argparse
import csv
import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.status import BatchState, is_terminal
from assetgen_pipeline.settings import environment_for_children, load_settings
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.parse_batch import CSV_TYPE, claim_metadata
from assetgen_pipeline.testing.provider_stub import ProviderStub
from assetgen_pipeline.testing.stub_answers import StubAnswer
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.processes import DEADLINE_S, until

BATCH = "ada.soak.00c0ffee"
FORMS = {"long": (200, 8), "short": (40, 2)}
SLOW_DOWN = '{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down"}}'
MIX = {
    "quick_429": 0.05,
    "overloaded": 0.03,
    "internal": 0.03,
    "blocked": 0.03,
    "no_image": 0.02,
    "drop": 0.04,
    "partial": 0.01,
}


def quick_429(_request):
    """A refusal that lets us try again soon, so that a soak does not only wait."""
    headers = {"Content-Type": "application/json", "Retry-After": "1"}
    return StubAnswer(status=429, body=SLOW_DOWN.encode(), headers=headers)


class HoldingStub(ProviderStub):
    """Holds its answers back from the request of a number on: a kill meets calls in flight."""

    def __init__(self, **options):
        super().__init__(**options)
        self._last = math.inf
        self._going = threading.Event()
        self._going.set()

    def hold_from(self, number):
        """Answer until this request comes, and from now on."""
        self._last = number
        self._going.set()

    def holds(self):
        """Whether it holds its answers back now."""
        return not self._going.is_set()

    def next_number(self):
        number = super().next_number()
        if number >= self._last:
            self._going.clear()
        return number

    def wait(self, seconds):
        super().wait(seconds)
        self._going.wait()


@contextmanager
def executing(settings):
    """One worker on the batch; killed when the block ends, if it is still there."""
    with (settings.home / "execute.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "assetgen_pipeline", "execute", BATCH],
            env=environment_for_children(settings),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def soak(home, *, rows, kills, seed, set_variable):
    """Run it; the figures, or an AssertionError that says which promise is broken."""
    dice = random.Random(seed)
    with HoldingStub(latency_s=0.15, mix=MIX, seed=seed, keep=False) as stub:
        stub._own["quick_429"] = quick_429
        variables = {
            "ASSETGEN_HOME": str(home),
            "ASSETGEN_PROVIDER": "gemini",
            "ASSETGEN_SHARD_ROWS": str(max(10, rows // 4)),
            "ASSETGEN_DAILY_LIMIT_USD": "1000",
            "GEMINI_API_KEY": "stub",
            "GOOGLE_GEMINI_BASE_URL": stub.url,
        }
        for name, value in variables.items():
            set_variable(name, value)
        settings = load_settings()
        with open_all(settings) as services:
            drop(services, rows)
            for _ in range(kills):
                # All together are fewer than the rows, so none of them finishes the batch.
                stub.hold_from(stub.counts["requests"] + dice.randint(8, rows // kills - 4))
                with executing(settings) as child:
                    until(lambda child=child: stub.holds() or child.poll() is not None)
                    assert child.poll() is None, "ended before it was killed"
            stub.hold_from(math.inf)
            status = finish(settings, services)
            return check(services, stub, status, rows=rows, kills=kills)


def drop(services, rows):
    """Claimed input, as `assetgen run` uploads it."""
    lines = ["scene_id,prompt", *(f"S{n},scene {n}" for n in range(rows))]
    services.store.create(
        BatchFolder(BATCH).request,
        "\n".join(lines).encode(),
        content_type=CSV_TYPE,
        metadata=claim_metadata(run_id="", dry_run=False, clock=services.clock),
    )
    write_status(BATCH, BatchState.RECEIVED, store=services.store, clock=services.clock)


def finish(settings, services, *, runs=4):
    """Runs without a kill, until one leaves nothing that another could still mend."""
    for _ in range(runs):
        with executing(settings) as child:
            child.wait(timeout=DEADLINE_S)
        status = read_status(BATCH, store=services.store)
        if is_terminal(status.state) and not status.images.failed + status.images.not_attempted:
            break
    return status


def check(services, stub, status, *, rows, kills):
    """Compare provider, ledger, bucket and results."""
    attempts = services.ledger.attempts(BATCH)
    paid = {
        a.attempt_id for a in attempts if a.state in {AttemptState.CAPTURED, AttemptState.ASSUMED}
    }
    asked = set(stub.attempts)
    made = Counter(a.item_key for a in attempts if a.image is not None)
    billed = {one for one, answers in stub.attempts.items() if set(answers) & BILLED}
    unsent = [a for a in attempts if a.attempt_id in paid and a.attempt_id not in asked]
    figures = {
        "rows": rows,
        "killed": kills,
        "state": status.state.value,
        "images": status.images.model_dump(),
        "requests": stub.counts["requests"],
        "billed_by_provider": len(billed),
        "captured": sum(a.state is AttemptState.CAPTURED for a in attempts),
        "assumed": sum(a.state is AttemptState.ASSUMED for a in attempts),
        "voided": sum(a.state is AttemptState.VOIDED for a in attempts),
        "assumed_but_never_sent": len(unsent),
        "extra_attempts": len(attempts) - len({a.item_key for a in attempts}),
        "answers": {name: stub.counts[name] for name in ("ok", *MIX)},
    }
    results = list(csv.DictReader(io.StringIO(read(services, "results").decode("utf-8-sig"))))
    promises = {
        "the run ended": is_terminal(status.state),
        "one request is one attempt": all(len(one) == 1 for one in stub.attempts.values()),
        "every request is in the ledger": asked <= {a.attempt_id for a in attempts},
        "whatever is billed is captured or assumed": billed <= paid,
        "no more is assumed than was in flight": len(unsent) <= kills * 8,
        "what was sent and not billed is assumed only after a kill": len(
            paid - billed - {a.attempt_id for a in unsent}
        )
        <= kills * 8,
        "each image was made once": set(made.values()) <= {1},
        "every row is accounted for": [row["scene_id"] for row in results]
        == [f"S{n}" for n in range(rows)],
        "every row not delivered says why": all(
            row["status"] == "delivered" or row["error_code"] for row in results
        ),
        "every delivered image is in the bucket": all(
            services.store.stat(a.image.object_name) is not None
            and services.store.stat(a.image.thumbnail_name) is not None
            for a in attempts
            if a.image is not None
        ),
        "nothing is held any more": services.ledger.open_holds() == [],
        "the books are sound": not any(c.violations for c in services.ledger.verify()),
    }
    broken = [promise for promise, holds in promises.items() if not holds]
    assert not broken, (broken, figures)
    return figures


BILLED = {"ok", "no_image", "drop", "partial", "blocked"}


def read(services, file):
    return services.store.read(getattr(BatchFolder(BATCH), file))


def main():
    arguments = argparse.ArgumentParser(description="Soak generation.")
    arguments.add_argument("--form", choices=FORMS, default="long")
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    rows, kills = FORMS[chosen.form]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        figures = soak(
            Path(home),
            rows=rows,
            kills=kills,
            seed=chosen.seed,
            set_variable=os.environ.__setitem__,  # noqa: TID251 - the command's own process
        )
    sys.stdout.write(json.dumps({"soak": "generation", "seed": chosen.seed, **figures}) + "\n")


if __name__ == "__main__":
    main()
