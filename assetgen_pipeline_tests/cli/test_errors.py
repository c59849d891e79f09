"""Whatever goes wrong, a command says it in one way: a code, a sentence, a fix, one document."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from assetgen_pipeline.cli import files
from assetgen_pipeline.cli.app import _HIDDEN, _VERBS, cli
from assetgen_pipeline_tests.builders import a_csv
from assetgen_pipeline_tests.command_tree import leaves


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nope"], "No such command 'nope'."),
        (["watch"], "Missing argument 'BATCH'."),
        (["run", "none.csv", "--owner", "ada"], "'none.csv' does not exist"),
        (["budget", "set", "ada", "--daily-usd", "-5"], "not an amount of dollars: '-5'"),
        (["costs", "--since", "soon"], "--since"),
        (["up", "--port", "99999"], "'--port'"),
        (["cancel", "ada.shoes.01234567", "--grace", "nan"], "'--grace'"),
        (["loadtest", "--latency-s", "nan"], "'--latency-s'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_called_wrongly_says_so_as_every_error_does(assetgen, words, sentence):
    answer = assetgen(*words, "--json")

    assert answer.code == 2
    error = answer.document["error"]
    assert error["code"] == "usage"
    assert sentence in error["detail"]
    assert error["fix"].startswith("`assetgen")
    assert answer.err.splitlines()[-2:] == [
        f"error  usage: {error['detail']}".splitlines()[-1],
        f"fix    {error['fix']}",
    ]


@pytest.mark.parametrize("verb", ["run", "up"])
def test_what_the_machine_lacks_is_said_before_anything_is_begun(
    assetgen, monkeypatch, tmp_path, verb
):
    file = tmp_path / "ok.csv"
    file.write_bytes(a_csv(["S1", "a kitchen"]))
    monkeypatch.setenv("ASSETGEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSETGEN_SIGNER", "key_file")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)

    answer = assetgen(*{"run": ["run", file, "--owner", "ada"], "up": ["up"]}[verb], "--json")

    error = answer.document["error"]
    assert (answer.code, error["code"]) == (2, "settings-invalid")
    assert error["detail"].startswith("GOOGLE_APPLICATION_CREDENTIALS: not set")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("words", [[], ["budget"], ["ledger"], ["rollout"]], ids=str)
def test_without_a_command_the_help_is_shown_and_a_sentence_says_what_is_missing(assetgen, words):
    answer = assetgen(*words)

    command = " ".join(["assetgen", *words])
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"Usage: {command} ")
    assert answer.err.splitlines()[-2:] == [
        "error  usage: no command is named",
        f"fix    `{command} --help` shows how it is called.",
    ]


@pytest.mark.parametrize("verb", ["metrics", "support-bundle"])
def test_a_file_that_cannot_be_written_is_named_and_is_no_bug_of_ours(assetgen, tmp_path, verb):
    file = tmp_path / "ok.csv"
    file.write_bytes(a_csv(["S1", "a kitchen"]))
    dropped = assetgen("submit", file, "--owner", "ada", "--json").document["batch_id"]
    about = [dropped] if verb == "support-bundle" else []

    answer = assetgen(verb, *about, "-o", tmp_path / "none" / "file", "--json")

    assert answer.code == 1
    error = answer.document["error"]
    assert error["code"] == "file-unusable"
    assert error["detail"].startswith(f"{tmp_path}/none/")
    assert error["detail"].endswith("No such file or directory")
    assert "Traceback" not in answer.err


def test_a_full_disk_behind_the_output_is_said_without_a_traceback():
    with Path("/dev/full").open("wb") as full:
        program = [sys.executable, "-m", "assetgen_pipeline", "template", "--json"]
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, check=False)

    assert done.returncode == 1
    assert b"file-unusable: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_a_bug_shows_its_traceback_and_then_an_error_like_every_other(assetgen, monkeypatch):
    def broken():
        raise KeyError("what we did not think of")

    monkeypatch.setattr(files, "template_csv", broken)

    answer = assetgen("template", "--json")

    assert answer.code == 1
    assert answer.document["error"]["code"] == "internal"
    assert "KeyError" in answer.document["error"]["detail"]
    assert "did not think of" not in answer.out
    assert "Traceback" in answer.err


def test_a_reader_that_has_enough_ends_a_command_without_a_traceback():
    program = [sys.executable, "-m", "assetgen_pipeline", "template"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.close()
        errors = child.stderr.read()

    assert b"Traceback" not in errors
    assert b"Exception ignored" not in errors


@pytest.mark.parametrize(
    ("words", "command"),
    list(leaves(cli)),
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_every_command_takes_json_and_has_a_help_text(words, command):
    assert "--json" in {flag for option in command.params for flag in option.opts}
    assert command.help
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert [option.opts for option in options if not option.help] == []


def test_every_verb_of_the_table_is_reached():
    assert {words[0] for words, _command in leaves(cli)} == set(_VERBS) - _HIDDEN


def test_the_template_as_json_is_the_template(assetgen):
    document = assetgen("template", "--json").document

    assert document["csv"] == assetgen("template").out
    assert document["columns"] == document["csv"].splitlines()[0].split(",")
    assert json.dumps(document)
