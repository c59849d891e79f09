"""The names of all objects in the bucket, and the ids that they are made of.

The one place where an object name is put together or taken apart. Names are built
from validated parts only; the owner is the folder that a file was dropped in.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from assetgen_pipeline.domain.errors import OwnerInvalid

INBOX = "inbox/"
OUTBOX = "outbox/"
COSTS = "costs/"
EXPIRY_INDEX = "index/expiry/"
DRY_RUN_FOLDER = "dry-run"
WAITING = "index/waiting/"

_OWNER = re.compile(r"\A[a-z0-9][a-z0-9_-]{0,62}\Z")
_BATCH_ID = re.compile(r"\A(?P<owner>[a-z0-9][a-z0-9_-]{0,62})\.[A-Za-z0-9_-]{1,64}\.[0-9a-f]{8}\Z")
# The name becomes a tag of a run, and PostgreSQL takes no NUL: the sensor would fail at it for ever.
# Surrogates are bytes of another encoding than UTF-8, the only one that names of objects have.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_STEM_LENGTH = 64
_HOUR = "%Y-%m-%dT%H"
MAX_PACK_ID_CHARACTERS = 128

suffix_of_type = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
# What packs may hold: every suffix that we write, and the other spelling of JPEG.
type_of_suffix = {suffix: mime for mime, suffix in suffix_of_type.items()} | {"jpeg": "image/jpeg"}


def checked_owner(owner: str) -> str:
    """Return `owner` as it is.

    Raises:
        OwnerInvalid: not a name that the contract allows.
    """
    if not _OWNER.match(owner):
        message = f"{owner[:80]!r} is not an owner's name"
        raise OwnerInvalid(message)
    return owner


def is_batch_id(text: str) -> bool:
    """Whether `text` has the form of a batch id."""
    return bool(_BATCH_ID.match(text))


def owner_of(batch_id: str) -> str:
    """The owner whose budget a batch uses.

    Raises:
        OwnerInvalid: `batch_id` is not a batch id.
    """
    match = _BATCH_ID.match(batch_id)
    if match is None:
        message = f"{batch_id[:160]!r} is not a batch id"
        raise OwnerInvalid(message)
    return match["owner"]


def slug(stem: str) -> str:
    """A file stem with every run of other characters turned into one hyphen."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:_STEM_LENGTH].strip("-") or "batch"


def batch_id_for(*, owner: str, stem: str, bucket: str, name: str, generation: int) -> str:
    """The batch id of one drop: the same object generation always gives the same id."""
    drop = hashlib.sha256(f"{bucket}\n{name}\n{generation}".encode()).hexdigest()
    return f"{checked_owner(owner)}.{slug(stem)}.{drop[:8]}"


@dataclass(frozen=True, slots=True)
class Drop:
    """A CSV in the inbox: whose it is, and whether it asks for a dry run."""

    name: str
    owner: str
    stem: str
    dry_run: bool

    def batch_id(self, *, bucket: str, generation: int) -> str:
        """The batch that this generation of it is."""
        return batch_id_for(
            owner=self.owner, stem=self.stem, bucket=bucket, name=self.name, generation=generation
        )


def parse_drop(name: str) -> Drop | None:
    """What an inbox object means; `None` where it is not a batch at all."""
    parts = name.removeprefix(INBOX).split("/")
    if not name.startswith(INBOX) or not _OWNER.match(parts[0]):
        return None
    dry_run = parts[1:-1] == [DRY_RUN_FOLDER]
    if not (len(parts) == 2 or dry_run) or not parts[-1].lower().endswith(".csv"):  # noqa: PLR2004
        return None
    stem = parts[-1][: -len(".csv")]
    if not stem or _CONTROL.search(stem):
        return None
    return Drop(name=name, owner=parts[0], stem=stem, dry_run=dry_run)


def inbox_name(owner: str, file_name: str, *, dry_run: bool) -> str:
    """Where a file is dropped."""
    folder = f"{DRY_RUN_FOLDER}/" if dry_run else ""
    return f"{INBOX}{checked_owner(owner)}/{folder}{file_name}"


