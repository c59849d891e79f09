import json

import pytest
from pydantic import ValidationError

from assetgen_pipeline.domain.status import BatchState, BatchStatus, exit_code, is_terminal
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, OWNER

FIELDS = [
    "batch_id",
    "owner",
    "state",
    "mode",
    "rows",
    "images",
    "estimate_usd",
    "reserved_usd",
    "spent_usd",
    "started_at",
    "updated_at",
    "finished_at",
    "run_id",
    "outbox",
    "problem",
]


def a_status(**changes):
    return BatchStatus(
        **{
            "batch_id": BATCH_ID,
            "owner": OWNER,
            "state": BatchState.RECEIVED,
            "mode": "normal",
            "updated_at": NOW.isoformat(),
            "outbox": f"gs://b/outbox/{OWNER}/{BATCH_ID}/",
            **changes,
        }
    )


def test_the_document_has_exactly_the_fields_of_the_contract():
    document = json.loads(a_status().model_dump_json())

    assert list(document) == FIELDS
    assert list(document["images"]) == [
        "requested", "delivered", "failed", "blocked", "not_attempted",
    ]  # fmt: skip
    assert document["estimate_usd"] is None


def test_a_status_reads_back_as_it_was_written():
    status = a_status(spent_usd="0.002000", images={"requested": 3}, problem={"code": "internal"})

    assert BatchStatus.model_validate_json(status.model_dump_json()) == status


@pytest.mark.parametrize("usd", ["1", "1.0", "0.0020001", 0.002, "$1.000000", "1.000000\n"])
def test_money_is_a_decimal_text_with_six_digits(usd):
    with pytest.raises(ValidationError):
        a_status(spent_usd=usd)


@pytest.mark.parametrize(
    ("state", "code", "ended"),
    [
        ("received", None, False),
        ("validating", None, False),
        ("awaiting_approval", 3, False),
        ("reserved", None, False),
        ("running", None, False),
        ("completed", 0, True),
        ("completed_with_failures", 4, True),
        ("rejected", 2, True),
        ("refused", 3, True),
        ("failed", 1, True),
        ("cancelled", 5, True),
        ("priced", 0, True),
    ],
)
def test_each_state_has_the_exit_code_of_the_contract(state, code, ended):
    assert exit_code(BatchState(state)) == code
    assert is_terminal(BatchState(state)) is ended


def test_no_state_is_forgotten():
    assert len(BatchState) == 12


@pytest.mark.parametrize("field", ["started_at", "updated_at", "finished_at"])
@pytest.mark.parametrize("text", ["", "soon", "2026-03-01T12:00:00", "2026-03-01"])
def test_an_instant_has_a_time_zone(field, text):
    with pytest.raises(ValidationError):
        a_status(**{field: text})
