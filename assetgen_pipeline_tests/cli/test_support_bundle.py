"""The support bundle: what explains a batch, and no secret, wherever one was planted."""

import json
import zipfile

import pytest

from assetgen_pipeline.adapters.sql_ledger import SqlLedger
from assetgen_pipeline.cli import support_bundle
from assetgen_pipeline.domain.errors import LedgerUnavailable
from assetgen_pipeline.settings import load_settings, public_values, secret_values

PLANTED = {
    "GEMINI_API_KEY": "gemini-KANARIE-key",
    "OPENAI_API_KEY": "openai-KANARIE-key",
    "ASSETGEN_ALERT_WEBHOOK_URL": "https://hooks.test/services/KANARIETOKEN",
}
CSV = (
    "scene_id,prompt,note\n"
    "S1,a kitchen sk-KANARIE0123456789,Authorization: Bearer KANARIE0123456789\n"
    "S2,a harbour,see https://x.test/a.png?X-Goog-Signature=KANARIE\n"
)


@pytest.fixture
def planted(monkeypatch):
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def batch_id(assetgen, tmp_path, planted):
    file = tmp_path / "batch.csv"
    file.write_text(CSV, encoding="utf-8")
    answer = assetgen("run", file, "--owner", "ada", "--json")
    assert answer.code == 0
    return answer.document["batch_id"]


def contents(path):
    with zipfile.ZipFile(path) as bundle:
        assert bundle.testzip() is None
        return {name: bundle.read(name).decode() for name in bundle.namelist()}


@pytest.mark.timeout(600)
def test_the_bundle_explains_the_batch_and_holds_none_of_the_secrets_planted(
    assetgen, home, batch_id, tmp_path
):
    log = home / "logs" / "dagster-daemon.log"
    links = (
        "GET https://storage.googleapis.com/b/o?X-Goog-Credential=KANARIE&X-Goog-Signature=KANARIE"
    )
    secrets = " ".join(PLANTED.values())
    log.write_text(f"{links}\nusing {secrets}\nlast line\n", encoding="utf-8")

    answer = assetgen("support-bundle", batch_id, "-o", tmp_path / "b.zip", "--json")

    assert answer.code == 0
    files = contents(tmp_path / "b.zip")
    assert answer.document["contents"] == list(files)
    assert [name for name, text in files.items() if "KANARIE" in text] == []
    assert "KANARIE" not in (tmp_path / "b.zip").read_bytes().decode("latin-1")
    assert json.loads(files["status.json"])["state"] == "completed"
    ledger = json.loads(files["ledger.json"])
    assert len(ledger["attempt"]) == 2
    assert len(ledger["hold"]) == 1
    assert ledger["journal"]
    assert "a kitchen" in files["artifacts/batch_requests.json"]
    [run] = [text for name, text in files.items() if name.startswith("runs/")]
    assert "STEP_SUCCESS" in run or "Finished execution" in run
    assert "last line" in files["logs/dagster-daemon.log"]
    assert json.loads(files["settings.json"])["GEMINI_API_KEY"] == "set"
    assert json.loads(files["settings.json"])["ASSETGEN_BUCKET"] == "assetgen-local"
    assert {one["subject"] for one in json.loads(files["doctor.json"])} >= {"bucket", "ledger"}
    assert "dagster 1.13.27" in files["versions.txt"]
    assert "assetgen_source_up" in files["metrics.prom"]
    assert not [name for name in files if "results.csv" in name or "contact-sheet" in name]
    assert not [name for name in files if name.endswith(".error.txt")]


def test_a_log_that_is_cut_begins_with_a_whole_line(tmp_path, monkeypatch):
    monkeypatch.setattr(support_bundle, "_TAIL_BYTES", 30)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "long.log").write_bytes(b"using AIzaKANARIE0123456789\nlast line\n")
    (tmp_path / "logs" / "short.log").write_bytes(b"first line\n")

    ends = dict(support_bundle._from_logs(load_settings(home=tmp_path)))

    assert ends == {"logs/long.log": "last line\n", "logs/short.log": "first line\n"}


def test_what_cannot_be_collected_is_said_and_the_rest_is_there(
    assetgen, batch_id, tmp_path, monkeypatch
):
    def away(self, batch_id):
        raise LedgerUnavailable("gemini-KANARIE-key does not open it")

    monkeypatch.setattr(SqlLedger, "batch_slice", away)

    answer = assetgen("support-bundle", batch_id, "-o", tmp_path / "b.zip")

    files = contents(tmp_path / "b.zip")
    assert answer.code == 0
    assert files["ledger.error.txt"] == "LedgerUnavailable: [redacted] does not open it\n"
    assert "status.json" in files
    assert "settings.json" in files


def test_an_id_that_is_none_is_refused(assetgen, tmp_path):
    answer = assetgen("support-bundle", "../../etc/passwd", "-o", tmp_path / "b.zip")

    assert answer.code != 0
    assert not (tmp_path / "b.zip").exists()


@pytest.mark.parametrize("password", ["pw-KANARIE", "pw/KANARIE", "pw%40KANARIE"])
def test_every_secret_of_the_settings_is_known_and_none_is_public(planted, monkeypatch, password):
    monkeypatch.setenv("ASSETGEN_LEDGER_URL", f"postgresql+psycopg://ledger:{password}@db/ledger")

    settings = load_settings()

    assert set(secret_values(settings)) == {*PLANTED.values(), password}
    shown = json.dumps({k: v for k, v in public_values(settings).items() if "LEDGER" not in k})
    assert "KANARIE" not in shown


def test_a_batch_that_left_no_trace_is_not_found_and_no_file_is_written(assetgen, tmp_path):
    answer = assetgen("support-bundle", "nobody.nothing.01234567", "-o", tmp_path / "b.zip")

    assert answer.code == 1
    assert "error  batch-not-found: nobody.nothing.01234567 " in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_inbox_and_a_source_that_is_away_are_traces(assetgen, tmp_path, monkeypatch):
    file = tmp_path / "late.csv"
    file.write_text(CSV, encoding="utf-8")
    dropped = assetgen("submit", file, "--owner", "ada", "--json").document["batch_id"]
    settings = load_settings()

    assert not support_bundle._is_unknown(dropped, settings)
    monkeypatch.setenv("ASSETGEN_LEDGER_URL", "sqlite:////dev/null/ledger.db")
    assert not support_bundle._is_unknown("nobody.nothing.01234567", load_settings())
