"""Settings: one frozen model, validated once; the only module that reads the environment.

`docs/settings.md` lists every setting; a test compares the table with this model.
"""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from assetgen_pipeline.alert_settings import AlertSettings
from assetgen_pipeline.domain.bucket_layout import checked_owner
from assetgen_pipeline.domain.errors import AssetgenError, OwnerInvalid
from assetgen_pipeline.setting_forms import bucket_name, duration, ledger_address, strangers
from assetgen_pipeline.vendor_settings import VendorSettings

PREFIX = "ASSETGEN_"
# Read by Dagster, for `deploy/dagster.yaml`.
_LOG_BUCKET = f"{PREFIX}LOG_BUCKET"
MAX_URL_TTL = timedelta(days=7)
# Whole micros: money is never rounded silently.
Dollars = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)]


class SettingsInvalid(AssetgenError):
    """A setting has a value that it cannot have."""

    code = "settings-invalid"
    fix = "Correct the environment variable named; `docs/settings.md` lists them all."


class Settings(AlertSettings, VendorSettings):
    """What a deployment may choose; each field is the variable `ASSETGEN_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    home: Path = Field(
        Path(".assetgen"),
        description="All local state: Dagster storage, ledger, local bucket, signing key.",
    )
    bucket: Annotated[str, AfterValidator(bucket_name)] = Field(
        "assetgen-local", description="The bucket."
    )
    ledger_url: Annotated[str, AfterValidator(ledger_address)] = Field(
        "",
        description="`postgresql+psycopg://…` in production; empty means a SQLite file under `HOME`.",
    )
    provider: Literal["local", "gemini", "openai"] = Field(
        "local", description="Who makes the images."
    )
    model: str = Field(
        "", description="The model; empty means the catalogue's default for the provider."
    )
    catalogue: Path | None = Field(
        None, description="A TOML file whose models and prices go before the built-in ones."
    )
    daily_limit_usd: Dollars = Field(Decimal(10), description="Default limit per owner and day.")
    project_daily_limit_usd: Dollars | None = Field(
        None, description="A limit for the whole deployment and day; unset means none."
    )
    approval_above_usd: Dollars | None = Field(
        None,
        description="Batches with a higher estimate wait for `assetgen approve`; unset means none.",
    )
    approval_expires: timedelta = Field(
        timedelta(days=7),
        gt=timedelta(0),
        le=timedelta(days=3650),
        description="How long a batch waits for approval before it is cancelled.",
    )
    budget_time_zone: str = Field("UTC", description="Where midnight is.")
    reference_concurrency: int = Field(4, ge=1, le=4, description="Reference fetches at once.")
    reference_timeout_s: float = Field(
        10.0,
        gt=0,
        le=300,
        description="One deadline per attempt: DNS, connect, redirects and body.",
    )
    reference_retries: int = Field(
        2, ge=0, le=2, description="Further attempts, after 1 s and 2 s."
    )
    reference_allowed_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (),
        description="CIDRs exempt from the address guard, with any port and plain http; comma separated. A redirect from outside never leads there.",
    )
    reference_chunk: int = Field(500, ge=1, le=10_000, description="Unique URLs per fetch step.")
    reference_batch_deadline_s: float = Field(
        1800.0, gt=0, description="Time for all fetches of a batch."
    )
    generation_concurrency: int = Field(
        8, ge=1, le=256, description="Requests in flight and images in memory, together, per shard."
    )
    generation_pool: int = Field(2, ge=1, le=64, description="Shards at once on the deployment.")
    shard_rows: int = Field(250, ge=1, le=10_000, description="Rows per generation shard.")
    url_ttl: timedelta = Field(
        MAX_URL_TTL,
        ge=timedelta(seconds=1),
        le=MAX_URL_TTL,
        description="How long signed URLs work; at most 12 h where IAM signs.",
    )
    url_refresh_margin: timedelta = Field(
        timedelta(minutes=5), ge=timedelta(0), description="A URL with less left is signed anew."
    )
    url_refresh_retention: timedelta = Field(
        timedelta(days=90), ge=timedelta(0), description="How long published links are kept fresh."
    )
    signer: Literal["auto", "key_file", "iam", "local"] = Field(
        "auto", description="Who signs URLs; `local` is a throw-away key for the local bucket."
    )
    max_rows: int = Field(10_000, ge=1, le=1_000_000, description="Rows a file may have.")
    max_columns: int = Field(64, ge=2, le=1_000, description="Columns a file may have.")
    max_file_mib: int = Field(64, ge=1, le=1_024, description="MiB a file may have.")
    max_runs_per_tick: int = Field(
        20, ge=1, le=1_000, description="Runs that the inbox sensor requests at most in one tick."
    )
    inbox_owners: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(),
        description="The folders that this deployment's sensor takes, comma separated; empty means all.",
    )
    canary_min_hours: float = Field(
        24.0, ge=0, le=87_600, description="Hours at one canary percentage before it may be raised."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="Log lines; `auto` is text on a terminal and JSON anywhere else."
    )
    local_latency_s: float = Field(
        0.0, ge=0, le=600, description="Rehearsal: seconds that the local renderer waits per image."
    )
    local_failure_rate: float = Field(
        0.0, ge=0, le=1, description="Rehearsal: share of attempts that the local renderer fails."
    )
    local_seed: int = Field(0, description="Rehearsal: chooses which attempts fail.")
    chosen_dagster_home: str = Field(
        "",
        validation_alias="DAGSTER_HOME",
        description="Dagster's instance; empty means `HOME/dagster`, with the `dagster.yaml` of this release.",
    )

    @field_validator(
        "url_ttl",
        "url_refresh_margin",
        "url_refresh_retention",
        "approval_expires",
        "alert_inbox_lag",
        "alert_stuck_after",
        mode="before",
    )
    @classmethod
    def _read_duration(cls, value: object) -> object:
        return duration(value)

    @field_validator("reference_allowed_networks", mode="before")
    @classmethod
    def _read_networks(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
        return value

    @field_validator("inbox_owners", mode="before")
    @classmethod
    def _read_owners(cls, value: object) -> object:
        if isinstance(value, str):
            try:
                return frozenset(checked_owner(p.strip()) for p in value.split(",") if p.strip())
            except OwnerInvalid as error:
                # What pydantic turns into a complaint that names the variable.
                raise ValueError(str(error)) from error
        return value

    @field_validator("home")
    @classmethod
    def _absolute_home(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("budget_time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            message = "not a time zone of the IANA database"
            raise ValueError(message) from error
        return value

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance: the operator's, else ours under `HOME`."""
        chosen = self.chosen_dagster_home
        return Path(chosen).expanduser().absolute() if chosen else self.home / "dagster"

    @property
    def owns_dagster_home(self) -> bool:
        """Whether the instance is ours, so that its `dagster.yaml` follows the release."""
        return self.dagster_home == self.home / "dagster"

    @property
    def ledger_path(self) -> Path:
        """The embedded ledger's file."""
        return self.home / "ledger.db"

    @property
    def uses_local_bucket(self) -> bool:
        """Whether the shared local bucket of `HOME` stands in for Cloud Storage."""
        return not self.storage_emulator_host and self.bucket == "assetgen-local"


