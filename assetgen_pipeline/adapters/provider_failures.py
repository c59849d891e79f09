"""What a failed attempt means: the table of HTTP statuses, and what was lost on the way.

The wording is ours throughout. Of what an upstream says, only codes get through, and only
if they look like codes.
"""

import re
from collections.abc import Mapping

from assetgen_pipeline.adapters.paid_wire import Attempt
from assetgen_pipeline.domain.generation import Billing, ErrorKind, ProviderError
from assetgen_pipeline.domain.money import Money

OK = 200
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
# A limit that takes longer than this to reset is a quota, not a rate.
_QUOTA_WAIT_S = 1_800.0

_BY_STATUS: Mapping[int, ErrorKind] = {
    400: ErrorKind.INVALID_REQUEST,
    401: ErrorKind.AUTH,
    402: ErrorKind.QUOTA_EXHAUSTED,
    403: ErrorKind.AUTH,
    404: ErrorKind.FATAL_CONFIG,
    405: ErrorKind.FATAL_CONFIG,
    407: ErrorKind.FATAL_CONFIG,
    408: ErrorKind.TRANSIENT,
    409: ErrorKind.TRANSIENT,
    410: ErrorKind.FATAL_CONFIG,
    425: ErrorKind.TRANSIENT,
    429: ErrorKind.RATE_LIMITED,
    451: ErrorKind.CONTENT_BLOCKED,
    499: ErrorKind.UNKNOWN_OUTCOME,
    501: ErrorKind.FATAL_CONFIG,
    503: ErrorKind.OVERLOADED,
    504: ErrorKind.UNKNOWN_OUTCOME,
    # The edge in front of many APIs: 520 and 524 are answers lost between it and the API.
    520: ErrorKind.UNKNOWN_OUTCOME,
    524: ErrorKind.UNKNOWN_OUTCOME,
    529: ErrorKind.OVERLOADED,
    598: ErrorKind.UNKNOWN_OUTCOME,
    599: ErrorKind.UNKNOWN_OUTCOME,
}
_BY_CLASS: Mapping[int, ErrorKind] = {
    2: ErrorKind.BAD_OUTPUT,
    3: ErrorKind.FATAL_CONFIG,
    4: ErrorKind.INVALID_REQUEST,
    5: ErrorKind.TRANSIENT,
}
_SENTENCES: Mapping[ErrorKind, str] = {
    ErrorKind.TRANSIENT: "the provider failed",
    ErrorKind.RATE_LIMITED: "the provider asks us to slow down",
    ErrorKind.OVERLOADED: "the provider is overloaded",
    ErrorKind.UNKNOWN_OUTCOME: "no answer came after the request was sent; it may be billed",
    ErrorKind.NO_OUTPUT: "the provider answered without an image",
    ErrorKind.CONTENT_BLOCKED: "the provider's content policy refused the request",
    ErrorKind.INVALID_REQUEST: "the provider rejects the request",
    ErrorKind.AUTH: "the provider does not accept our credentials or account",
    ErrorKind.QUOTA_EXHAUSTED: "the account's quota or credit is used up",
    ErrorKind.FATAL_CONFIG: "the provider has no such model or address",
    ErrorKind.BAD_OUTPUT: "the provider's answer cannot be read",
}


def status_kind(status: int) -> ErrorKind:
    """What an HTTP status means where nothing more is said."""
    return _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, ErrorKind.BAD_OUTPUT)


def failure(
    kind: ErrorKind,
    *,
    said: str = "",
    hint: str = "",
    billing: Billing | None = None,
    retry_after_s: float | None = None,
    cost: Money | None = None,
    cost_basis: str = "usage",
    request_id: object = "",
) -> ProviderError:
    """One failed attempt in our words; `said` is what the vendor's codes were."""
    sentence = _SENTENCES[kind] + (f" ({said})" if said else "") + (f"; {hint}" if hint else "")
    return ProviderError(
        sentence,
        kind=kind,
        billing=billing,
        retry_after_s=retry_after_s,
        cost=cost,
        cost_basis=cost_basis,
        request_id=clean_request_id(request_id),
    )


def http_failure(
    kind: ErrorKind,
    status: int,
    *codes: object,
    hint: str = "",
    retry_after_s: float | None = None,
    request_id: object = "",
    billed_errors: tuple[int, ...] = (),
) -> ProviderError:
    """An HTTP error answer; billed only where the catalogue says that the model does so."""
    if kind is ErrorKind.RATE_LIMITED and (retry_after_s or 0) > _QUOTA_WAIT_S:
        kind = ErrorKind.QUOTA_EXHAUSTED
    said = ", ".join(filter(None, dict.fromkeys((f"HTTP {status}", *map(clean_code, codes)))))
    return failure(
        kind,
        said=said,
        hint=hint,
        billing=Billing.MAYBE if status in billed_errors else None,
        retry_after_s=retry_after_s,
        request_id=request_id,
    )


def lost(attempt: Attempt, *, billed_errors: tuple[int, ...] = ()) -> ProviderError:
    """No whole answer came: unbilled if nothing can have arrived, unknown otherwise."""
    if not attempt.sent:
        return ProviderError("the provider could not be reached", kind=ErrorKind.TRANSIENT)
    if attempt.too_large:
        return failure(ErrorKind.BAD_OUTPUT, said="larger than any image")
    if attempt.status is None or attempt.status == OK:
        return failure(ErrorKind.UNKNOWN_OUTCOME)
    return unreadable(attempt, billed_errors=billed_errors)


def unreadable(attempt: Attempt, *, billed_errors: tuple[int, ...] = ()) -> ProviderError:
    """An answer came whose body tells nothing: its status must do."""
    status = attempt.status or OK
    if status == OK:
        return failure(ErrorKind.BAD_OUTPUT)
    return http_failure(status_kind(status), status, billed_errors=billed_errors)


def clean_code(code: object) -> str:
    """A vendor's code if it looks like one, else nothing."""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def clean_request_id(text: object) -> str:
    """A vendor's name for a request if it looks like one, else nothing."""
    return text if isinstance(text, str) and _REQUEST_ID.fullmatch(text) else ""
