"""The rules of the house that no linter knows."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "assetgen_pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMED_AFTER_NOTHING = {
    "utils",
    "util",
    "helpers",
    "common",
    "core",
    "base",
    "misc",
    "manager",
    "constants",
    "types",
}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_is_small_named_after_its_thing_and_says_what_it_holds(module):
    text = module.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 320
    assert module.stem not in NAMED_AFTER_NOTHING
    assert ast.get_docstring(ast.parse(text))


def test_attempt_tokens_are_minted_by_ledgers_and_by_nothing_else():
    minting = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if "AttemptToken.mint(" in path.read_text(encoding="utf-8")
    }

    assert all("ledger" in path for path in minting)
    assert len(minting) >= 2


def test_the_lock_names_no_registry_and_hashes_every_package():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if "==" in line and not line.startswith((" ", "#"))]
    hashes = [line for line in lines if line.strip().startswith("--hash=sha256:")]

    assert not [line for line in lines if "://" in line or line.startswith("--")]
    assert len(hashes) >= len(pins) > 50


def test_dagster_and_its_libraries_are_pinned_as_one_release():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {d.split("==")[0]: d.split("==")[1] for d in project["dependencies"] if "==" in d}

    assert pins["dagster"] == pins["dagster-webserver"]
    assert pins["dagster-gcp"].split(".")[-1] == pins["dagster"].split(".")[-1]
    assert pins["dagster-shared"] == pins["dagster"]


def test_every_library_that_is_imported_is_one_that_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["local"], *extras["postgres"], *extras["duckdb"]]
    names = {re.split(r"[^A-Za-z0-9_-]", line)[0].lower().replace("_", "-") for line in asked}

    assert {module for module in set(imported()) if not distributions_of(module) & names} == set()


def imported():
    """What the package imports from elsewhere: top-level modules, and those below `google`."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module]
            else:
                continue
            for module in modules:
                top, *rest = module.split(".")
                if top not in sys.stdlib_module_names and top != PACKAGE.name:
                    yield ".".join([top, *rest[:1]]) if top == "google" else top


def distributions_of(module):
    """The installed distributions that have files of a module."""
    folder = f"{module.replace('.', '/')}/"
    if "." not in module:
        return {
            name.lower().replace("_", "-")
            for name in importlib.metadata.packages_distributions().get(module, [])
        }
    return {
        found.metadata["Name"].lower()
        for found in importlib.metadata.distributions()
        if any(str(file).startswith(folder) for file in found.files or [])
    }
