"""Structured logs: JSON lines for machines, one line for people, nothing secret in either.

Every record is blacked out twice: its message when it is made, so that no handler of any
library (Dagster's event log among them) can write a secret, and its final text with fields
and traceback here. Values cannot forge lines: control and direction characters are escaped.
https://www.structlog.org/en/stable/standard-library.html
"""

import json
import logging
import sys
import threading
import unicodedata
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog

from assetgen_pipeline.domain.redaction import redact

FIELDS = (
    "batch",
    "owner",
    "scene",
    "variant",
    "attempt",
    "provider",
    "model",
    "outcome",
    "code",
    "cost",
    "duration",
    "run",
    "step",
    "alert",
)
# They log whole URLs, headers or bodies at INFO and below.
_NOISY = (
    "httpx",
    "httpcore",
    "httpx2",
    "httpcore2",
    "urllib3",
    "google",
    "google_genai",
    "openai",
    "alembic",
    "PIL",
)
_PACKAGE = "assetgen_pipeline"
_UNSAFE = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})

Event = MutableMapping[str, Any]


class _StandardErrorHandler(logging.StreamHandler[TextIO]):
    """Writes to the present `sys.stderr`, also after somebody replaced it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self.stream = sys.stderr
        super().emit(record)


def configure_structured_logs(*, form: Literal["json", "text"], level: int) -> None:
    """Send this process's log to standard error, `level` being that of our own modules."""
    formatter = log_formatter(form)
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _StandardErrorHandler)]:
        root.removeHandler(handler)
    handler = _StandardErrorHandler()
    handler.setFormatter(formatter)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(_PACKAGE).setLevel(level)
    for name in _NOISY:
        noisy = logging.getLogger(name)
        noisy.setLevel(logging.WARNING)
        # A Google client that was made before this keeps its logger's records to itself.
        noisy.propagate = True
    for theirs in logging.getLogger("dagster").handlers:
        if isinstance(theirs, logging.StreamHandler):
            theirs.setFormatter(formatter)
    if logging.getLogRecordFactory() is not _redacted_record:
        logging.setLogRecordFactory(_redacted_record)
    # Libraries that log through structlog (stamina) would print to standard output, which is
    # for results, and with every value they have at hand.
    structlog.configure(
        processors=[_event_alone],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    sys.excepthook = _log_crash
    threading.excepthook = _log_thread_crash


def log_formatter(form: Literal["json", "text"]) -> logging.Formatter:
    """The formatter of one form."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.stdlib.ExtraAdder(allow=FIELDS),
            _add_run_fields,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _redact_values,
            _as_json if form == "json" else _as_text,
        ],
    )


def standard_error_logger(name: str, *, form: Literal["json", "text"]) -> logging.Logger:
    """A logger beside all others that writes our form at INFO; for what Dagster logs of a run."""
    handler = _StandardErrorHandler()
    handler.setFormatter(log_formatter(form))
    # Not from the registry: records would go to the process's own handlers once more.
    logger = logging.Logger(name, level=logging.INFO)  # noqa: LOG001
    logger.addHandler(handler)
    return logger


def _event_alone(_logger: object, _name: str, event: Event) -> str:
    return str(event["event"])


def _add_run_fields(_logger: object, _name: str, event: Event) -> Event:
    """Run, step, batch and owner of what Dagster logs; its prefix of them leaves the message."""
    facts = getattr(event["_record"], "dagster_meta", None)
    if facts is None:
        return event
    tags = facts["job_tags"]
    known = {
        "run": facts["run_id"],
        "step": facts["step_key"],
        "batch": tags.get("assetgen/batch"),
        "owner": tags.get("assetgen/owner"),
    }
    # The message of a failed step has its error in it, which stands nowhere else.
    message = facts["orig_message"] if event["level"] == "info" else event["event"]
    return {**event, "event": message, **{name: value for name, value in known.items() if value}}


def escaped(text: str) -> str:
    r"""The text with whatever could end a line, move a cursor or turn reading round as `\x1b`."""
    return "".join(_escaped_character(char) for char in text)


def _escaped_character(char: str) -> str:
    if unicodedata.category(char) not in _UNSAFE:
        return char
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def _redact_values(_logger: object, _name: str, event: Event) -> Event:
    return {
        key: value if value is None or isinstance(value, int | float) else redact(str(value))
        for key, value in event.items()
    }


def _as_json(_logger: object, _name: str, event: Event) -> str:
    head = {
        "timestamp": event.pop("timestamp"),
        "level": event.pop("level"),
        "logger": event.pop("logger"),
        "message": event.pop("event"),
    }
    return json.dumps({**head, **event})


def _as_text(_logger: object, _name: str, event: Event) -> str:
    trace = event.pop("exception", None)
    clock = str(event.pop("timestamp"))[11:19]
    level, name = event.pop("level"), str(event.pop("logger")).removeprefix(f"{_PACKAGE}.")
    message = escaped(str(event.pop("event")))
    fields = "".join(f"  {key}={escaped(str(value))}" for key, value in event.items())
    line = f"{clock} {level:<8} {name}: {message}{fields}"
    # Behind a bar, a line of a traceback is never taken for a record of its own.
    frames = [f"\n    | {escaped(frame)}" for frame in str(trace).splitlines()] if trace else []
    return line + "".join(frames)


_plain_record = logging.getLogRecordFactory()


def _redacted_record(*args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: ANN401
    record = _plain_record(*args, **kwargs)
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):
        # Wrong arguments are the handler's to report, which names the place.
        return record
    clean = redact(message)
    if clean != message:
        record.msg, record.args = clean, ()
    return record


def _log_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger(_PACKAGE).critical("ended by a bug", exc_info=(kind, error, trace))


def _log_thread_crash(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        _log_crash(args.exc_type, args.exc_value, args.exc_traceback)
