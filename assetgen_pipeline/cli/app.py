"""The command `assetgen`: finds verbs, and turns errors into a code, a sentence and a fix."""

import importlib
import json
import sys
import warnings
from typing import Any

import click

from assetgen_pipeline.domain.errors import AssetgenError, BatchRejected, BudgetRefused

# Verbs by module; a verb is imported when it is called, so that --help stays fast.
_VERBS = {
    "demo": ("demo", "Everything local: start, run the samples, show the results."),
    "up": ("stack", "Start bucket, web server and daemon on this machine."),
    "template": ("files", "Print a CSV to start from."),
    "validate": ("files", "Check a file and price it, offline."),
    "submit": ("files", "Drop a file in the inbox."),
    "run": ("running", "Run one file in this process; no daemon needed."),
    "retry": ("running", "Finish a batch: only what is not delivered."),
    "execute": ("running", ""),
    "watch": ("batches", "Follow a batch until it ends."),
    "status": ("batches", "The state of one batch, or of all."),
    "results": ("batches", "Copy a batch's result files into a folder."),
    "costs": ("money", "What was spent, by owner, day, model and more."),
    "budget": ("money", "Show or set an owner's daily limit."),
    "ledger": ("money", "Verify the ledger's invariants."),
    "doctor": ("doctor", "Check every dependency, and say how to mend it."),
}
_HIDDEN = {"execute"}


class Verbs(click.Group):
    """A group whose verbs are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of the table above."""
        del ctx
        return [name for name in _VERBS if name not in _HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        del ctx
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"assetgen_pipeline.cli.{_VERBS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        rows = [(name, _VERBS[name][1]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="assetgen-pipeline", prog_name="assetgen")
def cli() -> None:
    """CSVs of prompts in, images and costs out; safely with money."""


def exit_code_of(error: AssetgenError) -> int:
    """The exit code that an error means."""
    match error:
        case BatchRejected():
            return 2
        case BudgetRefused():
            return 3
        case _:
            return 1


def error_document(error: AssetgenError) -> dict[str, Any]:
    """An error as JSON."""
    return {"error": {"code": error.code, "detail": str(error), "fix": error.fix}}


def main() -> None:
    """Run a verb; every expected error is a code, one sentence and a fix."""
    if not sys.warnoptions:
        # Preview notices of libraries are for developers; -W shows them.
        warnings.simplefilter("ignore")
    as_json = "--json" in sys.argv[1:]
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except AssetgenError as error:
        if as_json:
            print(json.dumps(error_document(error)))
        click.echo(f"error  {error.code}: {error}\nfix    {error.fix}", err=True)
        code = exit_code_of(error)
    sys.exit(code if isinstance(code, int) else 0)
