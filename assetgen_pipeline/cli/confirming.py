"""A question before what nobody can take back: asked on a terminal, where somebody can answer."""

import sys
from collections.abc import Callable

import click

from assetgen_pipeline.domain.errors import AssetgenError

yes_option = click.option(
    "--yes", is_flag=True, help="Do not ask first. Without a terminal nothing is asked."
)


class NotConfirmed(AssetgenError):
    """Whoever was asked did not say yes."""

    code = "not-confirmed"
    fix = "Answer y, or add --yes."


def confirm(question: Callable[[], str], *, yes: bool) -> None:
    """Go on where somebody says yes, where `yes` does, or where nobody can be asked.

    Raises:
        NotConfirmed: somebody said no.
    """
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    if not click.confirm(question(), err=True):
        message = "nothing was changed"
        raise NotConfirmed(message)
