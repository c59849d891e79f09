"""What the docs say of settings, commands and metadata is what the code has."""

import json
import re
import runpy
from pathlib import Path

import pytest

from assetgen_pipeline.cli.app import _HIDDEN, _VERBS
from assetgen_pipeline.domain.outcome import RowStatus
from assetgen_pipeline.domain.result_columns import RESULT_COLUMNS

DOCS = Path(__file__).parents[2] / "docs"
README = (DOCS.parent / "README.md").read_text(encoding="utf-8")
TABLES = runpy.run_path(str(DOCS / "tables.py"))


@pytest.mark.parametrize("page", TABLES["TABLES"])
def test_the_tables_of_a_page_are_what_the_code_says(page):
    stands = (DOCS / f"{page}.md").read_text(encoding="utf-8")

    assert stands == TABLES["written"](page), "`make docs` writes it"


def test_a_key_without_a_meaning_is_not_written(monkeypatch):
    monkeypatch.delitem(TABLES["MEANINGS"], "shards")

    with pytest.raises(ValueError, match=r"\['shards'\]"):
        TABLES["metadata"]()


def test_every_verb_stands_in_the_readme():
    assert [verb for verb in _VERBS if verb not in _HIDDEN and f"`{verb}" not in README] == []


def test_the_readmes_settings_and_figures_are_those_of_their_pages():
    settings = re.findall(r"^\| `ASSETGEN_\w+` .*$", README, flags=re.MULTILINE)
    measured = README.split("## Measured")[1]
    _head, _line, *figures = re.findall(r"^\| [^|]+ \| ([^|]+) \|$", measured, re.MULTILINE)
    all_settings, all_figures = (
        (DOCS / page).read_text(encoding="utf-8") for page in ("settings.md", "figures.md")
    )

    assert (len(settings), len(figures)) == (12, 8)
    assert [row for row in settings if f"{row}\n" not in all_settings] == []
    assert [figure for figure in figures if figure not in all_figures] == []


def test_the_page_on_files_lists_every_column_and_status_of_results():
    results = (DOCS / "csv-format.md").read_text(encoding="utf-8").split("\n## Results\n")[1]
    columns, statuses = (
        re.findall(r"^\| `([a-z0-9_.]+)` \|", table, re.MULTILINE)
        for table in results.split("| status |")
    )

    assert [
        name.replace("1..3", str(variant))
        for name in columns
        for variant in (range(1, 4) if "1..3" in name else [0])
    ] == list(RESULT_COLUMNS)
    assert statuses == [status.value for status in RowStatus]


def test_decisions_are_numbered_one_by_one():
    pages = sorted((DOCS / "decisions").iterdir())

    numbers = [int(page.name[:4]) for page in pages]
    titles = [page.read_text(encoding="utf-8").partition(".")[0] for page in pages]
    assert numbers == list(range(1, len(pages) + 1))
    assert titles == [f"# {number}" for number in numbers]


def test_every_link_between_the_docs_leads_somewhere():
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    dead = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert dead == []


def test_no_lifecycle_rule_deletes_what_another_batch_may_use():
    rules = json.loads((DOCS.parent / "deploy" / "bucket-lifecycle.json").read_text())["rule"]
    results = {"images/", "thumbnails/", "references/", "artifacts/", "outbox/"}
    books = {"costs/", "cost_daily/"}
    deleted = {
        prefix
        for rule in rules
        if rule["action"]["type"] == "Delete" and rule["condition"].get("isLive", True)
        for prefix in rule["condition"]["matchesPrefix"]
    }

    assert deleted == {"artifacts/"}
    assert {p for r in rules for p in r["condition"].get("matchesPrefix", [])} <= results | books