@dataclass(frozen=True, slots=True)
class BatchFolder:
    """The names of one batch's objects."""

    batch_id: str

    @property
    def owner(self) -> str:
        """The owner whose batch it is."""
        return owner_of(self.batch_id)

    @property
    def prefix(self) -> str:
        """The folder itself, with its slash."""
        return f"{OUTBOX}{self.owner}/{self.batch_id}/"

    @property
    def request(self) -> str:
        """The claimed input, byte for byte."""
        return self.prefix + "request.csv"

    @property
    def status(self) -> str:
        """The state now."""
        return self.prefix + "status.json"

    @property
    def results(self) -> str:
        """Every row with its images or its reason."""
        return self.prefix + "results.csv"

    @property
    def failed(self) -> str:
        """The rows not wholly delivered, to drop again."""
        return self.prefix + "failed.csv"

    @property
    def manifest(self) -> str:
        """The lossless results."""
        return self.prefix + "manifest.json"

    @property
    def contact_sheet(self) -> str:
        """The page to look at."""
        return self.prefix + "contact-sheet.html"

    @property
    def problem(self) -> str:
        """Why the batch was rejected, refused or failed."""
        return self.prefix + "problem.json"

    @property
    def control(self) -> str:
        """What an operator ordered: the stop marker, or the rows of a retry."""
        return self.prefix + "control.json"

    @property
    def approval(self) -> str:
        """Who approved the batch, when, and for how much."""
        return self.prefix + "approval.json"

    @property
    def waiting(self) -> str:
        """The index entry that says what the batch waits for."""
        return WAITING + self.batch_id

    def artifact(self, asset: str) -> str:
        """Where one asset's artifact stands."""
        return f"artifacts/{self.batch_id}/{asset}.json"

    def op_artifact(self, run_id: str, step: str, mapping_key: str | None) -> str:
        """Where the output of an inner op stands."""
        key = f"[{mapping_key}]" if mapping_key else ""
        return f"artifacts/{self.batch_id}/{run_id}/{step}{key}.json"

    def fetch_history(self, run_id: str) -> str:
        """Where the fetch steps of one run tell each other what they learnt."""
        return f"artifacts/{self.batch_id}/{run_id}/fetch_history.json"

    def costs(self, budget_date: str) -> str:
        """Where the batch's cost facts stand; `budget_date` is `YYYY-MM-DD`."""
        return f"{COSTS}dt={budget_date}/{self.batch_id}.parquet"

    def expiry(self, expires_at: datetime) -> str:
        """The index entry that says in which UTC hour this batch's links expire."""
        return f"{EXPIRY_INDEX}{expires_at.astimezone(UTC).strftime(_HOUR)}/{self.batch_id}"


def parse_expiry(name: str) -> tuple[datetime, str] | None:
    """The UTC hour and the batch of an index entry; `None` where it is something else."""
    hour, _, batch_id = name.removeprefix(EXPIRY_INDEX).partition("/")
    if not name.startswith(EXPIRY_INDEX) or not is_batch_id(batch_id):
        return None
    try:
        return datetime.strptime(hour, _HOUR).replace(tzinfo=UTC), batch_id
    except ValueError:
        return None


def image_name(owner: str, image_id: str, mime_type: str) -> str:
    """Where an image's bytes stand; `image_id` is the content address of its request."""
    return image_prefix(owner, image_id) + suffix_of_type[mime_type]


def image_prefix(owner: str, image_id: str) -> str:
    """What an image's name begins with, whatever its type."""
    return f"images/{owner}/{image_id[:2]}/{image_id}."


def thumbnail_name(owner: str, image_id: str) -> str:
    """Where an image's thumbnail stands."""
    return f"thumbnails/{owner}/{image_id[:2]}/{image_id}.jpg"


def reference_name(owner: str, sha256: str, mime_type: str) -> str:
    """Where a re-encoded reference image stands; `sha256` is of the bytes as fetched."""
    return f"references/{owner}/{sha256}.{suffix_of_type[mime_type]}"


def day_costs_name(budget_date: str) -> str:
    """Where the sums of one budget day stand; `budget_date` is `YYYY-MM-DD`."""
    return f"cost_daily/dt={budget_date}/day.parquet"


def reference_index_name(owner: str) -> str:
    """Where it stands which URLs gave which of an owner's reference images."""
    return f"references/{owner}/index.json"


def is_pack_id(text: str) -> bool:
    """Whether `text` can name one folder under `packs/`, of a bucket or of a file system."""
    unsafe = any(char in "/\\" or not char.isprintable() for char in text)
    return not unsafe and text not in {"", ".", ".."} and len(text) <= MAX_PACK_ID_CHARACTERS


def pack_prefix(pack_id: str) -> str:
    """The folder of a reference pack."""
    return f"packs/{pack_id}/"
