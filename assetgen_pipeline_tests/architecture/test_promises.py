"""docs/promises.md: every promise has tests that exist, every number is the setting's default or the constant."""

import importlib
import re
from datetime import timedelta
from pathlib import Path

import pytest

from assetgen_pipeline.setting_forms import duration
from assetgen_pipeline.settings import Settings

TESTS = Path(__file__).parents[1]
PROMISES = TESTS.parent / "docs" / "promises.md"


def promised():
    """The rows of the tables: all cells of each."""
    lines = PROMISES.read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return [row for row in rows if row[0] not in {"promise", "---"}]


@pytest.mark.parametrize("row", promised(), ids=lambda row: row[0])
def test_every_promise_names_tests_that_exist(row):
    named = re.findall(r"`([a-z_0-9/]+\.py)(?:::(test_\w+))?`", row[-1])

    assert named
    for file, test in named:
        benchmark = file.startswith("benchmarks/")
        text = ((TESTS.parent if benchmark else TESTS) / file).read_text(encoding="utf-8")
        assert (
            f"def {test}(" in text if test else ("def main" if benchmark else "def test_") in text
        )


@pytest.mark.parametrize("row", promised(), ids=lambda row: row[0])
def test_every_promised_number_is_the_default_of_its_setting(row):
    for name, shown in re.findall(r"`([A-Z_]+)` = ([^,\s|]+)", " ".join(row)):
        default = Settings.model_fields[name.lower()].default
        expected = duration(shown) if isinstance(default, timedelta) else type(default)(shown)
        assert default == expected


def constants():
    """Every constant that a promise names, with the value that it shows."""
    text = PROMISES.read_text(encoding="utf-8")
    return re.findall(r"`([a-z_.]+)\.([A-Z_]+)` = ([^,\s|]+)", text)


@pytest.mark.parametrize(("module", "name", "shown"), constants())
def test_every_promised_number_is_the_constant_in_code(module, name, shown):
    assert str(getattr(importlib.import_module(f"assetgen_pipeline.{module}"), name)) == shown


def test_promises_name_constants_at_all():
    assert len(constants()) >= 6
