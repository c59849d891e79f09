"""`assetgen rollout`: show, set, rollback."""

import pytest

from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.rollout import ROLLOUT_OBJECT, parse_rollout
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.ledger import open_ledger
from assetgen_pipeline_tests.ledger_helpers import IMAGE, request, reserve

NEW = ("--provider", "gemini", "--model", "gemini-3-pro-image")


@pytest.fixture(autouse=True)
def no_rollout_yet(assetgen):
    """Every test begins without one."""
    with open_object_store(load_settings()) as store:
        store.delete(ROLLOUT_OBJECT)


def stored():
    with open_object_store(load_settings()) as store:
        return parse_rollout(store.read(ROLLOUT_OBJECT))


def is_absent():
    with open_object_store(load_settings()) as store:
        return store.stat(ROLLOUT_OBJECT) is None


def test_without_a_rollout_every_batch_is_stable(assetgen):
    result = assetgen("rollout", "show")

    assert result.code == 0
    assert "every batch is stable" in result.out


def test_a_candidate_is_set_shown_and_rolled_back(assetgen):
    assert assetgen("rollout", "set", *NEW, "--percent", "10", "--owner", "studio").code == 0
    shown = assetgen("rollout", "show", "--json").document
    assert assetgen("rollout", "rollback").code == 0

    assert shown["candidate"] == {"provider": "gemini", "model": "gemini-3-pro-image"}
    assert (shown["percent"], shown["owners"]) == (10, ["studio"])
    assert [one["lane"] for one in shown["figures"]] == ["stable", "candidate"]
    assert shown["carries"] is False
    assert shown["may_rise_at"] is not None
    rollout = stored()
    assert (rollout.percent, rollout.owners) == (0, ())
    assert [change.action for change in rollout.history] == ["set", "rollback"]
    assert all("@" in change.by for change in rollout.history)


def test_each_lane_is_shown_with_its_usual_and_its_slow_latency(assetgen):
    assetgen("rollout", "set", *NEW, "--percent", "10")
    provider, model = NEW[1], NEW[3]
    with open_ledger(load_settings()) as ledger:
        hold = reserve(ledger, 10_000)
        for n in range(1, 21):
            asked = request(f"i{n}", lane="candidate", provider=provider, model=model)
            token = ledger.intent(hold, asked)
            ledger.capture(
                token, cost=Money(10), cost_basis="usage", image=IMAGE, latency_ms=n * 1_000
            )

    shown = assetgen("rollout", "show", "--json").document["figures"]
    text = assetgen("rollout", "show").out

    assert [one["latency_p50_ms"] for one in shown] == [None, 10_000]
    assert [one["latency_p95_ms"] for one in shown] == [None, 19_000]
    assert "half within 10000 ms, 95 % within 19000 ms" in text


def test_a_raise_too_soon_is_refused_and_changes_nothing(assetgen):
    assetgen("rollout", "set", *NEW, "--percent", "10")

    result = assetgen("rollout", "set", *NEW, "--percent", "50")

    assert result.code == 1
    assert "24 h" in result.err
    assert "--force" in result.err
    assert stored().percent == 10


def test_force_raises_and_records_who_and_over_what(assetgen):
    assetgen("rollout", "set", *NEW, "--percent", "10")

    result = assetgen("rollout", "set", *NEW, "--percent", "50", "--force")

    assert result.code == 0
    change = stored().history[-1]
    assert (change.percent, len(change.forced_over)) == (50, 3)
    assert "forced over" in assetgen("rollout", "show").out


@pytest.mark.parametrize("verb", [("set", *NEW, "--percent", "10"), ("rollback",)])
def test_a_dry_run_writes_nothing_and_says_so(assetgen, verb):
    said = assetgen("rollout", *verb, "--dry-run").out
    result = assetgen("rollout", *verb, "--dry-run", "--json")

    assert said.startswith("nothing is changed; then in force:\n")
    assert result.code == 0
    assert result.document["percent"] in {0, 10}
    assert is_absent()


def test_a_model_without_a_price_is_refused(assetgen):
    result = assetgen(
        "rollout", "set", "--provider", "gemini", "--model", "no-such", "--percent", "1"
    )

    assert result.code == 1
    assert "no-such" in result.err
    assert is_absent()


@pytest.mark.parametrize("percent", ["-1", "101", "ten"])
def test_a_percentage_that_is_none_is_a_usage_error(assetgen, percent):
    assert assetgen("rollout", "set", *NEW, "--percent", percent).code == 2


def test_rolling_back_works_also_where_the_object_cannot_be_read(assetgen):
    with open_object_store(load_settings()) as store:
        store.write(ROLLOUT_OBJECT, b"{", content_type="application/json")
    shown = assetgen("rollout", "show")

    result = assetgen("rollout", "rollback")

    assert shown.code == 1
    assert result.code == 0
    assert "replaced" in result.err
    assert stored().percent == 0
