"""Settings: read once, checked wholly, and refused by name."""

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from assetgen_pipeline.setting_forms import duration
from assetgen_pipeline.settings import (
    SettingsInvalid,
    environment_for_children,
    ignored_proxies,
    isolate,
    load_settings,
    unknown_variables,
)


@pytest.fixture
def environment(monkeypatch):
    def choose(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return choose


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        (" 7 d ", timedelta(days=7)),
    ],
)
def test_durations_are_a_number_and_a_unit(text, expected):
    assert duration(text) == expected


@pytest.mark.parametrize(
    "text", ["7", "d", "-1d", "1w", "1.5h", "1h30m", "٣d", "9" * 5000 + "d", ""]
)
def test_text_that_is_no_duration_is_left_for_the_model(text):
    assert duration(text) == text


def test_the_defaults_are_those_of_the_contract():
    settings = load_settings()

    assert settings.bucket == "assetgen-local"
    assert settings.provider == "local"
    assert str(settings.daily_limit_usd) == "10"
    assert settings.url_ttl == timedelta(days=7)
    assert settings.url_refresh_margin == timedelta(minutes=5)
    assert (settings.max_rows, settings.max_runs_per_tick, settings.shard_rows) == (10_000, 20, 250)
    assert (settings.max_file_mib, settings.max_columns) == (64, 64)
    assert (settings.reference_concurrency, settings.reference_retries) == (4, 2)
    assert (settings.generation_concurrency, settings.generation_pool) == (8, 2)
    assert settings.uses_local_bucket


