"""Alerts: told once, with everything a tired person needs, and nothing else."""

import pytest

from assetgen_pipeline.domain.alerts import (
    Alert,
    AlertCursor,
    AlertKind,
    alert_text,
    plan_alerts,
    run_alert,
)
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.status import BatchState, BatchStatus, ImageCounts

BATCH = "ada.shoes.0123abcd"


def an_alert(about="x", state="", **changes):
    return Alert(
        **{
            "kind": AlertKind.BATCH_STUCK,
            "about": about,
            "state": state,
            "what": "something happened",
            "command": "assetgen doctor",
            **changes,
        }
    )


def a_status(state=BatchState.FAILED, **changes):
    return BatchStatus(
        **{
            "batch_id": BATCH,
            "owner": "ada",
            "state": state,
            "mode": "normal",
            "rows": 100,
            "images": ImageCounts(requested=100, delivered=61, not_attempted=39),
            "spent_usd": "2.310000",
            "updated_at": "2026-03-01T12:00:00+00:00",
            "outbox": "gs://b/outbox/",
            **changes,
        }
    )


def a_run_alert(status, kind=AlertKind.RUN_FAILED, why="provider-quota: spent", held=ZERO):
    return run_alert(kind, status, batch_id=BATCH, run_id="8bec3686", why=why, held=held)


def test_a_failed_run_says_what_happened_to_rows_and_money_and_what_to_do():
    text = alert_text(a_run_alert(a_status(), held=Money(1_590_000)))

    assert text.splitlines() == [
        f"[assetgen] batch {BATCH} ended as failed: provider-quota: spent",
        f"batch {BATCH} · owner ada · 61 of 100 images delivered · $2.31 spent · $1.59 held",
        "Nothing is lost: what is delivered stays, and nothing delivered is paid again.",
        f"Do:  assetgen retry {BATCH}",
        "Run  8bec3686",
    ]


def test_a_cancelled_run_says_so():
    text = alert_text(a_run_alert(a_status(BatchState.CANCELLED), AlertKind.RUN_CANCELLED))

    assert "was cancelled" in text


@pytest.mark.parametrize(
    ("state", "command"),
    [
        (BatchState.REFUSED, f"assetgen budget show ada, and then assetgen retry {BATCH}"),
        (BatchState.REJECTED, f"assetgen results {BATCH} -o ."),
        (BatchState.FAILED, f"assetgen retry {BATCH}"),
    ],
)
def test_the_next_command_is_the_one_that_the_state_needs(state, command):
    assert f"Do:  {command}" in alert_text(a_run_alert(a_status(state)))


def test_of_a_batch_that_goes_on_by_itself_there_is_nothing_to_do():
    problem = {"code": "storage-unavailable", "resumes": True}

    text = alert_text(a_run_alert(a_status(problem=problem)))

    assert "a running daemon finishes it by itself" in text
    assert f"Do:  assetgen watch {BATCH}" in text


def test_a_run_whose_batch_has_no_status_is_told_without_figures():
    text = alert_text(a_run_alert(None))

    assert f"batch {BATCH} · owner ada · $0.00 held" in text
    assert "spent ·" not in text


def test_an_alert_about_no_batch_has_no_empty_lines():
    assert "\n\n" not in alert_text(an_alert())


@pytest.mark.parametrize(
    "hostile",
    [
        "x\n[assetgen] all is well",
        "\x1b[2Jgone",
        "see https://storage.test/o?X-Goog-Signature=CANARY",
        "\u202ereversed",
        "key AIzaCANARY0123456789",
    ],
)
def test_no_stranger_writes_a_line_a_code_or_a_secret_into_the_message(hostile):
    text = alert_text(a_run_alert(a_status(), why=hostile))

    assert len(text.splitlines()) == 5
    assert "CANARY" not in text
    assert all(char.isprintable() for line in text.splitlines() for char in line)


def test_a_message_of_any_length_is_cut():
    assert len(alert_text(a_run_alert(a_status(), why="x" * 100_000))) < 2_000


@pytest.mark.parametrize("kind", AlertKind)
def test_every_kind_says_what_is_safe(kind):
    assert len(alert_text(an_alert(kind=kind)).splitlines()[1]) > 20


def test_each_thing_is_told_once():
    first = plan_alerts([an_alert("a"), an_alert("b")], AlertCursor())
    second = plan_alerts([an_alert("a"), an_alert("b")], first.cursor)

    assert [alert.about for alert in first.news] == ["a", "b"]
    assert second.news == ()


def test_a_thing_that_changes_is_told_again():
    first = plan_alerts([an_alert(state="I1")], AlertCursor())

    assert plan_alerts([an_alert(state="I1,I3")], first.cursor).news


def test_a_thing_that_went_and_came_back_is_told_again():
    told = plan_alerts([an_alert()], AlertCursor()).cursor
    gone = plan_alerts([], told).cursor

    assert gone.told == {}
    assert plan_alerts([an_alert()], gone).news


def test_what_could_not_be_looked_at_is_neither_gone_nor_news():
    told = plan_alerts([an_alert("a")], AlertCursor()).cursor

    blind = plan_alerts([], told, unseen={AlertKind.BATCH_STUCK})

    assert plan_alerts([an_alert("a")], blind.cursor).news == ()


def test_the_cursor_survives_as_json():
    cursor = plan_alerts([an_alert("a", "s")], AlertCursor()).cursor

    assert AlertCursor.model_validate_json(cursor.model_dump_json()) == cursor
