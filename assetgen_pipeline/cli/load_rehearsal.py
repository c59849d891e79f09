"""The load test itself: two batches through the real stack, against servers that misbehave.

A small batch goes first. Its links live shortly, so they must be refreshed while the large
one runs and after it. Everything happens in a `HOME` of its own.
"""

import csv
import io
import json
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from assetgen_pipeline.cli.files import drop_file
from assetgen_pipeline.cli.load_servers import (
    MemoryWatch,
    link_works,
    misbehaving_server,
    order,
    state_of,
)
from assetgen_pipeline.cli.output import status_line
from assetgen_pipeline.cli.stack import Stack, running_stack
from assetgen_pipeline.cli.watching import StatusFollower
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.delivery import RefreshCause, SignedUrls
from assetgen_pipeline.domain.load_test import (
    LoadFigures,
    fetching_seconds,
    generating_seconds,
    load_csv,
)
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.status import BatchStatus, is_terminal
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.settings import Settings, isolate, load_settings
from assetgen_pipeline.stages.batch_files import read_artifact
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.ledger import open_ledger

_EARLY_ROWS = 4
_ODD_ADDRESSES = 4
_REFERENCE_LATENCY_S = 0.2
# 5 % transient failures whatever the pace, and now and then a burst of "too many requests".
_TRANSIENT, _TOO_MANY = "internal", "shared_quota"
_MIX = f"{_TRANSIENT}=0.05"
_BURST, _REQUESTS_BETWEEN_BURSTS = 3, 50
# Links are refreshed when half of their life is left, and the sensor looks once a minute.
_SHORTEST_TTL_S = 150
_TTL_PER_ROW_S = 0.15
_BACKOFFS_S = 3.0
_MOST_LINKS = 400
_LINE_EVERY_S = 10.0
_OWNER, _EARLY_OWNER = "load", "load-early"
# A day's limit that the batch's hold nearly fills, so that a cent too much would show.
_CENTS_PER_ROW = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What to rehearse."""

    rows: int
    latency_s: float
    home: Path


def rehearse(plan: LoadPlan, *, say: Callable[[str], None]) -> LoadFigures:
    """Run it and measure.

    Raises:
        StackFailed: a process of the stack ended.
        ServerFailed: a stub did not start.
    """
    with ExitStack() as stack:
        odd = str(_ODD_ADDRESSES)
        addresses = stack.enter_context(
            misbehaving_server(
                "reference_stub",
                *("--hanging", odd, "--failing", odd, "--latency-s", str(_REFERENCE_LATENCY_S)),
            )
        )
        provider = stack.enter_context(
            misbehaving_server("provider_stub", "--latency-s", str(plan.latency_s), "--mix", _MIX)
        )
        ttl_s = max(_SHORTEST_TTL_S, int(plan.rows * _TTL_PER_ROW_S))
        isolate(
            plan.home,
            ASSETGEN_PROVIDER="gemini",
            GEMINI_API_KEY="load-test-key-of-a-stub",
            GOOGLE_GEMINI_BASE_URL=provider,
            ASSETGEN_REFERENCE_ALLOWED_NETWORKS="127.0.0.0/8",
            ASSETGEN_URL_TTL=f"{ttl_s}s",
            ASSETGEN_DAILY_LIMIT_USD=Money((1 + plan.rows) * _CENTS_PER_ROW * 10_000).usd(),
        )
        rehearsal = _Rehearsal(plan, load_settings(), addresses, provider, say)
        return rehearsal.run()


class _Rehearsal:
    """One load test under way."""

    def __init__(
        self,
        plan: LoadPlan,
        settings: Settings,
        addresses: str,
        provider: str,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._urls: dict[str, list[str]] = json.loads(addresses)
        self._provider = provider
        self._say = say
        self._clock = open_clock()
        self._next_burst = _REQUESTS_BETWEEN_BURSTS

    def run(self) -> LoadFigures:
        """Drop both batches, follow them, wait for the refresh, look at everything."""
        settings = self._settings
        with (
            MemoryWatch(settings.home) as memory,
            running_stack(settings) as stack,
            open_object_store(settings) as store,
        ):
            stack.ready()
            self._say(f"dagster  {stack.graph_url}")
            early = self._drop(
                _EARLY_OWNER, _EARLY_ROWS, {**self._urls, "hangs": [], "fails": []}, store
            )
            self._follow(early, store, stack)
            began = self._clock.monotonic()
            batch = self._drop(_OWNER, self._plan.rows, self._urls, store)
            status = self._follow(batch, store, stack)
            seconds = self._clock.monotonic() - began
            self._say("links    waiting for those of the first batch to be refreshed")
            refreshed = self._refreshed(early, store, stack)
            links = self._links([early, batch], store)
            return self._figures(
                status,
                batches=[early, batch],
                seconds=seconds,
                refreshed=refreshed,
                links=links,
                memory=memory,
            )

    def _drop(self, owner: str, rows: int, urls: dict[str, list[str]], store: ObjectStore) -> str:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"load-{rows}.csv"
            file.write_text(load_csv(rows, urls), encoding="utf-8")
            return drop_file(file, owner=owner, dry_run=False, store=store)

    def _follow(self, batch_id: str, store: ObjectStore, stack: Stack) -> BatchStatus:
        follower, pause = StatusFollower(batch_id, store=store, say=self._say), threading.Event()
        next_line_s = self._clock.monotonic()
        while True:
            stack.check()
            status = follower.read()
            self._refuse_now_and_then()
            ended = status is not None and is_terminal(status.state)
            if status is not None and (ended or self._clock.monotonic() >= next_line_s):
                self._say(status_line(status))
                next_line_s = self._clock.monotonic() + _LINE_EVERY_S
            if status is not None and ended:
                return status
            pause.wait(0.5)

    def _refuse_now_and_then(self) -> None:
        requests = state_of(self._provider)["counts"].get("requests", 0)
        if requests >= self._next_burst:
            order(self._provider, {"queue": [_TOO_MANY] * _BURST})
            self._next_burst = requests + _REQUESTS_BETWEEN_BURSTS

    def _refreshed(self, batch_id: str, store: ObjectStore, stack: Stack) -> int:
        """How many links were signed anew by the sensor's run, 0 when none were in time."""
        pause, deadline = threading.Event(), self._clock.monotonic() + 3 * self._ttl_s
        while self._clock.monotonic() < deadline:
            stack.check()
            signed = read_artifact(batch_id, "signed_urls", SignedUrls, store=store)
            found = (
                [r.urls for r in signed.refreshes if r.cause is RefreshCause.EXPIRING]
                if signed
                else []
            )
            if found:
                return sum(found)
            pause.wait(1.0)
        return 0

    @property
    def _ttl_s(self) -> float:
        return self._settings.url_ttl.total_seconds()

    def _links(self, batch_ids: list[str], store: ObjectStore) -> tuple[int, int]:
        """How many links were looked at, and how many of them had ended or gave nothing."""
        checked = expired = 0
        for batch_id in batch_ids:
            text = store.read(BatchFolder(batch_id).results).decode("utf-8-sig")
            rows = [row for row in csv.DictReader(io.StringIO(text)) if row["image_url_1"]]
            for row in rows[:: max(1, len(rows) // _MOST_LINKS)]:
                checked += 1
                ended = datetime.fromisoformat(row["urls_expire_at"]) <= self._clock.now()
                expired += ended or not link_works(row["image_url_1"])
        return checked, expired

    def _figures(
        self,
        status: BatchStatus,
        *,
        batches: list[str],
        seconds: float,
        refreshed: int,
        links: tuple[int, int],
        memory: MemoryWatch,
    ) -> LoadFigures:
        asked, fetched = state_of(self._provider), state_of(self._urls["answers"][0])
        counts, settings = asked["counts"], self._settings
        refusals = counts.get(_TOO_MANY, 0)
        failures = counts.get(_TRANSIENT, 0) + refusals
        return LoadFigures(
            rows=status.rows,
            images=status.images.requested,
            delivered=status.images.delivered,
            state=status.state.value,
            seconds=round(seconds, 1),
            ideal_seconds=round(self._ideal(status.images.requested, failures, refusals), 1),
            estimate=_money(status.estimate_usd),
            spent=_money(status.spent_usd),
            provider_requests=counts.get("requests", 0),
            provider_failures=failures,
            provider_refusals=refusals,
            provider_billed=counts.get("billed", 0) - _EARLY_ROWS,
            reference_requests=sum(fetched["counts"].values()),
            hanging_requests=fetched["counts"].get("hangs", 0),
            hanging_still_open=fetched["open_hangs"],
            longest_hang_seconds=fetched["longest_hang_s"],
            fetch_deadline_seconds=settings.reference_timeout_s,
            peak_fetches=fetched["peak"],
            urls_refreshed=refreshed,
            links_checked=links[0],
            links_expired=links[1],
            peak_memory_mb=round(memory.largest_mb),
            peak_memory_all_mb=round(memory.all_mb),
            **self._booked(batches),
        )

    def _booked(self, batches: list[str]) -> dict[str, Any]:
        with open_ledger(self._settings) as ledger:
            paid = [
                attempt
                for attempt in ledger.attempts(batches[-1])
                if attempt.state in {AttemptState.CAPTURED, AttemptState.ASSUMED}
                and attempt.cost is not None
                and attempt.cost > ZERO
            ]
            day = ledger.day(_OWNER)
            broken = sum(len(check.violations) for check in ledger.verify())
        return {
            "booked": len(paid),
            "limit": day.limit,
            "overrun": day.overrun,
            "ledger_violations": broken,
        }

    def _ideal(self, images: int, failures: int, refusals: int) -> float:
        settings = self._settings
        fetching = fetching_seconds(
            references=images // 2,
            latency_s=_REFERENCE_LATENCY_S,
            hanging=_ODD_ADDRESSES,
            hang_s=(1 + settings.reference_retries) * settings.reference_timeout_s + _BACKOFFS_S,
        )
        return fetching + generating_seconds(
            requests=images + failures,
            latency_s=self._plan.latency_s,
            concurrency=settings.generation_concurrency,
            bursts=refusals / _BURST,
        )


def _money(usd: str | None) -> Money:
    return Money.from_usd(usd) if usd is not None else ZERO