def test_durations_networks_and_owners_are_read_from_text(environment):
    settings = environment(
        ASSETGEN_URL_TTL="12h",
        ASSETGEN_REFERENCE_ALLOWED_NETWORKS="10.0.0.0/8, fd00::/8,",
        ASSETGEN_INBOX_OWNERS="ada, ben,",
    )

    assert settings.url_ttl == timedelta(hours=12)
    assert settings.reference_allowed_networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert settings.inbox_owners == {"ada", "ben"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ASSETGEN_MAX_ROWS", "abc"),
        ("ASSETGEN_MAX_ROWS", "0"),
        ("ASSETGEN_URL_TTL", "8d"),
        ("ASSETGEN_URL_TTL", "0s"),
        ("ASSETGEN_URL_TTL", "PT0.5S"),
        ("ASSETGEN_URL_TTL", "soon"),
        ("ASSETGEN_CANARY_MIN_HOURS", "inf"),
        ("ASSETGEN_APPROVAL_EXPIRES", "999999999d"),
        ("ASSETGEN_REFERENCE_CONCURRENCY", "5"),
        ("ASSETGEN_REFERENCE_RETRIES", "3"),
        ("ASSETGEN_REFERENCE_ALLOWED_NETWORKS", "10.0.0.1/8"),
        ("ASSETGEN_REFERENCE_ALLOWED_NETWORKS", "intranet"),
        ("ASSETGEN_BUDGET_TIME_ZONE", "Mars/Olympus"),
        ("ASSETGEN_BUDGET_TIME_ZONE", "../../etc/passwd"),
        ("ASSETGEN_PROVIDER", "midjourney"),
        ("ASSETGEN_BUCKET", "b"),
        ("ASSETGEN_BUCKET", "Acme Images"),
        ("ASSETGEN_BUCKET", "gs://acme"),
        ("ASSETGEN_BUCKET", "acme..images"),
        ("ASSETGEN_BUCKET", "acme-"),
        ("ASSETGEN_BUCKET", "a" * 64),
        ("ASSETGEN_LEDGER_URL", "mysql://me:secret@db/ledger"),
        ("ASSETGEN_LEDGER_URL", "postgresql://me:secret@db/ledger"),
        ("ASSETGEN_LEDGER_URL", "postgresql+psycopg"),
        ("ASSETGEN_DAILY_LIMIT_USD", "-1"),
        ("ASSETGEN_DAILY_LIMIT_USD", "NaN"),
        ("ASSETGEN_DAILY_LIMIT_USD", "lots"),
        ("ASSETGEN_DAILY_LIMIT_USD", "0.0000001"),
        ("ASSETGEN_PROJECT_DAILY_LIMIT_USD", "5.0000001"),
        ("ASSETGEN_APPROVAL_ABOVE_USD", "1e-7"),
        ("ASSETGEN_LOCAL_FAILURE_RATE", "1.5"),
        ("ASSETGEN_INBOX_OWNERS", "ada,Not An Owner"),
        ("GOOGLE_GENAI_USE_VERTEXAI", "perhaps"),
        ("GOOGLE_GEMINI_BASE_URL", "localhost:8080"),
        ("GOOGLE_VERTEX_BASE_URL", "ftp://host"),
        ("OPENAI_BASE_URL", "http://host/v1?key=1"),
        ("OPENAI_BASE_URL", "http://user@host/v1"),
        ("ASSETGEN_ALERT_SMTP_SERVER", "mail:smtp"),
        ("ASSETGEN_ALERT_SMTP_SERVER", "mail:99999"),
        ("ASSETGEN_ALERT_SMTP_SERVER", "[::1]:25"),
        ("ASSETGEN_ALERT_EMAIL", "oncall@shop.test\nBcc: all@shop.test"),
        ("ASSETGEN_ALERT_EMAIL_FROM", "no address"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(environment, name, value):
    with pytest.raises(SettingsInvalid) as caught:
        environment(**{name: value})

    assert str(caught.value).startswith(f"{name}: ")
    assert "environment variable" in caught.value.fix
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["acme_images-1", "images.acme.example", "a" * 63])
def test_what_a_bucket_can_be_called_is_taken(environment, name):
    assert environment(ASSETGEN_BUCKET=name).bucket == name


def test_all_wrong_values_are_named_at_once(environment):
    with pytest.raises(SettingsInvalid) as caught:
        environment(ASSETGEN_MAX_ROWS="abc", ASSETGEN_SIGNER="me", ASSETGEN_URL_TTL="soon")

    assert all(f"ASSETGEN_{n}: " in str(caught.value) for n in ("MAX_ROWS", "SIGNER", "URL_TTL"))


def test_sdk_settings_keep_their_names_and_an_empty_variable_is_an_unset_one(environment):
    settings = environment(
        GEMINI_API_KEY="secret",
        GOOGLE_GENAI_USE_VERTEXAI="1",
        GOOGLE_CLOUD_PROJECT="ours",
        GOOGLE_CLOUD_LOCATION="",
        OPENAI_BASE_URL="http://127.0.0.1:8080/v1",
    )

    assert settings.use_vertexai
    assert (settings.vertex_project, settings.vertex_location) == ("ours", "global")
    assert settings.openai_base_url == "http://127.0.0.1:8080/v1"
    assert "secret" not in repr(settings)
    assert not environment(GOOGLE_GENAI_USE_VERTEXAI="").use_vertexai


def test_home_is_absolute_wherever_the_process_stands(environment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert environment(ASSETGEN_HOME="state").home == tmp_path / "state"
    assert environment(ASSETGEN_HOME="~/state").home == Path.home() / "state"


def test_settings_do_not_change():
    settings = load_settings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.max_rows = 5


def test_secrets_do_not_show(environment):
    settings = environment(GEMINI_API_KEY="AIza-secret", OPENAI_API_KEY="sk-secret")

    assert settings.gemini_api_key.get_secret_value() == "AIza-secret"
    assert "secret" not in repr(settings).replace("SecretStr", "")


@pytest.mark.parametrize(
    ("variables", "local"),
    [
        ({}, True),
        ({"ASSETGEN_BUCKET": "acme-images"}, False),
        ({"STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"}, False),
    ],
)
def test_the_local_bucket_stands_in_only_where_nothing_else_is_named(environment, variables, local):
    assert environment(**variables).uses_local_bucket is local


def test_children_share_home_and_dagsters_home(environment, tmp_path):
    settings = environment(ASSETGEN_HOME=str(tmp_path), OPENAI_API_KEY="sk-1")

    children = environment_for_children(settings)

    assert children["ASSETGEN_HOME"] == str(tmp_path)
    assert children["DAGSTER_HOME"] == str(tmp_path / "dagster")
    assert children["OPENAI_API_KEY"] == "sk-1"


def test_the_instance_that_the_operator_chose_is_the_one_of_parent_and_children(
    environment, tmp_path
):
    chosen = tmp_path / "theirs"

    settings = environment(ASSETGEN_HOME=str(tmp_path / "home"), DAGSTER_HOME=str(chosen))

    assert settings.dagster_home == chosen
    assert environment_for_children(settings)["DAGSTER_HOME"] == str(chosen)
    assert not settings.owns_dagster_home


def test_without_a_choice_the_instance_stands_under_home(environment, tmp_path):
    settings = environment(ASSETGEN_HOME=str(tmp_path))

    assert settings.dagster_home == tmp_path / "dagster"
    assert environment_for_children(settings)["DAGSTER_HOME"] == str(tmp_path / "dagster")
    assert settings.owns_dagster_home


def test_isolating_leaves_nothing_of_the_machines_own_deployment(kept_environment, tmp_path):
    theirs = {
        "ASSETGEN_LEDGER_URL": "postgresql+psycopg://a:b@db/l",
        "ASSETGEN_BUCKET": "production",
        "GEMINI_API_KEY": "real",
        "OPENAI_API_KEY": "real",
        "GOOGLE_APPLICATION_CREDENTIALS": "/key.json",
        "STORAGE_EMULATOR_HOST": "x",
        "DAGSTER_HOME": "/opt/dagster",
    }
    kept_environment.update(theirs)

    isolate(tmp_path, ASSETGEN_PROVIDER="gemini")

    settings = load_settings()
    assert not theirs.keys() & kept_environment.keys()
    assert (settings.home, settings.provider) == (tmp_path, "gemini")
    assert settings.uses_local_bucket


def test_a_deployment_of_its_own_stays_in_home(tmp_path, kept_environment):
    kept_environment.update({"ASSETGEN_HOME": str(tmp_path), "ASSETGEN_PROVIDER": "gemini"})

    isolate()

    assert (load_settings().home, load_settings().provider) == (tmp_path, "local")


def test_proxies_that_are_set_are_named(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test")
    monkeypatch.setenv("http_proxy", "")
    monkeypatch.setenv("NO_PROXY", "localhost")

    assert ignored_proxies() == ["HTTPS_PROXY"]


def test_variables_that_are_no_setting_are_named_with_the_nearest_that_is(monkeypatch):
    for name in ("ASSETGEN_DAILY_LIMIT", "ASSETGEN_GENERATON_POOL", "ASSETGEN_XYZZY"):
        monkeypatch.setenv(name, "5")
    for name in ("ASSETGEN_MAX_ROWS", "assetgen_shard_rows", "ASSETGEN_LOG_BUCKET", "GENERATON"):
        monkeypatch.setenv(name, "5")

    assert unknown_variables() == {
        "ASSETGEN_DAILY_LIMIT": "ASSETGEN_DAILY_LIMIT_USD",
        "ASSETGEN_GENERATON_POOL": "ASSETGEN_GENERATION_POOL",
        "ASSETGEN_XYZZY": "",
    }
