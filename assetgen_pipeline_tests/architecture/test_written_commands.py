"""Every command that the docs show is one that we have, with options that it takes."""

import re
import shlex
from pathlib import Path

import click
import pytest

from assetgen_pipeline.cli.app import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def written_commands():
    """Every call of ours in a code block or between backticks, with the page it stands on."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\|", "|")
        blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        lines += re.findall(r"`([^`\n]+)`", prose)
        for line in lines:
            call = re.match(r"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?assetgen ([a-z].*)", line)
            if call:
                yield page.name, re.split(r"\s+[#|>]\s?|\s+&&|\s{2,}", call[1])[0].strip()


@pytest.mark.parametrize(("page", "words"), sorted(set(written_commands())))
def test_every_command_in_the_docs_is_one_that_we_have(page, words):
    # `show|set OWNER`, `[--dry-run]` and `…` are how a table writes a choice.
    arguments = [word.strip("[]…").split("|")[0] for word in shlex.split(words)]
    command, context = cli, click.Context(cli)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        found = command.get_command(context, arguments[0])
        assert found is not None, f"no {arguments[0]!r} in {page}"
        command, context, arguments = found, click.Context(found), arguments[1:]

    command.make_parser(context).parse_args([word for word in arguments if word])


def test_the_docs_show_commands_at_all():
    assert len(set(written_commands())) > 60
