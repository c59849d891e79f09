"""Fixtures that every test has: one event loop kind, an environment and a log of its own."""

import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack
from functools import cache

import pytest
import structlog
from hypothesis import HealthCheck, settings

from assetgen_pipeline.adapters.local_bucket import hold_local_bucket
from assetgen_pipeline.wiring import bucket
from assetgen_pipeline_tests.noon import NOON_ZONE
from assetgen_pipeline_tests.whole_stack import Up

# Tests of whole commands, which go by the real clock.
COMMANDS = {"cli", "crash", "end_to_end", "runbook"}

# A shell starts what it puts in the background with Ctrl-C ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is slow, not wrong; and what is tried is the same each time, so that a test
# fails by a change and not by chance. `--hypothesis-profile=explore` tries other things.
settings.register_profile(
    "explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=False
)
settings.register_profile(
    "same_each_time", settings.get_profile("explore"), derandomize=True, database=None
)
settings.load_profile("same_each_time")


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No test sees the settings, credentials or proxies of the machine it runs on."""
    ours = ("ASSETGEN_", "GOOGLE_", "GEMINI_", "OPENAI_", "STORAGE_EMULATOR_", "DAGSTER_")
    for name in list(os.environ):
        if name.startswith(ours) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    kept = set(os.environ)
    yield
    # A command that ran in this process may have adopted a DAGSTER_HOME.
    for name in set(os.environ) - kept:
        if name.startswith(ours):
            del os.environ[name]


@pytest.fixture(autouse=True)
def no_midnight(clean_environment, request, monkeypatch):
    """No budget day ends while commands run."""
    if request.path.parent.name in COMMANDS:
        monkeypatch.setenv("ASSETGEN_BUDGET_TIME_ZONE", NOON_ZONE)


@pytest.fixture(autouse=True)
def clean_logs():
    """A command that ran in this process set its log up: not for the next test."""
    root = logging.getLogger()
    # Asked for by name, because it is made only then.
    logging.getLogger("assetgen_pipeline")
    known = [one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    kept = [(one, one.level, one.propagate, one.disabled) for one in [root, *known]]
    handlers, factory = list(root.handlers), logging.getLogRecordFactory()
    hooks = sys.excepthook, threading.excepthook
    yield
    for logger, level, propagate, disabled in kept:
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, disabled
    for handler in [one for one in root.handlers if one not in handlers]:
        root.removeHandler(handler)
    logging.setLogRecordFactory(factory)
    structlog.reset_defaults()
    sys.excepthook, threading.excepthook = hooks


@pytest.fixture(autouse=True, scope="module")
def buckets_that_end():
    """What a command would hold until its process ends, a test process holds until the module does."""
    with ExitStack() as held, pytest.MonkeyPatch.context() as patched:
        hold = cache(lambda home: held.enter_context(hold_local_bucket(home)))
        patched.setattr(bucket, "_hold_until_exit", hold)
        yield


@pytest.fixture
def kept_environment():
    """Put the whole environment back, for what changes it on purpose; yields it."""
    kept = dict(os.environ)
    yield os.environ
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture
def stack(request, tmp_path, monkeypatch):
    """`assetgen up` in a HOME of its own, with the module's `STACK_SETTINGS`; not yet started."""
    home = tmp_path / "home"
    monkeypatch.setenv("ASSETGEN_HOME", str(home))
    up = Up(home, **getattr(request.module, "STACK_SETTINGS", {}))
    yield up
    up.stop()
