"""When to stop asking a provider at all, so that ten thousand rows do not fail one by one."""

from assetgen_pipeline.domain.generation import ErrorKind, ProviderError

_IN_A_ROW = 10
LONGEST_WAIT_S = 900.0

ASKS_TO_WAIT = frozenset({ErrorKind.RATE_LIMITED, ErrorKind.OVERLOADED, ErrorKind.TRANSIENT})
_NO_ANSWER = frozenset(
    {
        ErrorKind.TRANSIENT,
        ErrorKind.RATE_LIMITED,
        ErrorKind.OVERLOADED,
        ErrorKind.UNKNOWN_OUTCOME,
    }
)


class CircuitBreaker:
    """Watches one model's failures; open, it says which of them opened it.

    A retry of the batch begins with a new one.
    """

    def __init__(self) -> None:
        """Begin closed."""
        self.opened_by: ProviderError | None = None
        self._silent = 0
        self._invalid = 0
        self._made_one = False
        self._waiting_since: float | None = None

    def succeeded(self) -> None:
        """An image came."""
        self._made_one = True
        self._answered()

    def failed(self, failure: ProviderError, *, now: float) -> None:
        """One attempt failed at `now`, in monotonic seconds."""
        if failure.rule.stops:
            self._open(failure)
        if failure.kind not in _NO_ANSWER:
            self._answered()
        if failure.kind is ErrorKind.INVALID_REQUEST and not self._made_one:
            self._invalid += 1
            self._open_after(self._invalid, failure)
        elif failure.kind is ErrorKind.UNKNOWN_OUTCOME:
            self._silent += 1
            self._open_after(self._silent, failure)
        elif failure.kind is ErrorKind.RATE_LIMITED:
            self._wait(failure, now)
        elif failure.kind in ASKS_TO_WAIT and (failure.retry_after_s or 0.0) > LONGEST_WAIT_S:
            self._open(failure)

    def gave_up(self, failure: ProviderError) -> None:
        """An image was given up after all its retries."""
        if failure.kind in {ErrorKind.TRANSIENT, ErrorKind.OVERLOADED}:
            self._silent += 1
            self._open_after(self._silent, failure)

    def _answered(self) -> None:
        self._silent = 0
        self._waiting_since = None

    def _wait(self, failure: ProviderError, now: float) -> None:
        """Rate limits are waited for, but not for ever, and never longer than that at once."""
        if self._waiting_since is None:
            self._waiting_since = now
        waited = now - self._waiting_since
        if max(waited, failure.retry_after_s or 0.0) > LONGEST_WAIT_S:
            self._open(failure)

    def _open_after(self, count: int, failure: ProviderError) -> None:
        if count >= _IN_A_ROW:
            self._open(failure)

    def _open(self, failure: ProviderError) -> None:
        if self.opened_by is None:
            self.opened_by = failure
