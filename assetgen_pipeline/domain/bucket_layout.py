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
DRY_RUN_FOLDER = "dry-run"

_OWNER = re.compile(r"\A[a-z0-9][a-z0-9_-]{0,62}\Z")
_BATCH_ID = re.compile(r"\A(?P<owner>[a-z0-9][a-z0-9_-]{0,62})\.[A-Za-z0-9_-]{1,64}\.[0-9a-f]{8}\Z")
_STEM_LENGTH = 64

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


def parse_drop(name: str) -> Drop | None:
    """What an inbox object means; `None` where it is not a batch at all."""
    parts = name.removeprefix(INBOX).split("/")
    if not name.startswith(INBOX) or not _OWNER.match(parts[0]):
        return None
    dry_run = parts[1:-1] == [DRY_RUN_FOLDER]
    if not (len(parts) == 2 or dry_run) or not parts[-1].lower().endswith(".csv"):  # noqa: PLR2004
        return None
    stem = parts[-1][: -len(".csv")]
    if not stem:
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
        """The operator's stop marker."""
        return self.prefix + "control.json"

    def artifact(self, asset: str) -> str:
        """Where one asset's artifact stands."""
        return f"artifacts/{self.batch_id}/{asset}.json"

    def op_artifact(self, run_id: str, step: str, mapping_key: str | None) -> str:
        """Where the output of an inner op stands."""
        key = f"[{mapping_key}]" if mapping_key else ""
        return f"artifacts/{self.batch_id}/{run_id}/{step}{key}.json"

    def costs(self, budget_date: str) -> str:
        """Where the batch's cost facts stand; `budget_date` is `YYYY-MM-DD`."""
        return f"costs/dt={budget_date}/{self.batch_id}.parquet"

    def expiry(self, expires_at: datetime) -> str:
        """The index entry that says in which UTC hour this batch's links expire."""
        hour = expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H")
        return f"index/expiry/{hour}/{self.batch_id}"


def image_name(owner: str, image_id: str, mime_type: str) -> str:
    """Where an image's bytes stand; `image_id` is the content address of its request."""
    return f"images/{owner}/{image_id[:2]}/{image_id}.{suffix_of_type[mime_type]}"


def thumbnail_name(owner: str, image_id: str) -> str:
    """Where an image's thumbnail stands."""
    return f"thumbnails/{owner}/{image_id[:2]}/{image_id}.jpg"


def reference_name(owner: str, sha256: str, mime_type: str) -> str:
    """Where a re-encoded reference image stands; `sha256` is of the bytes as fetched."""
    return f"references/{owner}/{sha256}.{suffix_of_type[mime_type]}"


def pack_prefix(pack_id: str) -> str:
    """The folder of a reference pack."""
    return f"packs/{pack_id}/"
