"""What `docs/costs.md` tells analysts to run is run, and compared with the ledger."""

import re
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
import pytest
import sqlglot
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster_graphql.test.utils import execute_dagster_graphql
from sqlglot import exp

from assetgen_pipeline.domain.cost_facts import FACT_COLUMNS
from assetgen_pipeline.domain.day_spend import DAY_COLUMNS
from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.domain.generation import Billing, ErrorKind, ProviderError
from assetgen_pipeline.domain.money import total
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment

DOC = (Path(__file__).parents[2] / "docs" / "costs.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", DOC, flags=re.DOTALL)
QUESTIONS = {
    int(number): sql
    for number, sql in re.findall(r"^### (\d)\. .*?```sql\n(.*?)```", DOC, re.DOTALL | re.MULTILINE)
}
DUCKDB_ONLY = {7, 8}
VIEWS, *_ = [text for kind, text in BLOCKS if kind == "sql"]
[DDL] = [text for kind, text in BLOCKS if kind == "bigquery"]
[GRAPHQL] = [text for kind, text in BLOCKS if kind == "graphql"]
PYTHON = [text for kind, text in BLOCKS if kind == "python"][-1]

FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)
ADA, REFUSED = "ada.autumn.89abcdef", "studio.big.00000001"
LOST = ProviderError("lost", kind=ErrorKind.UNKNOWN_OUTCOME, billing=Billing.MAYBE)
HEADER = ["scene_id", "prompt", "reference_urls"]


@pytest.fixture(scope="module")
def spent(tmp_path_factory):
    """Two owners, two days: delivered, assumed, without a reference, refused and retried."""
    home = tmp_path_factory.mktemp("dagster")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        deployment = FakeDeployment(
            instance,
            provider=ScriptedProvider({"S2/1": [LOST, LOST, LOST, LOST]}),
            references={"https://slow.example/a.png": ReferenceUnfetched("it took too long")},
            limit_micros=50_000,
        )
        url = "https://slow.example/a.png"
        deployment.upload(
            a_csv(["S1", "a kitchen", ""], ["S2", "a harbour", ""], ["S3", "b", url], header=HEADER)
        )
        deployment.run()
        rows = [[f"S{n}", f"scene {n}"] for n in range(60)]
        deployment.upload(a_csv(*rows), batch_id=REFUSED)
        deployment.run(batch_id=REFUSED)
        deployment.clock.advance(timedelta(days=1))
        deployment.upload(
            a_csv(["S1", "a shop", url], ["S9", "c", ""], header=HEADER), batch_id=ADA
        )
        deployment.run(batch_id=ADA)
        deployment.run()
        for day in (FIRST, SECOND):
            assert deployment.publish_costs(day.isoformat()).success
        assert deployment.status(REFUSED).state is BatchState.REFUSED
        deployment.home = home
        yield deployment


@pytest.fixture(scope="module")
def ask(spent, tmp_path_factory):
    """Run a question of the page over the bucket's files, copied as the page says."""
    folder = tmp_path_factory.mktemp("bucket")
    for found in spent.store.list(""):
        copy = folder / found.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(spent.store.read(found.name))
    settings = {"file_search_path": str(folder)}
    with duckdb.connect(config=settings) as connection:
        connection.execute(VIEWS)

        def answer(number, **changes):
            sql = QUESTIONS[number]
            for old, new in changes.items():
                sql = sql.replace(f"{old}()", new)
            found = connection.execute(sql)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

        yield answer


def usd(money):
    return Decimal(money.usd())


def groups(spent):
    return [g for day in (FIRST, SECOND) for g in spent.ledger.day_spend(day).groups]


def paid(spent, batch_id):
    return [a for a in spent.ledger.attempts(batch_id) if a.cost is not None]


def cost(attempts):
    return usd(total([attempt.cost for attempt in attempts]))


def test_the_page_answers_nine_questions():
    assert sorted(QUESTIONS) == list(range(1, 10))


def test_1_every_batch_costs_what_the_ledger_booked(ask, spent):
    found = {row["batch_id"]: (row["cost_usd"], row["attempts"]) for row in ask(1)}

    assert found == {
        batch: (cost(paid(spent, batch)), len(spent.ledger.attempts(batch)))
        for batch in (BATCH_ID, ADA, REFUSED)
    }
    assert found[BATCH_ID][0] > found[ADA][0] > found[REFUSED][0] == 0


def test_2_every_owner_spent_what_the_ledger_settled(ask, spent):
    expected = Counter()
    for group in groups(spent):
        expected[group.owner] += usd(group.settled)

    assert {row["owner"]: row["cost_usd"] for row in ask(2)} == expected


def test_3_every_model_cost_what_the_ledger_settled(ask, spent):
    expected, attempts = Counter(), Counter()
    for group in groups(spent):
        if group.model:
            expected[group.provider, group.model] += usd(group.settled)
            attempts[group.provider, group.model] += group.attempts

    found = ask(3)

    assert {(row["provider"], row["model"]): row["cost_usd"] for row in found} == expected
    assert {(row["provider"], row["model"]): row["attempts"] for row in found} == attempts


