"""Settings that keep the names which SDKs give them: endpoints, keys, projects.

`settings.py` reads them with the rest and hands them over, so that nothing else in the
environment changes what an SDK does.
"""

import re

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings


class VendorSettings(BaseSettings):
    """What SDKs would read by themselves; each field is the variable of its alias."""

    storage_emulator_host: str = Field(
        "",
        validation_alias="STORAGE_EMULATOR_HOST",
        description="A Cloud Storage emulator to use instead of Google or the local bucket.",
    )
    gcs_key_file: str = Field(
        "",
        validation_alias="GOOGLE_APPLICATION_CREDENTIALS",
        description="A key file; signs URLs where it holds a private key.",
    )
    gemini_api_key: SecretStr = Field(
        SecretStr(""), validation_alias="GEMINI_API_KEY", description="Key for the Gemini API."
    )
    gemini_base_url: str = Field(
        "",
        validation_alias="GOOGLE_GEMINI_BASE_URL",
        description="Another endpoint for the Gemini API.",
    )
    use_vertexai: bool = Field(
        False,  # noqa: FBT003 - pydantic's signature
        validation_alias="GOOGLE_GENAI_USE_VERTEXAI",
        description="Gemini on Vertex AI, keyless, with Application Default Credentials.",
    )
    vertex_project: str = Field(
        "", validation_alias="GOOGLE_CLOUD_PROJECT", description="The project on Vertex AI."
    )
    vertex_location: str = Field(
        "global", validation_alias="GOOGLE_CLOUD_LOCATION", description="Where on Vertex AI."
    )
    vertex_base_url: str = Field(
        "", validation_alias="GOOGLE_VERTEX_BASE_URL", description="Another Vertex AI endpoint."
    )
    openai_api_key: SecretStr = Field(
        SecretStr(""),
        validation_alias="OPENAI_API_KEY",
        description="Key for OpenAI or a compatible server.",
    )
    openai_base_url: str = Field(
        "", validation_alias="OPENAI_BASE_URL", description="Endpoint of a compatible server."
    )

    @field_validator("gemini_base_url", "vertex_base_url", "openai_base_url")
    @classmethod
    def _is_web_address(cls, value: str) -> str:
        if value and not re.match(r"https?://[^/?#@\s]+(?:/[^?#\s]*)?\Z", value):
            message = "not an http:// or https:// address"
            raise ValueError(message)
        return value
