"""Sums over all attempts, on the real engine."""

import pytest

from assetgen_pipeline.domain.money import Money
from assetgen_pipeline_tests.ledger_helpers import IMAGE, capture, open_real, request, reserve


@pytest.fixture
def ledger(tmp_path):
    opened = open_real(f"sqlite:///{tmp_path / 'ledger.db'}", 10_000)
    yield opened
    opened.close()


def test_rows_images_attempts_and_money_are_summed(ledger):
    hold = reserve(ledger, amount=2_000)

    def intent(item, scene, **changes):
        return ledger.intent(hold, request(item, scene_id=scene, **changes))

    # S1: delivered after a failure. S2: one of two. S3: blocked. S4: failed. S5: in flight.
    ledger.void(intent("S1/1", "S1"), code="provider-unavailable", detail="")
    capture(ledger, intent("S1/1", "S1"), 40)
    capture(ledger, intent("S2/1", "S2"), 40)
    ledger.assume(intent("S2/2", "S2"), code="provider-unavailable", detail="")
    ledger.void(intent("S3/1", "S3"), code="provider-blocked", detail="")
    ledger.capture(
        intent("S4/1", "S4"), cost=Money(0), cost_basis="flat", image=None, code="provider-rejected"
    )
    intent("S5/1", "S5", provider="gemini")
    ledger.reuse(hold, request("S6/1", scene_id="S6"), IMAGE)

    figures = ledger.figures()

    assert figures.rows == {
        "delivered": 2,
        "partial": 1,
        "blocked": 1,
        "failed": 1,
        "not_attempted": 1,
    }
    assert figures.images == {"delivered": 3, "blocked": 1, "failed": 2, "not_attempted": 1}
    assert figures.attempts == {
        ("local", "delivered"): 2,
        ("local", "reused"): 1,
        ("local", "provider-unavailable"): 2,
        ("local", "provider-blocked"): 1,
        ("local", "provider-rejected"): 1,
    }
    assert figures.costs == {("ann", "local"): 180}
    assert figures.inflight == {("ann", "gemini"): 100}


def test_empty_books_are_empty_sums(ledger):
    figures = ledger.figures()

    assert (figures.rows, figures.images, figures.costs) == ({}, {}, {})
