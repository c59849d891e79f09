import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain import errors
from assetgen_pipeline.domain.errors import (
    ApprovalExpired,
    AssetgenError,
    BatchCancelled,
    BatchRejected,
    BudgetRefused,
    FileProblem,
    ObjectMissing,
    ReferenceBlocked,
    ReferenceUnfetched,
    RunDied,
    StorageUnavailable,
)
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.problems import PROBLEM_CODES, fix_naming, problem_document
from assetgen_pipeline_tests.builders import BATCH_ID

INSTANCE = "11111111-2222-3333-4444-555555555555"
CONTRACT = [
    "csv-too-large",
    "csv-encoding",
    "csv-header",
    "csv-malformed",
    "row-limit",
    "row-invalid",
    "scene-id-invalid",
    "reference-url-invalid",
    "reference-blocked",
    "reference-not-permitted",
    "reference-unavailable",
    "reference-too-large",
    "reference-type",
    "reference-undecodable",
    "reference-dimensions",
    "pack-unknown",
    "budget-exceeded",
    "price-unknown",
    "owner-invalid",
    "provider-rejected",
    "provider-blocked",
    "provider-rate-limited",
    "provider-quota",
    "provider-auth",
    "provider-unavailable",
    "provider-config",
    "storage-conflict",
    "storage-unavailable",
    "ledger-unavailable",
    "cancelled",
    "internal",
]
INTERNAL = {
    "type": "urn:assetgen:problem:internal",
    "title": "Internal error",
    "status": 500,
    "detail": "Something went wrong on our side; the run's log says what.",
    "instance": f"urn:uuid:{INSTANCE}",
    "code": "internal",
    "fix": f"Look at the run's log; `assetgen support-bundle {BATCH_ID}` collects what we need.",
}


def document(error, *, instance=INSTANCE):
    return problem_document(error, batch_id=BATCH_ID, instance=instance)


def test_every_code_of_the_contract_has_its_words_and_no_other_code_has():
    assert sorted(PROBLEM_CODES) == sorted(CONTRACT)
    assert len({said.title for said in PROBLEM_CODES.values()}) == len(CONTRACT)
    assert all(400 <= said.status < 600 for said in PROBLEM_CODES.values())
    assert all(said.detail.endswith(".") for said in PROBLEM_CODES.values())


@pytest.mark.parametrize("code", CONTRACT)
def test_a_document_says_type_title_status_detail_instance_and_fix(code):
    made = document(ReferenceBlocked("10.0.0.7 /etc/passwd", code=code))

    assert made == {
        "type": f"urn:assetgen:problem:{code}",
        "title": PROBLEM_CODES[code].title,
        "status": PROBLEM_CODES[code].status,
        "detail": PROBLEM_CODES[code].detail,
        "instance": f"urn:uuid:{INSTANCE}",
        "code": code,
        "fix": ReferenceBlocked.fix,
    }


def test_every_error_of_ours_has_a_code_of_the_contract():
    kinds = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = {kind.code for kind in kinds if issubclass(kind, AssetgenError)}
    codes |= {ProviderError("", kind=kind).code for kind in ErrorKind}

    # A command can miss a batch; no batch can end for want of itself.
    assert codes - {"batch-not-found"} <= set(CONTRACT)


def test_a_rejected_file_lists_its_problems_and_is_always_422():
    problems = [
        FileProblem(3, "reference_urls", "reference-not-permitted", "reference 1: not yours"),
        FileProblem(4, "", "csv-malformed", "too wide"),
    ]

    made = document(BatchRejected(problems, total=7))

    assert made["type"] == "urn:assetgen:problem:reference-not-permitted"
    assert made["status"] == 422
    assert made["detail"] == "line 3, reference_urls: reference 1: not yours (and 6 more)"
    assert made["errors_total"] == 7
    assert made["errors"] == [
        {
            "line": 3,
            "column": "reference_urls",
            "code": "reference-not-permitted",
            "detail": "reference 1: not yours",
        },
        {"line": 4, "column": "", "code": "csv-malformed", "detail": "too wide"},
    ]


