"""Docs, dashboard and alert rules name the metrics that exist, all of them and no others."""

import json
import re
from pathlib import Path

import pytest
import yaml

from assetgen_pipeline.domain.alerts import AlertKind
from assetgen_pipeline.domain.metric_families import FAMILIES

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
RULES = (ROOT / "deploy" / "alert-rules.yaml").read_text(encoding="utf-8")
DASHBOARD = (ROOT / "deploy" / "grafana-dashboard.json").read_text(encoding="utf-8")


def names_in(text):
    return set(re.findall(r"\bassetgen_[a-z_]+\b", text)) - {"assetgen_pipeline"}


def test_the_docs_describe_every_metric_in_its_own_words():
    rows = re.findall(r"^\| `(assetgen_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", DOCS, re.MULTILINE)

    assert rows == [
        (f.name, f.kind, ", ".join(f"`{label}`" for label in f.labels) or "none", f.help)
        for f in FAMILIES.values()
    ]


def test_docs_and_rules_name_no_metric_that_does_not_exist():
    assert names_in(DOCS) <= FAMILIES.keys()
    assert names_in(RULES) <= FAMILIES.keys()


def test_the_dashboard_shows_every_metric_and_no_other():
    assert names_in(DASHBOARD) == FAMILIES.keys()


def test_labels_in_queries_are_labels_of_their_metric():
    queries = [rule["expr"] for rule in the_rules()]
    queries += [t["expr"] for p in json.loads(DASHBOARD)["panels"] for t in p["targets"]]
    for query in queries:
        for name, matchers in re.findall(r"(assetgen_\w+)\{([^}]*)\}", query):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert used <= set(FAMILIES[name].labels), query


def test_only_counters_are_asked_for_their_increase():
    queries = [rule["expr"] for rule in the_rules()]
    queries += [t["expr"] for p in json.loads(DASHBOARD)["panels"] for t in p["targets"]]
    asked = [
        (function, name)
        for query in queries
        for function, name in re.findall(r"\b(i?rate|increase|i?delta)\(.*?(assetgen_\w+)", query)
    ]

    assert ("rate", "assetgen_attempts_total") in asked
    assert ("delta", "assetgen_cost_usd_total") in asked
    for function, name in asked:
        assert FAMILIES[name].kind == ("gauge" if "delta" in function else "counter"), name


def the_rules():
    [group] = yaml.safe_load(RULES)["groups"]
    return group["rules"]


def test_every_rule_says_how_bad_it_is_what_it_is_and_what_to_do():
    for rule in the_rules():
        assert rule["labels"]["severity"] in {"page", "warn", "info"}
        assert rule["annotations"].keys() == {"summary", "action"}
        assert names_in(rule["expr"])


def test_brackets_of_every_query_are_closed():
    for rule in the_rules():
        for opening, closing in ("()", "{}", "[]"):
            assert rule["expr"].count(opening) == rule["expr"].count(closing), rule["alert"]


def test_the_panels_of_the_dashboard_do_not_overlap():
    taken = set()
    for panel in json.loads(DASHBOARD)["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        assert grid["x"] + grid["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("page", [DOCS, RUNBOOK], ids=["monitoring", "runbook"])
def test_the_docs_describe_every_alert(page):
    assert [kind for kind in AlertKind if f"`{kind.value}`" not in page] == []


def test_the_runbook_names_no_alert_that_does_not_exist():
    named = re.findall(r"alerts?\s+`([^`]+)`(?:\s+and\s+`([^`]+)`)?", RUNBOOK)

    assert {name for pair in named for name in pair if name} <= set(AlertKind)
