"""`assetgen metrics` on a real bucket, ledger and instance."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from assetgen_pipeline.domain.metric_families import FAMILIES

CSV = "scene_id,prompt\nS1,a kitchen\nS2,a harbour\n"


def values(text):
    return {
        (found.name, *found.labels.values()): found.value
        for family in text_string_to_metric_families(text)
        for found in family.samples
    }


@pytest.mark.timeout(600)
def test_after_a_batch_books_bucket_and_instance_are_in_the_numbers(assetgen, tmp_path):
    file = tmp_path / "batch.csv"
    file.write_text(CSV, encoding="utf-8")
    assert assetgen("run", file, "--owner", "ada").code == 0

    answer = assetgen("metrics")

    assert answer.code == 0
    found = values(answer.out)
    assert found["assetgen_images", "delivered"] == 2
    assert found["assetgen_rows", "delivered"] == 2
    assert found["assetgen_attempts_total", "local", "delivered"] == 2
    assert found["assetgen_cost_usd_total", "ada", "local"] > 0
    assert found["assetgen_held_usd", "ada"] == 0
    assert found["assetgen_batches", "completed"] == 1
    assert found["assetgen_open_holds",] == 0
    assert found["assetgen_pool_slots", "reference_fetch"] == 1
    assert found["assetgen_urls_expiring_batches", "24h"] == 0
    assert {found["assetgen_source_up", source] for source in ("ledger", "bucket", "dagster")} == {
        1
    }
    # What a quiet deployment has no label values for.
    quiet = {"assetgen_inflight_usd", "assetgen_runs"}
    assert FAMILIES.keys() - {name for name, *_ in found} <= quiet


def test_a_source_that_is_away_is_named_and_hides_no_other(assetgen, monkeypatch):
    monkeypatch.setenv("ASSETGEN_LEDGER_URL", "sqlite:////dev/null/ledger.db")

    answer = assetgen("metrics")

    found = values(answer.out)
    assert answer.code == 1
    assert found["assetgen_source_up", "ledger"] == 0
    assert found["assetgen_source_up", "bucket"] == 1
    assert found["assetgen_source_up", "dagster"] == 1
    assert "assetgen_pool_slots" in answer.out


def test_a_bucket_that_is_away_is_not_taken_for_dagster(assetgen, monkeypatch, tmp_path):
    monkeypatch.setenv("ASSETGEN_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    (tmp_path / "bucket.users").mkdir()

    answer = assetgen("metrics")

    found = values(answer.out)
    assert answer.code == 1
    assert found["assetgen_source_up", "bucket"] == 0
    assert found["assetgen_source_up", "dagster"] == 1
    assert "assetgen_pool_slots" in answer.out
    assert "assetgen_batches" not in answer.out


def test_a_file_is_written_whole_and_nothing_is_printed(assetgen, tmp_path):
    target = tmp_path / "assetgen.prom"

    answer = assetgen("metrics", "-o", target)

    assert answer.out == ""
    assert values(target.read_text(encoding="utf-8"))["assetgen_source_up", "bucket"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["assetgen.prom"]


def test_a_file_and_a_document_can_be_had_at_once(assetgen, tmp_path):
    target = tmp_path / "assetgen.prom"

    answer = assetgen("metrics", "-o", target, "--json")

    assert {one["name"] for one in answer.document} >= {"assetgen_build_info"}
    assert "assetgen_build_info" in target.read_text(encoding="utf-8")


def test_with_json_the_same_numbers_are_one_document(assetgen):
    answer = assetgen("metrics", "--json")

    assert {one["name"] for one in answer.document} >= {"assetgen_build_info", "assetgen_dead_runs"}