def log_format_wanted() -> str:
    """The form of log lines asked for, readable also where other settings are wrong."""
    return os.environ.get(f"{PREFIX}LOG_FORMAT", "auto")


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401 - fields of several types
    """Read the settings from the environment.

    Raises:
        SettingsInvalid: naming every variable that is wrong, and why.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [_complaint(details) for details in error.errors(include_input=False)]
        raise SettingsInvalid("; ".join(lines)) from None


def _complaint(details: Mapping[str, Any]) -> str:
    name = str(details["loc"][0]) if details["loc"] else "?"
    variable = name if name.isupper() else PREFIX + name.upper()
    return f"{variable}: {details['msg'].removeprefix('Value error, ')}"


def environment_for_children(settings: Settings) -> dict[str, str]:
    """This process's environment for a Dagster process that we start."""
    return {
        **os.environ,
        f"{PREFIX}HOME": str(settings.home),
        "DAGSTER_HOME": str(settings.dagster_home),
        "PYTHONWARNINGS": "ignore",
        "PYTHONUNBUFFERED": "1",
        # Threads that hold images for a moment would otherwise each keep an arena of their own.
        "MALLOC_ARENA_MAX": "2",
        # Starting a worker takes some 8 s of a free core; Dagster's default of 60 s is too
        # short where several start at once on a busy machine.
        "DAGSTER_GRPC_TIMEOUT_SECONDS": "300",
        "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "300",
    }


def adopt_dagster_home(settings: Settings) -> None:
    """Point this process's Dagster at our home, unless the operator chose another."""
    os.environ.setdefault("DAGSTER_HOME", str(settings.dagster_home))


def ignored_proxies() -> list[str]:
    """The proxy variables that are set; nothing that leaves for the internet here uses one."""
    names = {name for name in os.environ if name.lower().endswith("_proxy") and os.environ[name]}
    return sorted(names - {"NO_PROXY", "no_proxy"})


def unknown_variables() -> dict[str, str]:
    """The variables with our prefix that nothing reads, each with the name nearest to it."""
    ours = [name.upper() for name in os.environ if name.upper().startswith(PREFIX)]
    return strangers(ours, [*_variables().values(), _LOG_BUCKET])


def _variables() -> dict[str, str]:
    """The variable of each field."""
    return {
        name: str(field.validation_alias or PREFIX + name.upper())
        for name, field in Settings.model_fields.items()
    }


def secret_values(settings: Settings) -> list[str]:
    """Every secret among the settings, as it could stand in a text."""
    fields = (getattr(settings, name) for name in Settings.model_fields)
    secrets = [field.get_secret_value() for field in fields if isinstance(field, SecretStr)]
    # As SQLAlchemy reads it: everything up to the `@`, a `/` too.
    password = re.search(r"://[^:/@]*:([^@]*)@", settings.ledger_url)
    secrets.append(password[1] if password else "")
    return [secret for secret in secrets if secret]


def public_values(settings: Settings) -> dict[str, object]:
    """The settings by variable; secrets only as `set` or `unset`."""
    return {variable: _public(getattr(settings, name)) for name, variable in _variables().items()}


def _public(value: object) -> object:
    if isinstance(value, SecretStr):
        return "set" if value.get_secret_value() else "unset"
    return str(value)


def isolate(home: Path | None = None, **variables: str) -> None:
    """Make this process and its children a deployment of their own in `home`.

    No setting, credential or instance of the one that this machine runs is left; where no
    home is given, it stays where `HOME` says.
    """
    kept = str(home) if home is not None else os.environ.get(f"{PREFIX}HOME", "")
    others = ("STORAGE_EMULATOR_", "GOOGLE_", "GEMINI_", "OPENAI_", "DAGSTER_HOME")
    for name in [name for name in os.environ if name.startswith((PREFIX, *others))]:
        del os.environ[name]
    os.environ[f"{PREFIX}HOME"] = kept
    os.environ.update(variables)
