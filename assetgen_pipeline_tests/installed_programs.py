"""Programs that some tests need and a machine may lack: a browser, a spreadsheet, a proxy."""

import os
import shutil

import pytest


def require_program(name, package):
    """The program's path; skips where it is not installed (fails in CI)."""
    # Debian's servers are where only root looks.
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if path is not None:
        return path
    reason = f"{name} is not installed (apt-get install {package})"
    if os.environ.get("CI") == "true":  # noqa: TID251
        pytest.fail(f"CI must have it: {reason}")
    return pytest.skip(reason)
