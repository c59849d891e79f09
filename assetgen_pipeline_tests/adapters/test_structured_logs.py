"""Logs: one line per record, fields where they are known, and never a secret."""

import json
import logging
import subprocess
import sys

import pytest
import structlog

from assetgen_pipeline.adapters.structured_logs import configure_structured_logs, log_formatter

SECRETS = {
    "link": "https://storage.googleapis.com/b/o?X-Goog-Credential=CANARYname&X-Goog-Signature=CANARY0",
    "gemini": "AIzaCANARY0123456789",
    "openai": "sk-CANARY0123456789",
    "header": "Authorization: Bearer CANARY0123456789",
    "key": "-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----",
    "database": "postgresql://ledger:CANARY@db/ledger",
}
HOSTILE = 'x\n{"level":"critical"}\r\x1b[2J\u202e\u2028\x85end'


@pytest.fixture
def logs(capsys):
    """The lines that the process's real handlers wrote since the last look."""

    def lines():
        return capsys.readouterr().err.splitlines()

    return lines


def test_what_a_library_logs_through_structlog_is_a_line_of_ours_without_its_values(capsys):
    configure_structured_logs(form="json", level=logging.INFO)

    structlog.get_logger("stamina").warning("tried again", kwargs={"headers": "Bearer CANARY"})

    printed = capsys.readouterr()
    [line] = printed.err.splitlines()
    assert (json.loads(line)["logger"], json.loads(line)["message"]) == ("stamina", "tried again")
    assert printed.out == ""
    assert "CANARY" not in line


def our_logger():
    return logging.getLogger("assetgen_pipeline.stages.something")


def test_a_json_line_has_the_fields_that_are_known(logs):
    configure_structured_logs(form="json", level=logging.INFO)

    our_logger().info(
        "attempt",
        extra={"batch": "b", "owner": "ada", "scene": "S1", "attempt": 2, "cost": "0.002000"},
    )

    [line] = logs()
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "level": "info",
        "logger": "assetgen_pipeline.stages.something",
        "message": "attempt",
        "batch": "b",
        "owner": "ada",
        "scene": "S1",
        "attempt": 2,
        "cost": "0.002000",
    }


def test_a_text_line_is_readable_and_has_the_same_fields(logs):
    configure_structured_logs(form="text", level=logging.INFO)

    our_logger().warning("slow", extra={"batch": "b", "duration": 1.5})

    [line] = logs()
    assert line.endswith("warning  stages.something: slow  batch=b  duration=1.5")


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_no_secret_is_written_whether_in_message_argument_field_or_traceback(logs, form, secret):
    configure_structured_logs(form=form, level=logging.INFO)

    our_logger().info(f"said {secret}")
    our_logger().info("said %s to %s", secret, "them")
    our_logger().info("said", extra={"outcome": secret})
    our_logger().error("failed", exc_info=ValueError(secret))

    text = "\n".join(logs())
    assert "said" in text
    assert "CANARY" not in text


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_value_can_forge_a_line_or_move_the_cursor(logs, form):
    configure_structured_logs(form=form, level=logging.INFO)

    our_logger().info("prompt %s", HOSTILE, extra={"scene": HOSTILE})

    [line] = logs()
    assert not {char for char in line if not char.isprintable()}
    assert "end" in line


def test_a_traceback_in_text_cannot_be_taken_for_a_record(logs):
    configure_structured_logs(form="text", level=logging.INFO)

    our_logger().error("failed", exc_info=ValueError("x\n12:00:00 critical all money gone"))

    first, *others = logs()
    assert first.endswith("failed")
    assert others
    assert {line[:6] for line in others} == {"    | "}


def test_libraries_that_log_urls_are_quiet_below_warning(logs):
    # As a Google client leaves it that was made before logs were configured.
    logging.getLogger("google").propagate = False
    configure_structured_logs(form="json", level=logging.INFO)

    for name in ("httpx", "httpcore.http11", "urllib3.connectionpool", "google.auth"):
        logging.getLogger(name).info("GET https://x.test/?token=1")
        logging.getLogger(name).warning("odd")

    assert [json.loads(line)["message"] for line in logs()] == ["odd"] * 4


def test_handlers_of_other_libraries_get_a_message_without_secrets(logs):
    configure_structured_logs(form="json", level=logging.INFO)
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    theirs = logging.getLogger("dagster.builtin")
    theirs.addHandler(handler)
    try:
        theirs.warning("key %s", "AIzaCANARY0123456789")
    finally:
        theirs.removeHandler(handler)

    assert seen == ["key [redacted]"]


def test_the_arguments_of_a_record_without_secrets_are_left_to_its_handler(logs):
    configure_structured_logs(form="json", level=logging.INFO)

    record = logging.getLogger("uvicorn.access").makeRecord(
        "uvicorn.access", logging.INFO, "f", 1, "%s %s", ("GET", "/"), None
    )

    assert record.args == ("GET", "/")


def test_a_record_with_wrong_arguments_does_not_raise_where_it_is_made(logs):
    configure_structured_logs(form="json", level=logging.INFO)

    record = our_logger().makeRecord("x", logging.INFO, "f", 1, "%d", ("no number",), None)

    assert record.args == ("no number",)


def test_configuring_twice_writes_each_record_once(logs):
    configure_structured_logs(form="json", level=logging.INFO)
    configure_structured_logs(form="json", level=logging.INFO)

    our_logger().info("once")

    assert len(logs()) == 1


@pytest.mark.parametrize(
    "where", ["raise error", "t = threading.Thread(target=f); t.start(); t.join()"]
)
def test_a_crash_is_logged_without_its_secrets(where):
    program = f"""
import logging, threading
from assetgen_pipeline.adapters.structured_logs import configure_structured_logs
configure_structured_logs(form="json", level=logging.INFO)
error = ValueError("key AIzaCANARY0123456789")
def f():
    raise error
{where}
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    [line] = ended.stderr.splitlines()
    assert json.loads(line)["level"] == "critical"
    assert "ValueError" in line
    assert "CANARY" not in line


def test_the_formatter_serves_a_handler_of_ones_own():
    record = logging.makeLogRecord({"msg": "hello", "name": "x", "levelname": "INFO"})

    assert json.loads(log_formatter("json").format(record))["message"] == "hello"
