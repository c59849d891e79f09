"""The command as people call it, in this process."""

import json
import sys
from dataclasses import dataclass

import pytest

from assetgen_pipeline.cli.app import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def document(self):
        return json.loads(self.out)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def assetgen(home, monkeypatch, capsys):
    """Call `assetgen` with these words; its HOME is shared by the tests of a module."""
    monkeypatch.setenv("ASSETGEN_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))

    def call(*words):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["assetgen", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Answer(code=ended.value.code or 0, out=printed.out, err=printed.err)

    return call
