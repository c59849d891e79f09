"""Problem documents (RFC 9457): what people outside are told when something ends badly.

Titles and details are fixed per code; only figures and the problems of a file are filled
in. No exception text gets out: it may name paths, hosts, SQL or what an upstream said.
"""

import re
import uuid
from dataclasses import dataclass

from assetgen_pipeline.domain.errors import (
    ApprovalExpired,
    AssetgenError,
    BatchRejected,
    BudgetRefused,
    RunDied,
)

MEDIA_TYPE = "application/problem+json"
_TYPE_PREFIX = "urn:assetgen:problem:"


@dataclass(frozen=True, slots=True)
class ProblemCode:
    """What one code of the public contract says."""

    status: int
    title: str
    detail: str


_ROW = "The rows named in `errors` break a rule."
_INVALID = 422
PROBLEM_CODES = {
    "csv-too-large": ProblemCode(_INVALID, "File too large", "The file passes the size limit."),
    "csv-encoding": ProblemCode(_INVALID, "Not UTF-8", "The file is not UTF-8 text."),
    "csv-header": ProblemCode(_INVALID, "Header invalid", "The header row cannot be used."),
    "csv-malformed": ProblemCode(_INVALID, "CSV malformed", "The file is not a well-formed CSV."),
    "row-limit": ProblemCode(_INVALID, "Too many rows", "The file passes the row limit."),
    "row-invalid": ProblemCode(_INVALID, "Row invalid", _ROW),
    "scene-id-invalid": ProblemCode(_INVALID, "Scene id invalid", _ROW),
    "reference-url-invalid": ProblemCode(
        _INVALID, "Reference URL invalid", "A reference is not a URL that can be used."
    ),
    "reference-blocked": ProblemCode(
        _INVALID, "Reference blocked", "A reference is refused by policy."
    ),
    "reference-not-permitted": ProblemCode(
        403, "Reference not permitted", "A reference names an object that the owner may not use."
    ),
    "reference-unavailable": ProblemCode(
        502, "Reference unavailable", "A reference could not be fetched."
    ),
    "reference-too-large": ProblemCode(
        _INVALID, "Reference too large", "A reference passes the size limit."
    ),
    "reference-type": ProblemCode(
        _INVALID, "Reference of another type", "A reference is not an image of a supported type."
    ),
    "reference-undecodable": ProblemCode(
        _INVALID, "Reference undecodable", "A reference is not a readable image."
    ),
    "reference-dimensions": ProblemCode(
        _INVALID, "Reference dimensions", "A reference passes the limits on its sides or pixels."
    ),
    "pack-unknown": ProblemCode(
        _INVALID, "Reference pack unknown", "A reference pack does not exist."
    ),
    "budget-exceeded": ProblemCode(
        402, "Budget exceeded", "What is left of the day's limit does not cover it."
    ),
    "price-unknown": ProblemCode(
        500, "Price unknown", "The price catalogue does not list the model."
    ),
    "owner-invalid": ProblemCode(
        _INVALID, "Owner invalid", "The folder is not the name of an owner."
    ),
    "provider-rejected": ProblemCode(
        502, "Provider rejected", "The image provider gave no usable image for the request."
    ),
    "provider-blocked": ProblemCode(
        _INVALID, "Provider blocked", "The provider's content policy refused the request."
    ),
    "provider-rate-limited": ProblemCode(
        429, "Provider rate limit", "The image provider asks us to slow down."
    ),
    "provider-quota": ProblemCode(
        503, "Provider quota used up", "The account with the image provider has no quota left."
    ),
    "provider-auth": ProblemCode(
        502, "Provider refuses our key", "The image provider does not accept our credentials."
    ),
    "provider-unavailable": ProblemCode(
        503, "Provider unavailable", "The image provider could not be reached or failed."
    ),
    "provider-config": ProblemCode(
        500, "Provider misconfigured", "The provider or model is not set up correctly."
    ),
    "storage-conflict": ProblemCode(
        409, "Storage conflict", "An object was changed by somebody else, or is missing."
    ),
    "storage-unavailable": ProblemCode(
        503, "Storage unavailable", "The bucket could not be reached or refused us."
    ),
    "ledger-unavailable": ProblemCode(
        503, "Ledger unavailable", "The budget ledger could not be reached; nothing was spent."
    ),
    "cancelled": ProblemCode(409, "Cancelled", "An operator cancelled the batch."),
    "internal": ProblemCode(
        500, "Internal error", "Something went wrong on our side; the run's log says what."
    ),
}


def problem_document(error: BaseException, *, batch_id: str, instance: str) -> dict[str, object]:
    """The document for an error that ended a batch; `instance` is a UUID that the log also names.

    Raises:
        ValueError: `instance` is not a UUID.
    """
    code = error.code if isinstance(error, AssetgenError) else AssetgenError.code
    if not isinstance(error, AssetgenError) or code not in PROBLEM_CODES:
        fix = fix_naming(AssetgenError.fix, batch_id)
        return _document("internal", fix=fix, instance=instance)
    document = _document(code, fix=fix_naming(error.fix, batch_id), instance=instance)
    if error.resumes is not None:
        document["resumes"] = error.resumes
    match error:
        case BatchRejected():
            return document | _file_members(error)
        case BudgetRefused():
            return document | _budget_members(error)
        case ApprovalExpired():
            return document | {"detail": "The batch waited for approval until its time was up."}
        case RunDied():
            detail = "The process that worked on the batch ended before its work did."
            return document | {"detail": detail}
    return document


def fix_naming(fix: str, batch_id: str) -> str:
    """A fix with the batch's id in the place of the word `BATCH`."""
    return re.sub(r"\bBATCH\b", batch_id, fix)


def _document(code: str, *, fix: str, instance: str) -> dict[str, object]:
    said = PROBLEM_CODES[code]
    return {
        "type": _TYPE_PREFIX + code,
        "title": said.title,
        "status": said.status,
        "detail": said.detail,
        "instance": f"urn:uuid:{uuid.UUID(instance)}",
        "code": code,
        "fix": fix,
    }


def _file_members(error: BatchRejected) -> dict[str, object]:
    return {
        # One number for every rejected file, whichever of its problems comes first.
        "status": _INVALID,
        "detail": str(error),
        "errors_total": error.total,
        "errors": [
            {
                "line": problem.line,
                "column": problem.column,
                "code": problem.code,
                "detail": problem.detail,
            }
            for problem in error.problems
        ],
    }


def _budget_members(error: BudgetRefused) -> dict[str, object]:
    return {
        "detail": str(error),
        "estimate_usd": error.estimate.usd(),
        "headroom_usd": error.headroom.usd(),
        "limit_usd": error.limit.usd(),
        "resets_at": error.resets_at.isoformat(),
        "rows_that_fit": error.rows_that_fit,
    }
