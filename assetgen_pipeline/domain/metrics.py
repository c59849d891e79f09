"""Metrics as Prometheus text, made from what books, bucket and instance say.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from assetgen_pipeline.domain.budget import BudgetDay, Hold, InvariantCheck
from assetgen_pipeline.domain.health import InstanceHealth
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.metric_families import FAMILIES, PREFIX
from assetgen_pipeline.domain.money import MICROS_PER_USD
from assetgen_pipeline.domain.outcome import ImageStatus, RowStatus
from assetgen_pipeline.domain.problems import PROBLEM_CODES
from assetgen_pipeline.domain.status import BatchState

MOST_OWNERS = 100
# No owner's name begins so.
OTHERS, PROJECT = "_other", "_project"
_PROVIDERS = ("local", "gemini", "openai")
_OUTCOMES = {"delivered", "reused", *PROBLEM_CODES}


class Sample(Value):
    """One number of one metric."""

    name: str
    labels: dict[str, str]
    value: float


class LedgerFigures(Value):
    """Sums over all attempts of the books."""

    rows: dict[str, int]
    images: dict[str, int]
    attempts: dict[tuple[str, str], int]
    """By provider and outcome."""
    costs: dict[tuple[str, str], int]
    """Micros by owner and provider."""
    inflight: dict[tuple[str, str], int]
    """Micros by owner and provider."""


def sample(short_name: str, value: float, *labels: str) -> Sample:
    """A number of the metric `assetgen_<short_name>`, its labels in the family's order."""
    family = FAMILIES[PREFIX + short_name]
    return Sample(
        name=family.name, labels=dict(zip(family.labels, labels, strict=True)), value=value
    )


def exposition(samples: Iterable[Sample]) -> str:
    """The samples as Prometheus text, in the families' order; a metric without any is left out."""
    of_family: dict[str, list[Sample]] = {}
    for one in samples:
        of_family.setdefault(one.name, []).append(one)
    lines = []
    for name, family in FAMILIES.items():
        if name in of_family:
            lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
            lines += [_line(one) for one in of_family[name]]
    return "\n".join(lines) + "\n"


def _line(one: Sample) -> str:
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in one.labels.items())
    value = "+Inf" if math.isinf(one.value) else repr(one.value)
    return f"{one.name}{{{labels}}} {value}" if labels else f"{one.name} {value}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def figures_samples(figures: LedgerFigures) -> list[Sample]:
    """What the attempts add up to."""
    owners = _named_owners({owner: cost for (owner, _), cost in figures.costs.items()})
    attempts: Counter[tuple[str, ...]] = Counter()
    for (provider, outcome), count in figures.attempts.items():
        known = outcome if outcome in _OUTCOMES else OTHERS
        attempts[_provider(provider), known] += count
    return [
        *(sample("rows", figures.rows.get(s.value, 0), s.value) for s in RowStatus),
        *(sample("images", figures.images.get(s.value, 0), s.value) for s in ImageStatus),
        *(sample("attempts_total", count, *labels) for labels, count in sorted(attempts.items())),
        *_money_by_provider("cost_usd_total", figures.costs, owners),
        *_money_by_provider("inflight_usd", figures.inflight, owners),
    ]


def _money_by_provider(
    name: str, amounts: Mapping[tuple[str, str], int], owners: frozenset[str]
) -> list[Sample]:
    sums: Counter[tuple[str, ...]] = Counter()
    for (owner, provider), micros in amounts.items():
        sums[owner if owner in owners else OTHERS, _provider(provider)] += micros
    return [sample(name, _usd(micros), *labels) for labels, micros in sorted(sums.items())]


def days_samples(days: Sequence[BudgetDay], project: BudgetDay | None) -> list[Sample]:
    """Today's budgets: the owners who use most by name, the others as one."""
    owners = _named_owners({day.owner: (day.held + day.settled).micros for day in days})
    figures = ("limit", "held", "settled", "assumed", "overrun", "headroom")
    sums: Counter[tuple[str, str]] = Counter()
    for day in days:
        for figure in figures:
            owner = day.owner if day.owner in owners else OTHERS
            sums[figure, owner] += getattr(day, figure).micros
    for figure in figures if project is not None else ():
        sums[figure, PROJECT] += getattr(project, figure).micros
    return [sample(f"{figure}_usd", _usd(sums[figure, owner]), owner) for figure, owner in sums]


def _named_owners(weights: Mapping[str, int]) -> frozenset[str]:
    """The owners that have a label of their own: those with most money in play."""
    ranked = sorted(weights, key=lambda owner: (-weights[owner], owner))
    return frozenset(ranked[:MOST_OWNERS])


def books_samples(
    holds: Sequence[Hold], checks: Sequence[InvariantCheck], assumed: int, *, now: datetime
) -> list[Sample]:
    """Open holds, broken invariants, and what waits to be reconciled."""
    ages = [(now - hold.opened_at).total_seconds() for hold in holds if hold.opened_at is not None]
    return [
        sample("assumed_attempts", assumed),
        sample("open_holds", len(holds)),
        sample("open_hold_oldest_seconds", max(ages, default=0.0)),
        *(sample("ledger_violations", len(check.violations), check.name) for check in checks),
    ]


def batches_samples(states: Iterable[BatchState]) -> list[Sample]:
    """Batches by state, those that no batch is in as 0."""
    counts = Counter(states)
    return [sample("batches", counts[state], state.value) for state in BatchState]


def instance_samples(health: InstanceHealth) -> list[Sample]:
    """Daemons, sensors, pools and runs."""
    samples = [
        *(sample("runs", count, status) for status, count in sorted(health.runs.items())),
        sample("queue_oldest_seconds", health.queue_oldest_s),
        sample("dead_runs", len(health.dead_runs)),
    ]
    for pool in health.pools:
        samples += [
            sample("pool_slots", pool.limit, pool.name),
            sample("pool_slots_used", pool.used, pool.name),
            sample("pool_slots_leaked", pool.leaked, pool.name),
        ]
    for daemon in health.daemons:
        samples.append(sample("daemon_heartbeat_age_seconds", _age(daemon.age_s), daemon.name))
    for tick in health.ticks:
        samples.append(sample("sensor_tick_age_seconds", _age(tick.age_s), tick.name))
        samples.append(sample("sensor_dead", int(tick.dead), tick.name))
    return samples


def _age(age_s: float | None) -> float:
    return math.inf if age_s is None else age_s


def _provider(name: str) -> str:
    return name if name in _PROVIDERS else OTHERS


def _usd(micros: int) -> float:
    """Dollars as Prometheus takes them; shown, never counted with."""
    return micros / MICROS_PER_USD
