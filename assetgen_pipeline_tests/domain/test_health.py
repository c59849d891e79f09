"""When a sensor counts as dead."""

import pytest

from assetgen_pipeline.domain.health import DaemonHealth, TickHealth, unbroken_s


@pytest.mark.parametrize(
    ("on", "every_s", "age_s", "dead"),
    [
        (True, 5, 4, False),
        (True, 5, 300, False),
        (True, 5, 300.1, True),
        (True, 600, 1_800, False),
        (True, 600, 1_801, True),
        (True, 5, None, True),
        (False, 5, None, False),
        (False, 5, 9_999, False),
    ],
)
def test_a_sensor_is_dead_after_three_turns_and_five_minutes(on, every_s, age_s, dead):
    health = TickHealth(name="inbox_sensor", kind="sensor", on=on, every_s=every_s, age_s=age_s)

    assert health.dead is dead


@pytest.mark.parametrize(
    ("age_s", "watched_s", "dead"),
    [
        (None, 299, False),
        (None, 301, True),
        (9_999, 60, False),
        (9_999, 301, True),
        (60, 9_999, False),
        (9_999, None, True),
    ],
)
def test_a_silence_counts_from_when_a_daemon_could_have_broken_it(age_s, watched_s, dead):
    health = TickHealth(
        name="inbox_sensor", kind="sensor", on=True, every_s=5, age_s=age_s, watched_s=watched_s
    )

    assert health.dead is dead


@pytest.mark.parametrize(("age_s", "alive"), [(0, True), (89, True), (91, False), (None, False)])
def test_a_daemon_lives_as_long_as_three_heartbeats(age_s, alive):
    assert DaemonHealth(name="SENSOR", age_s=age_s).alive is alive


@pytest.mark.parametrize(
    ("instants", "unbroken"),
    [
        ([], None),
        ([600], None),
        ([990], 10),
        ([1_000], 0),
        ([880, 940, 1_000], 120),
        ([500, 880, 940], 120),
        ([640, 820, 1_000], 360),
    ],
)
def test_turns_that_follow_each_other_tell_how_long_a_daemon_is_up(instants, unbroken):
    assert unbroken_s(instants, now=1_000, gap_s=180) == unbroken
