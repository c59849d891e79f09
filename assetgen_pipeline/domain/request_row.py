"""One row of a batch file: what each of our columns may hold."""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from assetgen_pipeline.domain.bucket_layout import MAX_PACK_ID_CHARACTERS, is_pack_id
from assetgen_pipeline.domain.errors import ReferenceBlocked
from assetgen_pipeline.domain.image_request import (
    MAX_REFERENCES,
    MAX_VARIANTS,
    AspectRatio,
    ReferenceMode,
)
from assetgen_pipeline.domain.reference_url import Network, check_reference_url

MAX_PROMPT_CHARACTERS = 1000
_SCENE_ID = re.compile(r"\A[A-Za-z0-9_-]{1,50}\Z")
_SEPARATORS = re.compile(r"[\s|]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRules:
    """What the references of a row are judged by."""

    allowed_networks: tuple[Network, ...]
    own_bucket: str
    owner: str
    own_endpoint: str = ""


@dataclass(frozen=True, slots=True)
class CellProblem:
    """One thing wrong with one cell."""

    field: str
    code: str
    detail: str


class RowInvalid(Exception):
    """At least one cell of a row breaks its rule."""

    def __init__(self, problems: list[CellProblem]) -> None:
        """Carry every problem of the row."""
        super().__init__(f"{len(problems)} problems")
        self.problems = tuple(problems)


class _CellInvalid(Exception):
    def __init__(self, code: str, *details: str) -> None:
        super().__init__(code)
        self.problems = [(code, detail) for detail in details]


def read_row(cells: Mapping[str, str], *, rules: ReferenceRules) -> dict[str, object]:
    """The values of our columns, by field of `ImageRequest`; an absent column reads as empty.

    Raises:
        RowInvalid: with every problem of the row.
    """
    values: dict[str, object] = {}
    problems: list[CellProblem] = []
    for field, read in _READERS.items():
        try:
            values[field] = read(cells.get(field, ""), rules)
        except _CellInvalid as error:
            problems += [CellProblem(field, code, detail) for code, detail in error.problems]
    if problems:
        raise RowInvalid(problems)
    return values


def _scene_id(cell: str, _: ReferenceRules) -> str:
    if not cell:
        raise _CellInvalid("scene-id-invalid", "is required")
    if not _SCENE_ID.match(cell):
        raise _CellInvalid(
            "scene-id-invalid", "must be 1 to 50 of the characters A-Z, a-z, 0-9, _ and -"
        )
    return cell


_INVISIBLE = frozenset({"Cf", "Mn", "Zl", "Zp", "Zs"})


def _prompt(cell: str, _: ReferenceRules) -> str:
    prompt = cell.strip()
    # Zero-width characters alone are no prompt either, and would be paid for.
    if all(unicodedata.category(char) in _INVISIBLE for char in prompt):
        raise _CellInvalid("row-invalid", "is required")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise _CellInvalid(
            "row-invalid",
            f"has {len(prompt):,} characters; {MAX_PROMPT_CHARACTERS:,} are allowed",
        )
    return prompt


def _variants(cell: str, _: ReferenceRules) -> int:
    allowed = {str(count): count for count in range(1, MAX_VARIANTS + 1)}
    try:
        return allowed[cell.strip() or "1"]
    except KeyError as error:
        detail = f"must be a whole number from 1 to {MAX_VARIANTS}"
        raise _CellInvalid("row-invalid", detail) from error


def _reference_mode(cell: str, _: ReferenceRules) -> ReferenceMode:
    try:
        return ReferenceMode(cell.strip().lower() or ReferenceMode.STYLE_ONLY)
    except ValueError as error:
        raise _CellInvalid("row-invalid", _one_of(ReferenceMode)) from error


def _aspect_ratio(cell: str, _: ReferenceRules) -> AspectRatio:
    try:
        return AspectRatio(cell.strip() or AspectRatio.SQUARE)
    except ValueError as error:
        raise _CellInvalid("row-invalid", _one_of(AspectRatio)) from error


def _one_of(choices: type[ReferenceMode] | type[AspectRatio]) -> str:
    return "must be one of " + ", ".join(choice.value for choice in choices)


def _ref_pack_id(cell: str, _: ReferenceRules) -> str:
    pack_id = cell.strip()
    # It becomes part of an object name, and of a path in the local bucket.
    if pack_id and not is_pack_id(pack_id):
        raise _CellInvalid(
            "row-invalid",
            f"must be the name of a pack: one folder, {MAX_PACK_ID_CHARACTERS} characters at most",
        )
    return pack_id


def _reference_urls(cell: str, rules: ReferenceRules) -> tuple[str, ...]:
    # The same URL has the same bytes, and duplicates count once.
    urls = tuple(dict.fromkeys(_listed(cell.strip())))
    if len(urls) > MAX_REFERENCES:
        raise _CellInvalid(
            "row-invalid", f"names {len(urls)} references; {MAX_REFERENCES} are allowed"
        )
    refused = _CellInvalid("reference-url-invalid")
    for number, url in enumerate(urls, start=1):
        try:
            check_reference_url(
                url,
                allowed_networks=rules.allowed_networks,
                own_bucket=rules.own_bucket,
                owner=rules.owner,
                own_endpoint=rules.own_endpoint,
            )
        except ReferenceBlocked as error:
            refused.problems.append((error.code, f"reference {number}: {error}"))
    if refused.problems:
        raise refused
    return urls


def _listed(cell: str) -> list[str]:
    if not cell.startswith("["):
        return [url for url in _SEPARATORS.split(cell) if url]
    try:
        listed = json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise _CellInvalid("reference-url-invalid", "is not a JSON array") from error
    if not all(isinstance(url, str) for url in listed):
        raise _CellInvalid("reference-url-invalid", "must be a JSON array of text")
    return [str(url) for url in listed]


_READERS: dict[str, Callable[[str, ReferenceRules], object]] = {
    "scene_id": _scene_id,
    "prompt": _prompt,
    "variants": _variants,
    "reference_urls": _reference_urls,
    "reference_mode": _reference_mode,
    "ref_pack_id": _ref_pack_id,
    "aspect_ratio": _aspect_ratio,
}
FIELDS = tuple(_READERS)
