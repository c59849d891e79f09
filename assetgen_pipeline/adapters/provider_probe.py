"""Ask a provider for a model's description: reaches it and tries the key, and costs nothing."""

from dataclasses import dataclass

import google.auth
import httpx
from google.auth import exceptions
from google.auth.transport.requests import Request

from assetgen_pipeline.adapters.status_request import status_of
from assetgen_pipeline.domain.errors import CredentialsMissing

_TIMEOUT_S = 10.0
_GEMINI = "https://generativelanguage.googleapis.com"
_OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """What came back: a status (0: nobody answered) and the host that was asked."""

    status: int
    host: str


def probe_gemini(model: str, *, api_key: str, base_url: str) -> ProbeAnswer:
    """Describe a model of the Gemini API."""
    url = f"{(base_url or _GEMINI).rstrip('/')}/v1beta/models/{model}"
    return _get(url, {"x-goog-api-key": api_key})


def probe_openai(model: str, *, api_key: str, base_url: str) -> ProbeAnswer:
    """Describe a model of OpenAI or a compatible server."""
    url = f"{(base_url or _OPENAI).rstrip('/')}/models/{model}"
    return _get(url, {"Authorization": f"Bearer {api_key}"})


def probe_vertex(*, location: str, base_url: str) -> ProbeAnswer:
    """Reach Vertex AI with the credentials of this machine.

    Raises:
        CredentialsMissing: there are none, or they cannot be refreshed.
    """
    try:
        credentials, _project = google.auth.default(
            scopes=["https://www.googleapis.com/auth/cloud-platform"]
        )
        credentials.refresh(Request())
    except (exceptions.GoogleAuthError, OSError):
        raise CredentialsMissing("no Google Cloud credentials for Vertex AI") from None
    prefix = "" if location == "global" else f"{location}-"
    return _get(base_url or f"https://{prefix}aiplatform.googleapis.com", {})


def _get(url: str, headers: dict[str, str]) -> ProbeAnswer:
    host = httpx.URL(url).host
    try:
        return ProbeAnswer(status_of("GET", url, headers=headers, timeout_s=_TIMEOUT_S), host)
    except (TimeoutError, httpx.HTTPError):
        return ProbeAnswer(0, host)
