"""What the sensor asks for, from index entries alone."""

from datetime import timedelta

from assetgen_pipeline.domain.delivery import LinkLife, UrlPolicy
from assetgen_pipeline.domain.refresh_plan import (
    ASK_AGAIN_AFTER,
    IndexEntry,
    RefreshCursor,
    plan_refresh,
)
from assetgen_pipeline_tests.builders import NOW

POLICY = UrlPolicy()
DAY = timedelta(days=1)


def entry(batch_id, *, left, key=None):
    end = NOW + left
    life = LinkLife(signed_at=end - 7 * DAY, expires_at=end, published_at=end - 7 * DAY)
    return IndexEntry(name=batch_id, key=key or batch_id, batch_id=batch_id, life=life)


def plan(entries, *, cursor=None, now=NOW, limit=10, **options):
    return plan_refresh(
        entries, cursor=cursor or RefreshCursor(), now=now, policy=POLICY, limit=limit, **options
    )


def test_only_what_is_due_is_asked_for_in_the_order_of_the_index():
    planned = plan([entry("a", left=-DAY), entry("b", left=DAY / 2), entry("c", left=2 * DAY)])

    assert planned.batch_ids == ("a", "b")


def test_two_entries_of_one_batch_ask_for_it_once():
    entries = [entry("a", left=-DAY, key="1"), entry("a", left=DAY / 2, key="2")]

    assert plan(entries).batch_ids == ("a",)


def test_no_more_than_the_limit_is_asked_for_and_read():
    read = []

    def entries():
        for number in range(100):
            read.append(number)
            yield entry(f"b{number}", left=timedelta(0))

    planned = plan(entries(), limit=3)

    assert planned.batch_ids == ("b0", "b1", "b2")
    assert len(read) == 3


def test_what_was_asked_for_waits_so_that_a_batch_that_never_succeeds_holds_nobody_up():
    due = [entry("stuck", left=-DAY), entry("b", left=timedelta(0))]
    first = plan(due, limit=1)

    second = plan(due, cursor=first.cursor, limit=1)
    third = plan(due, cursor=second.cursor, limit=1)
    later = plan(due, cursor=third.cursor, now=NOW + ASK_AGAIN_AFTER, limit=1)

    assert [p.batch_ids for p in (first, second, third, later)] == [
        ("stuck",), ("b",), (), ("stuck",),
    ]  # fmt: skip


def test_what_a_refresh_works_on_is_left_to_it_and_others_are_asked_for():
    first = plan([entry("a", left=-DAY)])
    due = [entry("a", left=-DAY), entry("b", left=timedelta(0))]

    during = plan(due, cursor=first.cursor, now=NOW + DAY, at_work=True)
    after = plan(due, cursor=during.cursor, now=NOW + DAY)

    assert during.batch_ids == ("b",)
    assert after.batch_ids == ("a",)


def test_an_entry_written_anew_is_another_entry():
    first = plan([entry("a", left=timedelta(0), key="a#1")])

    assert plan([entry("a", left=timedelta(0), key="a#2")], cursor=first.cursor).batch_ids == ("a",)


def test_a_clock_put_back_does_not_silence_a_batch():
    first = plan([entry("a", left=-3 * DAY)])

    assert plan([entry("a", left=-3 * DAY)], cursor=first.cursor, now=NOW - DAY).batch_ids == ("a",)


def test_the_cursor_forgets_what_is_no_longer_due():
    first = plan([entry("a", left=timedelta(0))])

    assert plan([], cursor=first.cursor).cursor == RefreshCursor()