def a_refusal(scope):
    return BudgetRefused(
        estimate=Money(3_000_000),
        headroom=Money(1_500_000),
        limit=Money(10_000_000),
        resets_at=datetime(2026, 3, 2, tzinfo=UTC),
        scope=scope,
    )


def test_a_refusal_by_the_budget_states_its_figures():
    refused = a_refusal("owner:studio")
    refused.rows_that_fit = 12

    made = document(refused)

    assert (made["status"], made["code"]) == (402, "budget-exceeded")
    assert (made["estimate_usd"], made["headroom_usd"]) == ("3.000000", "1.500000")
    assert (made["limit_usd"], made["resets_at"]) == ("10.000000", "2026-03-02T00:00:00+00:00")
    assert made["rows_that_fit"] == 12
    assert "$1.50 left of $10.00" in made["detail"]
    assert "`assetgen budget set`" in made["fix"]


def test_a_refusal_by_the_deployments_limit_says_that_no_owners_limit_helps():
    made = document(a_refusal("project"))

    assert "$1.50 left of $10.00 today for the whole deployment" in made["detail"]
    assert "PROJECT_DAILY_LIMIT_USD" in made["fix"]
    assert "budget set" not in made["fix"]


@pytest.mark.parametrize("kind", [StorageUnavailable, ObjectMissing])
def test_what_an_error_of_ours_says_of_objects_and_hosts_stays_inside(kind):
    made = document(kind("10.0.0.1 outbox/studio/x SELECT 1"))

    assert not re.search(r"10\.0|outbox|SELECT", str(made))


@given(
    st.text(), st.sampled_from([RuntimeError, KeyError, OSError, MemoryError, KeyboardInterrupt])
)
def test_any_other_exception_gives_exactly_the_internal_document(text, kind):
    assert document(kind(text)) == INTERNAL


def test_an_error_with_a_code_that_nobody_documented_is_internal_too():
    assert document(ReferenceBlocked("x", code="made-up")) == INTERNAL


def test_an_instance_is_a_uuid_in_either_form():
    assert document(RuntimeError(), instance=f"urn:uuid:{INSTANCE}") == INTERNAL
    with pytest.raises(ValueError, match="UUID"):
        document(RuntimeError(), instance="run-1\n")


def test_a_reference_that_could_not_be_had_says_whether_to_try_again():
    error = ReferenceUnfetched("x", code="reference-type", retryable=True, retry_after_s=2.0)

    assert (error.retryable, error.retry_after_s) == (True, 2.0)
    assert document(error)["code"] == "reference-type"


@pytest.mark.parametrize(
    ("resumes", "fix"),
    [(True, "A running daemon finishes it"), (False, f"`assetgen retry {BATCH_ID}`")],
)
def test_a_batch_whose_process_died_says_whether_anybody_must_act(resumes, fix):
    made = document(RunDied("pid 12 on host-7", resumes=resumes))

    assert (made["code"], made["resumes"]) == ("internal", resumes)
    assert made["fix"].startswith(fix)
    assert "host-7" not in str(made)


def test_a_batch_that_nobody_approved_in_time_says_so():
    made = document(ApprovalExpired("x"))

    assert made["code"] == "cancelled"
    assert made["detail"] == "The batch waited for approval until its time was up."
    assert "retry" in made["fix"]


def test_a_fix_names_the_batch_and_nothing_in_it_is_left_to_fill_in():
    plain = (AssetgenError("x"), RunDied("x"), BatchCancelled("x"))
    made = [document(e) for e in (*plain, *(ProviderError("x", kind=k) for k in ErrorKind))]

    assert [one["fix"] for one in made if "BATCH" in one["fix"]] == []
    assert all(BATCH_ID in one["fix"] for one in made[:3])


def test_only_the_word_alone_stands_for_the_batch():
    fix = "`assetgen watch BATCH`, with ASSETGEN_REFERENCE_BATCH_DEADLINE_S=60"

    named = fix_naming(fix, BATCH_ID)

    assert named == f"`assetgen watch {BATCH_ID}`, with ASSETGEN_REFERENCE_BATCH_DEADLINE_S=60"
