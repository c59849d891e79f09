"""The command `assetgen`: finds verbs, and turns errors into a code, a sentence and a fix."""

import errno
import importlib
import json
import logging
import os
import sys
import traceback
import warnings
from contextlib import suppress

import click

from assetgen_pipeline.domain.bucket_layout import is_batch_id
from assetgen_pipeline.domain.errors import (
    AssetgenError,
    BatchRejected,
    BudgetRefused,
    OwnerInvalid,
)
from assetgen_pipeline.domain.problems import fix_naming
from assetgen_pipeline.domain.redaction import redact
from assetgen_pipeline.settings import SettingsInvalid
from assetgen_pipeline.wiring.logs import configure_logs

# Verbs by module; a verb is imported when it is called, so that --help stays fast.
_VERBS = {
    "demo": ("demo", "Everything local: start, run the samples, show the results."),
    "up": ("stack", "Start bucket, web server and daemon on this machine."),
    "template": ("files", "Print a CSV to start from."),
    "validate": ("files", "Check a file and price it, offline."),
    "submit": ("files", "Drop a file in the inbox."),
    "run": ("running", "Run one file in this process; no daemon needed."),
    "retry": ("retrying", "Finish a batch: only what is not delivered."),
    "execute": ("running", ""),
    "cancel": ("cancelling", "Stop a batch; what is delivered stays."),
    "approve": ("approving", "Let a batch spend more than the approval limit."),
    "pause": ("pausing", "Stop an owner, a provider or everything for now."),
    "resume": ("pausing", "Go on with what is paused."),
    "watch": ("batches", "Follow a batch until it ends."),
    "status": ("batches", "The state of one batch, or of all."),
    "results": ("batches", "Copy a batch's result files into a folder."),
    "refresh-urls": ("links", "Sign a batch's links anew, or all that end soon."),
    "purge": ("purging", "Delete a batch's objects; its books stay."),
    "costs": ("money", "What was spent, by owner, day, model and more."),
    "budget": ("money", "Show budgets, or set an owner's daily limit."),
    "rollout": ("rollout", "Send some owners' batches to a candidate model; roll back."),
    "ledger": ("ledger", "Verify, recover, reconcile, back up, restore the ledger."),
    "loadtest": ("loadtest", "Drive 100 rows through everything, and judge the figures."),
    "metrics": ("metrics", "Print metrics for Prometheus."),
    "support-bundle": ("support_bundle", "Collect what explains a batch, without secrets."),
    "doctor": ("doctor", "Check every dependency, and say how to mend it."),
}
_HIDDEN = {"execute"}
# What is wrong with a path that somebody named, or with the disk behind it; any other is a bug.
_FILE_TROUBLES = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
}
_FILE_FIX = (
    "Name another path, or make room and permissions there; `ASSETGEN_HOME` says where state is."
)


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
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        rows = [(name, _VERBS[name][1]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="assetgen-pipeline", prog_name="assetgen")
@click.pass_context
def cli(context: click.Context) -> None:
    """CSVs of prompts in, images and costs out; safely with money."""
    working = context.invoked_subcommand in _HIDDEN
    configure_logs(level=logging.INFO if working else logging.WARNING)


def exit_code_of(error: AssetgenError) -> int:
    """The exit code that an error means."""
    match error:
        case BatchRejected() | OwnerInvalid() | SettingsInvalid():
            return 2
        case BudgetRefused():
            return 3
        case _:
            return 1


def main() -> None:
    """Run a verb; every error is a code, one sentence and a fix, and one document with --json."""
    if not sys.warnoptions:
        # Preview notices of libraries are for developers; -W shows them.
        warnings.simplefilter("ignore")
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.exceptions.NoArgsIsHelpError as error:
        code = error.exit_code
        click.echo(error.format_message(), err=True)
        _report("usage", "no command is named", fix=_help_for(error))
    except click.ClickException as error:
        code = error.exit_code
        _report("usage", error.format_message(), fix=_help_for(error))
    except AssetgenError as error:
        code = exit_code_of(error)
        _report(error.code, str(error), fix=error.fix)
    except BrokenPipeError:
        # Whoever read our output has enough; nothing is left to be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:  # noqa: BLE001 - the last resort: a file's trouble, or a bug
        code = 1
        if isinstance(error, OSError) and error.errno in _FILE_TROUBLES:
            named = f"{error.filename}: " if error.filename is not None else ""
            _report("file-unusable", f"{named}{error.strerror}", fix=_FILE_FIX)
        else:
            _report_bug(error)
    sys.exit(code if isinstance(code, int) else 0)


def _report_bug(error: Exception) -> None:
    """Show it whole, then in one line."""
    click.echo(redact("".join(traceback.format_exception(error))), err=True)
    _report(
        "internal",
        f"a bug of ours: {type(error).__name__}; the traceback above says where",
        fix=AssetgenError.fix,
    )


def _report(code: str, sentence: str, *, fix: str) -> None:
    named = next((word for word in sys.argv[1:] if is_batch_id(word)), None)
    fix = fix if named is None else fix_naming(fix, named)
    if "--json" in sys.argv[1:]:
        document = {"error": {"code": code, "detail": sentence, "fix": fix}}
        # The output may be what fails.
        with suppress(OSError):
            print(json.dumps(document), flush=True)
    click.echo(f"error  {code}: {sentence}\nfix    {fix}", err=True)


def _help_for(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command_path if context is not None else "assetgen"
    return f"`{command.replace('__main__.py', 'assetgen')} --help` shows how it is called."
