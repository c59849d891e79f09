"""The log of this process."""

import logging
import sys
from typing import Literal

from assetgen_pipeline.settings import log_format_wanted


def configure_logs(*, level: int) -> None:
    """Log to standard error in the form that the settings ask for, secrets blacked out."""
    from assetgen_pipeline.adapters.structured_logs import configure_structured_logs

    configure_structured_logs(form=_form(), level=level)


def open_run_logger(name: str) -> logging.Logger:
    """Where Dagster writes what it logs of a run, besides its event log."""
    from assetgen_pipeline.adapters.structured_logs import standard_error_logger

    return standard_error_logger(name, form=_form())


def _form() -> Literal["json", "text"]:
    wanted = log_format_wanted()
    as_text = wanted == "text" or (wanted != "json" and sys.stderr.isatty())
    return "text" if as_text else "json"
