"""The console log of a run, in our form: Dagster's own would be lines of another kind.

The event log in Dagster's database has every event; this has what a person follows.
https://docs.dagster.io/guides/log-debug/logging/custom-logging
"""

import logging
from typing import Any

import dagster as dg

from assetgen_pipeline.wiring.logs import open_run_logger

CONSOLE = "console"
# The job's default run config: Dagster uses a logger only where run config names it.
RUN_LOG_CONFIG: dict[str, Any] = {"loggers": {CONSOLE: {}}}


def _open(init_context: dg.InitLoggerContext) -> logging.Logger:
    del init_context
    return open_run_logger("dagster")


console_logger = dg.LoggerDefinition(
    _open, description="One line per message at INFO and above: JSON, or text on a terminal."
)
