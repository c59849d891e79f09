"""Fault injection: every call to the outside is a step, and each step can be the last.

Wrap the ports of a deployment in one `Faults`, run something once to count its steps, then
run it again for each of them and let the process die or the call fail there.
"""

import functools
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any


class Killed(BaseException):
    """The process is gone: no handler of ours may do anything after it."""


class Faults:
    """Steps of wrapped ports, in order; the first fault that was asked for strikes once.

    Each call is two steps: it begins, and it has taken effect (its answer may be lost).
    """

    def __init__(
        self, *, strike_at: int | None = None, only: str = "", error: Exception | None = None
    ) -> None:
        """Strike at the step of this number, counted from 1; without one, only count.

        `only` counts the steps of one port. With an `error` the call fails, else the
        process dies.
        """
        self.steps: list[str] = []
        self._strike_at = strike_at
        self._only = only
        self._error = error
        self._dead = False
        self._lock = threading.Lock()

    def wrap(self, name: str, port: Any) -> Any:  # noqa: ANN401 - any port, and it stays one
        """The same port, with each of its calls a step."""
        return _Wrapped(self, name, port)

    def step(self, label: str) -> None:
        """Count one step.

        Raises:
            Killed: the process dies here, or died before.
            Exception: the error that was asked for.
        """
        with self._lock:
            if self._dead:
                raise Killed(label)
            if not label.startswith(self._only):
                return
            self.steps.append(label)
            if len(self.steps) == self._strike_at:
                self._dead = self._error is None
                raise self._error or Killed(label)


class _Wrapped:
    """Stands in front of a port."""

    def __init__(self, faults: Faults, name: str, port: Any) -> None:  # noqa: ANN401
        self._faults = faults
        self._name = name
        self._port = port

    def __getattr__(self, verb: str) -> Any:  # noqa: ANN401
        found = getattr(self._port, verb)
        if not callable(found):
            return found
        label = f"{self._name}.{verb}"
        if inspect.iscoroutinefunction(found):
            return self._steps_of_coroutine(label, found)
        return self._steps_of_call(label, found)

    def _steps_of_call(self, label: str, found: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(found)
        def call(*args: Any, **options: Any) -> Any:  # noqa: ANN401
            self._faults.step(f"{label} begins")
            answer = found(*args, **options)
            self._faults.step(f"{label} took effect")
            return answer

        return call

    def _steps_of_coroutine(
        self, label: str, found: Callable[..., Awaitable[Any]]
    ) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(found)
        async def call(*args: Any, **options: Any) -> Any:  # noqa: ANN401
            self._faults.step(f"{label} begins")
            answer = await found(*args, **options)
            self._faults.step(f"{label} took effect")
            return answer

        return call