def test_4_every_day_is_the_ledgers_day(ask, spent):
    days = {day: spent.ledger.day_spend(day) for day in (FIRST, SECOND)}

    assert [tuple(row.values()) for row in ask(4)] == [
        (
            day,
            usd(spend.settled),
            usd(spend.assumed),
            sum(group.refused_batches for group in spend.groups),
        )
        for day, spend in days.items()
    ]


def test_5_a_delivered_image_costs_its_owners_money_over_its_owners_images(ask, spent):
    money, images = Counter(), Counter()
    for batch in (BATCH_ID, ADA):
        owner = batch.split(".")[0]
        money[owner] += cost(paid(spent, batch))
        images[owner] += len({a.item_key for a in paid(spent, batch) if a.image is not None})

    found = {row["owner"]: row["usd_per_delivered"] for row in ask(5)}

    assert found == {owner: pytest.approx(float(money[owner] / images[owner])) for owner in money}


def test_6_what_was_paid_for_nothing_is_every_paid_attempt_without_an_image(ask, spent):
    wasted = [a for batch in (BATCH_ID, ADA) for a in paid(spent, batch) if a.image is None]

    found = ask(6)

    assert sum(row["cost_usd"] for row in found) == cost(wasted) > 0
    assert {row["cost_basis"] for row in found} == {"assumed"}
    assert {row["status"] for row in found} == {"failed", "retried"}


def test_7_hosts_that_fail_are_named_and_counted(ask):
    assert ask(7) == [{"host": "slow.example", "times": 2}]


def test_8_links_that_end_within_a_day_are_found_and_later_ones_are_not(ask, spent):
    soon = ask(8, now="TIMESTAMPTZ '2026-03-08 13:00:00+00'")
    later = ask(8, now="TIMESTAMPTZ '2026-03-08 11:00:00+00'")

    assert {row["batch_id"] for row in soon} == {BATCH_ID, ADA}
    assert later == []


def test_9_a_budget_burns_down_to_what_the_ledger_has_left(ask, spent):
    left = {(row["dt"], row["owner"]): row["left_usd"] for row in ask(9)}

    expected = {}
    for day in (FIRST, SECOND):
        for group in spent.ledger.day_spend(day).groups:
            if group.model:
                expected[day, group.owner] = usd(group.limit - group.settled)
    assert left == expected


@pytest.mark.parametrize("number", sorted(set(QUESTIONS) - DUCKDB_ONLY))
def test_the_plain_questions_parse_in_bigquerys_dialect(number):
    [statement] = sqlglot.parse(QUESTIONS[number], dialect="bigquery")

    assert isinstance(statement, exp.Select)


@pytest.mark.parametrize("table", ["costs", "cost_daily"])
def test_the_external_tables_parse_but_for_the_clause_that_sqlglot_does_not_know(table):
    clause = "WITH PARTITION COLUMNS (dt DATE)\n"
    statements = {
        statement.this.name: statement
        for statement in sqlglot.parse(DDL.replace(clause, ""), dialect="bigquery")
        if isinstance(statement, exp.Create)
    }

    options = {
        found.this.name: found.args["value"].sql(dialect="bigquery")
        for found in statements[table].find_all(exp.Property)
        if isinstance(found.this, exp.Var)
    }
    assert DDL.count(clause) == len(statements) == 2
    assert statements[table].find(exp.ExternalProperty)
    assert statements[table].find(exp.FileFormatProperty).this.name == "PARQUET"
    assert options == {
        "uris": f"['gs://BUCKET/{table}/*.parquet']",
        "hive_partition_uri_prefix": f"'gs://BUCKET/{table}'",
        "require_hive_partition_filter": "TRUE",
    }


@pytest.mark.parametrize("columns", [FACT_COLUMNS, DAY_COLUMNS])
def test_the_data_dictionary_is_the_catalogues(columns):
    rows = [f"| `{c.name}` | {c.type} | {c.description} |" for c in columns]

    assert "\n".join(rows) in DOC


def booked(spent):
    return {batch: total([a.cost for a in paid(spent, batch)]).micros for batch in (BATCH_ID, ADA)}


@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars` is deprecated")
def test_graphql_reads_what_the_ledger_booked(spent, monkeypatch, tmp_path):
    monkeypatch.setenv("ASSETGEN_HOME", str(tmp_path))
    target = LoadableTargetOrigin(
        executable_path="python",
        module_name="assetgen_pipeline.definitions",
        attribute="defs",
        working_directory=None,
        python_file=None,
        package_name=None,
    )
    location = InProcessCodeLocationOrigin(target, location_name="assetgen_pipeline")
    with WorkspaceProcessContext(
        spent.instance, InProcessWorkspaceLoadTarget(location), version="", read_only=True
    ) as workspace:
        answer = execute_dagster_graphql(
            workspace.create_request_context(), GRAPHQL, variables={"limit": 100}
        )

    found = {}
    for one in answer.data["assetOrError"]["assetMaterializations"]:
        numbers = {entry["label"]: entry.get("intRepr") for entry in one["metadataEntries"]}
        found.setdefault(one["partition"], int(numbers["cost_micros"]))
    assert found == booked(spent)


def test_fetch_materializations_reads_what_the_ledger_booked(spent, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(spent.home))
    names = {}

    exec(PYTHON, names)

    assert names["costs"] == booked(spent)
