"""The load test's bars: what it must have measured for a release to be good."""

from dataclasses import dataclass

from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.pace import FIRST_PAUSE_S

LEAST_DELIVERED = 0.99
MOST_FETCHES = 4
# What a busy machine may take to notice a deadline.
_LATE_S = 5.0
_ROWS_OF_THE_TIME_BAR = 100
LONGEST_S = 180.0


class LoadFigures(Value):
    """What one load test measured."""

    rows: int
    images: int
    delivered: int
    state: str
    seconds: float
    """From the drop of the batch to its end."""
    ideal_seconds: float
    """What latencies and provoked pauses alone would take at the concurrency allowed."""
    estimate: Money
    spent: Money
    limit: Money
    overrun: Money
    provider_requests: int
    provider_failures: int
    """Requests that the provider answered with an error on purpose."""
    provider_refusals: int
    """Those of them that asked to slow down."""
    provider_billed: int
    booked: int
    """Attempts that the ledger has as paid."""
    reference_requests: int
    hanging_requests: int
    hanging_still_open: int
    longest_hang_seconds: float
    fetch_deadline_seconds: float
    peak_fetches: int
    urls_refreshed: int
    links_checked: int
    links_expired: int
    ledger_violations: int
    peak_memory_mb: float
    """Of the largest process."""
    peak_memory_all_mb: float

    @property
    def delivered_share(self) -> float:
        """Delivered images among those requested."""
        return self.delivered / self.images if self.images else 0.0

    @property
    def duplicate_payments(self) -> int:
        """Bills of the provider beyond one per delivered image."""
        return max(0, self.provider_billed - self.delivered)

    @property
    def unbooked_payments(self) -> int:
        """Bills of the provider that the ledger does not know."""
        return max(0, self.provider_billed - self.booked)

    @property
    def overspend(self) -> Money:
        """Money spent beyond the day's limit."""
        return max(ZERO, self.spent - self.limit) + self.overrun


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what it is about, what is wanted, what was measured, and whether that will do."""

    name: str
    wanted: str
    measured: str
    passed: bool


def judge(figures: LoadFigures) -> list[Bar]:
    """Every bar against the figures."""
    deadline = figures.fetch_deadline_seconds
    longest = figures.longest_hang_seconds
    bars = [
        Bar(
            "images delivered",
            f"at least {LEAST_DELIVERED:.0%}",
            f"{figures.delivered} of {figures.images} ({figures.delivered_share:.2%})",
            figures.images > 0 and figures.delivered_share >= LEAST_DELIVERED,
        ),
        Bar(
            "failures provoked",
            "at least 1",
            str(figures.provider_failures),
            figures.provider_failures > 0,
        ),
        Bar(
            "hanging fetches ended at their deadline",
            f"all, within {deadline:g} s and {_LATE_S:g} s",
            f"{figures.hanging_requests} hung, {figures.hanging_still_open} still open,"
            f" longest {longest:.1f} s",
            figures.hanging_requests > 0
            and figures.hanging_still_open == 0
            and longest <= deadline + _LATE_S,
        ),
        Bar(
            "peak fetches",
            str(MOST_FETCHES),
            str(figures.peak_fetches),
            figures.peak_fetches == MOST_FETCHES,
        ),
        _zero("overspend", figures.overspend.micros, str(figures.overspend)),
        _zero("duplicate_payments", figures.duplicate_payments),
        _zero("unbooked payments", figures.unbooked_payments),
        _zero("ledger violations", figures.ledger_violations),
        Bar(
            "URLs refreshed meanwhile",
            "at least 1",
            str(figures.urls_refreshed),
            figures.urls_refreshed > 0,
        ),
        Bar(
            "expired links",
            "0",
            f"{figures.links_expired} of {figures.links_checked}",
            figures.links_expired == 0 and figures.links_checked > 0,
        ),
    ]
    if figures.rows <= _ROWS_OF_THE_TIME_BAR:
        seconds = figures.seconds
        bars.append(
            Bar("seconds", f"at most {LONGEST_S:g}", f"{seconds:.1f}", seconds <= LONGEST_S)
        )
    return bars


def _zero(name: str, value: int, shown: str = "") -> Bar:
    return Bar(name, "0", shown or str(value), value == 0)


def load_csv(rows: int, urls: dict[str, list[str]]) -> str:
    """A CSV of `rows` rows with a reference each, every hanging and failing address among them."""
    odd = [f"{base}/{n}.png" for kind in ("hangs", "fails") for n, base in enumerate(urls[kind])]
    lines = ["scene_id,prompt,reference_urls"]
    [good] = urls["answers"]
    for number in range(1, rows + 1):
        # Two rows share an address: each is fetched once.
        url = odd[number - 1] if number <= len(odd) else f"{good}/{number // 2}.png"
        lines.append(f"S{number},scene {number} of the load test,{url}")
    return "\n".join(lines) + "\n"


def fetching_seconds(*, references: int, latency_s: float, hanging: int, hang_s: float) -> float:
    """What latencies alone make all fetches take; `hang_s` is one hanging URL with its retries."""
    together = (hanging * hang_s + references * latency_s) / MOST_FETCHES
    return max(hang_s, together) if hanging else together


def generating_seconds(
    *, requests: int, latency_s: float, concurrency: int, bursts: float
) -> float:
    """What latencies alone make all requests take, failed ones too, and a pause for each burst."""
    return requests * latency_s / concurrency + bursts * FIRST_PAUSE_S
