"""What a catalogue says of a model besides its price: what to send, what its server can do."""

import json
from typing import Literal

from pydantic import Field

from assetgen_pipeline.domain.image_request import AspectRatio, Value

_MIB = 1024 * 1024


class RequestOptions(Value):
    """What is sent along with every prompt; all of it shapes the image."""

    image_size: str = ""
    """Gemini: `1K`, `2K` or `4K`."""
    thinking_level: Literal["", "minimal", "low", "medium", "high"] = ""
    """Gemini: how much the model thinks; empty leaves it to the model."""
    media_resolution: Literal["", "low", "medium", "high"] = ""
    """Gemini: how closely references are looked at, and so what they cost."""
    max_output_tokens: int | None = Field(None, ge=1)
    """Gemini: a hard end of what one answer can cost; an image cut short is paid and lost."""
    quality: str = ""
    """OpenAI: `low`, `medium`, `high` and so on."""
    output_format: str = ""
    """OpenAI: `png`, `jpeg` or `webp`."""
    sizes: dict[AspectRatio, str] = Field(default_factory=dict)
    """OpenAI: `1536x1024` and so on where a ratio must not be sent as its own pixels."""
    extra_body: dict[str, str | int | bool] = Field(default_factory=dict)
    """OpenAI: fields that a compatible server takes besides the standard ones."""

    def fingerprint(self) -> str:
        """The choices made as canonical JSON, empty where none is; part of content addresses."""
        chosen = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(chosen, sort_keys=True) if chosen else ""


class Capabilities(Value):
    """What the server behind a model can do."""

    edits: bool = True
    """Takes references (OpenAI: has `/images/edits`); without it, rows with references fail."""
    seeds: bool = False
    """Takes a seed."""
    usage: bool = True
    """Reports tokens that can be billed by; without it, the flat price is the cost."""
    image_field: Literal["image", "image[]"] = "image[]"
    """OpenAI: the name of the multipart field that carries each reference."""
    response_format: Literal["", "b64_json", "url"] = ""
    """OpenAI: what to ask for; empty sends nothing, as OpenAI's own models demand."""
    api_version: str = ""
    """Gemini: another version of the API than the SDK's default for it."""
    max_request_bytes: int = Field(20 * _MIB, ge=1)
    timeout_s: float = Field(180.0, gt=0, le=3600)
    """One deadline for a whole attempt."""
    billed_errors: tuple[int, ...] = ()
    """HTTP error statuses that this model bills all the same."""


class RateLimits(Value):
    """What the account may ask for; unset where it is not known."""

    requests_per_minute: int | None = Field(None, ge=1)
    images_per_minute: int | None = Field(None, ge=1)
