"""Lanes: what each side of a canary rollout did, and whether that carries a promotion."""

from collections import Counter
from collections.abc import Iterable

from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.money import ZERO, Money, total

STABLE = "stable"
CANDIDATE = "candidate"

FEWEST_IMAGES = 20
MORE_FAILURES_PERCENT = 2
DEARER = 1.2
SLOWER = 1.5
TYPICAL, SLOW = 50, 95


class LaneFigures(Value):
    """What one model did in one lane; images served from what is stored do not count."""

    lane: str
    provider: str
    model: str
    images: int = 0
    """Images that were asked for and are at an end."""
    delivered: int = 0
    cost: Money = ZERO
    latencies: tuple[tuple[int, int], ...] = ()
    """Milliseconds, over all its attempts, and how many delivered images took so long; ascending."""

    @property
    def failed(self) -> int:
        """Images that did not come, blocked ones included."""
        return self.images - self.delivered

    @property
    def failure_rate(self) -> float:
        """The share of images that did not come."""
        return self.failed / self.images if self.images else 0.0

    @property
    def cost_per_image(self) -> Money:
        """What one delivered image cost, failed attempts included."""
        return Money(self.cost.micros // self.delivered) if self.delivered else ZERO

    def latency_ms(self, percent: int) -> int | None:
        """Within how long so many percent of the delivered images came; `None` without one."""
        counted = 0
        for latency, images in self.latencies:
            counted += images
            if counted * 100 >= percent * self.delivered:
                return latency
        return None


class Verdict(Value):
    """Whether the figures carry a promotion, and what speaks against it."""

    stable: LaneFigures
    candidate: LaneFigures
    against: tuple[str, ...]

    @property
    def carries(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.against


def judge(figures: Iterable[LaneFigures], *, provider: str, model: str) -> Verdict:
    """Compare the candidate with everything that ran in the stable lane."""
    known = list(figures)
    stable = sum_of([one for one in known if one.lane == STABLE], lane=STABLE)
    candidate = sum_of(
        [
            one
            for one in known
            if (one.lane, one.provider, one.model) == (CANDIDATE, provider, model)
        ],
        lane=CANDIDATE,
        provider=provider,
        model=model,
    )
    few = [
        f"the {one.lane} lane has {one.images} images of the {FEWEST_IMAGES} that it takes"
        for one in (stable, candidate)
        if one.images < FEWEST_IMAGES
    ]
    against = few or _worse(stable, candidate)
    return Verdict(stable=stable, candidate=candidate, against=tuple(against))


def sum_of(
    parts: Iterable[LaneFigures], *, lane: str, provider: str = "", model: str = ""
) -> LaneFigures:
    """Several figures as one."""
    known = list(parts)
    latencies: Counter[int] = Counter()
    for one in known:
        latencies.update(dict(one.latencies))
    return LaneFigures(
        lane=lane,
        provider=provider,
        model=model,
        images=sum(one.images for one in known),
        delivered=sum(one.delivered for one in known),
        cost=total([one.cost for one in known]),
        latencies=tuple(sorted(latencies.items())),
    )


def _worse(stable: LaneFigures, candidate: LaneFigures) -> list[str]:
    against = []
    # In whole numbers: 4 % is not more than 2 % and two points.
    fails, failed = candidate.failed * stable.images, stable.failed * candidate.images
    tolerated = MORE_FAILURES_PERCENT * stable.images * candidate.images
    if (fails - failed) * 100 > tolerated:
        against.append(
            f"{candidate.failure_rate:.1%} of the candidate's images fail,"
            f" {stable.failure_rate:.1%} of the stable lane's"
        )
    dear = candidate.cost_per_image.micros > stable.cost_per_image.micros * DEARER
    if dear and candidate.delivered and stable.delivered:
        against.append(
            f"a candidate's image costs {candidate.cost_per_image},"
            f" one of the stable lane {stable.cost_per_image}"
        )
    for percent in (TYPICAL, SLOW):
        slow, usual = candidate.latency_ms(percent), stable.latency_ms(percent)
        if slow is not None and usual is not None and slow > max(1, usual) * SLOWER:
            against.append(
                f"{percent} % of the candidate's images take up to {slow} ms,"
                f" of the stable lane's {usual} ms"
            )
    return against
