"""What a batch asks for: rows, and the images that each row wants."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

MAX_VARIANTS = 3
MAX_REFERENCES = 6


class Value(BaseModel):
    """A frozen value that travels between assets as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class AspectRatio(StrEnum):
    """Width to height."""

    SQUARE = "1:1"
    LANDSCAPE = "16:9"
    PORTRAIT = "9:16"
    CLASSIC = "4:3"
    UPRIGHT = "3:4"

    def pixels(self, long_edge: int) -> tuple[int, int]:
        """Width and height in pixels with the long edge given."""
        width, height = (int(part) for part in self.value.split(":"))
        scale = long_edge / max(width, height)
        return round(width * scale), round(height * scale)


class ReferenceMode(StrEnum):
    """What the references of a row are for."""

    STYLE_ONLY = "style_only"
    STYLE_AND_COMPOSITION = "style_and_composition"


class ImageRequest(Value):
    """One valid row: a request for 1 to 3 variants."""

    row_number: int
    """1 for the first row below the header."""
    line: int
    """The line of the file that the row begins on."""
    scene_id: str
    prompt: str
    variants: int
    reference_urls: tuple[str, ...]
    reference_mode: ReferenceMode
    ref_pack_id: str
    aspect_ratio: AspectRatio
    cells: tuple[str, ...]
    """The row as it stood in the file, one cell per header column."""


class BatchRequests(Value):
    """The claimed, validated batch: the artifact of `batch_requests`."""

    batch_id: str
    owner: str
    mode: Literal["normal", "dry_run"]
    header: tuple[str, ...]
    requests: tuple[ImageRequest, ...]
    received_at: str
    """When the file was claimed, ISO 8601 UTC."""

    @property
    def images_requested(self) -> int:
        """How many images all rows ask for."""
        return sum(request.variants for request in self.requests)
