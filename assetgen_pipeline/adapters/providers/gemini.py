"""Gemini through google-genai: with an API key, or keyless on Vertex AI."""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx2
from google import genai
from google.auth import default as default_credentials
from google.auth import exceptions as auth_exceptions
from google.auth.credentials import Credentials
from google.genai import client as genai_client
from google.genai import errors, types

from assetgen_pipeline.adapters.gemini_answers import (
    delivered_image,
    error_answer,
    no_image,
    token_usage,
)
from assetgen_pipeline.adapters.paid_wire import Attempt, open_wire
from assetgen_pipeline.adapters.provider_failures import (
    clean_request_id,
    failure,
    lost,
    unreadable,
)
from assetgen_pipeline.adapters.provider_requests import check_references, seed_of, sniffed_type
from assetgen_pipeline.adapters.retry_hints import used_up_s
from assetgen_pipeline.domain.budget import AttemptToken
from assetgen_pipeline.domain.generation import (
    ErrorKind,
    PlannedImage,
    ProviderError,
    ProviderImage,
)
from assetgen_pipeline.domain.pricing import ModelPrice, actual_cost
from assetgen_pipeline.domain.prompt_wording import worded_prompt
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.ports.images import ImageProvider

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_MULTI_REGIONS = frozenset({"us", "eu"})
_GEMINI_API = "https://generativelanguage.googleapis.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class GeminiAccess:
    """Whom we are to Google: a key, or a project with credentials."""

    api_key: str = field(default="", repr=False)
    base_url: str = ""
    project: str = ""
    location: str = "global"
    credentials: Credentials | None = field(default=None, repr=False)
    vertex: bool = False

    @property
    def endpoint(self) -> str:
        """Where requests go."""
        if self.base_url or not self.vertex:
            return self.base_url or _GEMINI_API
        if self.location in _MULTI_REGIONS:
            return f"https://aiplatform.{self.location}.rep.googleapis.com"
        region = "" if self.location == "global" else f"{self.location}-"
        return f"https://{region}aiplatform.googleapis.com"


def keyless_access(*, project: str, location: str, base_url: str = "") -> GeminiAccess:
    """Application Default Credentials on Vertex AI.

    Raises:
        ProviderError: of kind `auth`; there are none, or they name no project.
    """
    try:
        credentials, found = default_credentials(scopes=[_SCOPE])
    except auth_exceptions.GoogleAuthError:
        credentials, found = None, ""
    if credentials is None or not (project or found):
        raise ProviderError(
            "no Application Default Credentials, or no GOOGLE_CLOUD_PROJECT", kind=ErrorKind.AUTH
        )
    return GeminiAccess(
        vertex=True,
        project=project or found or "",
        location=location,
        credentials=credentials,
        base_url=base_url,
    )


class GeminiProvider(ImageProvider):
    """One model of Gemini; open it in the loop that generates."""

    def __init__(
        self,
        access: GeminiAccess,
        *,
        price: ModelPrice,
        clock: Clock,
        alternatives: Sequence[str] = (),
    ) -> None:
        """`alternatives` are named where the model turns out to be gone.

        Raises:
            ProviderError: of kind `auth`; there is neither a key nor a project.
        """
        if not (access.vertex or access.api_key):
            raise ProviderError(
                "no key: set GEMINI_API_KEY, or GOOGLE_GENAI_USE_VERTEXAI for keyless access",
                kind=ErrorKind.AUTH,
            )
        self._price = price
        self._clock = clock
        self._alternatives = tuple(name for name in alternatives if name != price.model)
        self._timeout_s = price.capabilities.timeout_s
        self._wire, self._http = open_wire(access.endpoint, timeout_s=self._timeout_s)
        self._unused = httpx2.Client(transport=httpx2.MockTransport(_refuse), trust_env=False)
        self._client = self._open_client(access)

    async def generate(
        self, image: PlannedImage, references: Sequence[bytes], token: AttemptToken
    ) -> ProviderImage:
        """Make the image with one request.

        Raises:
            ProviderError: with its kind and whether it is billed.
        """
        check_references(references, self._price)
        with self._wire.attempt(token) as attempt:
            response = await self._ask(image, references, attempt)
        data = delivered_image(response)
        if data is None:
            raise no_image(response, self._price, references=len(references))
        usage = token_usage(response.usage_metadata, references=len(references))
        cost, basis = actual_cost(
            self._price, usage, prompt=image.prompt, references=len(references)
        )
        counts = response.usage_metadata
        return ProviderImage(
            data=data,
            cost=cost,
            cost_basis=basis,
            request_id=clean_request_id(response.response_id),
            usage=counts.model_dump_json(exclude_none=True) if counts else "",
            pause_s=used_up_s(attempt.headers),
        )

    async def aclose(self) -> None:
        """Close connections and both halves of the SDK's client."""
        await self._client.aio.aclose()
        self._client.close()
        self._unused.close()
        await self._http.aclose()

    async def _ask(
        self, image: PlannedImage, references: Sequence[bytes], attempt: Attempt
    ) -> types.GenerateContentResponse:
        billed_errors = self._price.capabilities.billed_errors
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._client.aio.models.generate_content(
                    model=image.model,
                    contents=_contents(image, references),
                    config=self._config(image, attempt.token),
                )
        except errors.APIError as error:
            raise error_answer(
                error,
                attempt.headers,
                now=self._clock.now(),
                alternatives=self._alternatives,
                billed_errors=billed_errors,
            ) from None
        except (TimeoutError, httpx2.HTTPError, auth_exceptions.TransportError):
            raise lost(attempt, billed_errors=billed_errors) from None
        except auth_exceptions.GoogleAuthError:
            raise failure(ErrorKind.AUTH, said="no token for the credentials") from None
        except Exception:  # the SDK raises anything at an answer that it cannot read
            if attempt.status is None:
                raise
            raise unreadable(attempt, billed_errors=billed_errors) from None

    def _open_client(self, access: GeminiAccess) -> genai.Client:
        version = self._price.capabilities.api_version
        # It warns that it uses keys of the environment, which it does not here.
        logging.getLogger("google_genai._api_client").setLevel(logging.ERROR)
        return genai.Client(
            # Said outright, all of it: what is left out, the SDK takes from the environment.
            vertexai=access.vertex,
            api_key=None if access.vertex else access.api_key,
            credentials=access.credentials,
            project=access.project or None,
            location=access.location if access.vertex else None,
            debug_config=genai_client.DebugConfig(
                client_mode=None, replays_directory=None, replay_id=None
            ),
            http_options=types.HttpOptions(
                base_url=access.endpoint,
                api_version=version or ("v1beta1" if access.vertex else "v1"),
                timeout=round(self._timeout_s * 1_000),
                # Clients of our own keep the SDK from aiohttp, its mTLS and its retry, and a
                # context that nothing is sent with keeps it from SSL_CERT_FILE.
                httpx_client=self._unused,
                httpx_async_client=self._http,
                async_client_args={"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
            ),
        )

    def _config(self, image: PlannedImage, token: AttemptToken) -> types.GenerateContentConfig:
        options = self._price.options
        level, resolution = options.thinking_level, options.media_resolution
        return types.GenerateContentConfig(
            response_modalities=["IMAGE"],
            image_config=types.ImageConfig(
                aspect_ratio=image.aspect_ratio.value, image_size=options.image_size or None
            ),
            candidate_count=1,
            seed=seed_of(image, token) if self._price.capabilities.seeds else None,
            max_output_tokens=options.max_output_tokens,
            thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel(level.upper()))
            if level
            else None,
            media_resolution=types.MediaResolution(f"MEDIA_RESOLUTION_{resolution.upper()}")
            if resolution
            else None,
            automatic_continuation=False,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )


def _contents(image: PlannedImage, references: Sequence[bytes]) -> list[types.Content]:
    """References first, in order, then the text that numbers them."""
    text = worded_prompt(image.prompt, mode=image.reference_mode, references=len(references))
    parts = [
        types.Part.from_bytes(data=reference, mime_type=sniffed_type(reference))
        for reference in references
    ]
    return [types.Content(role="user", parts=[*parts, types.Part.from_text(text=text)])]


def _refuse(_request: httpx2.Request) -> httpx2.Response:
    """The SDK's blocking half is never used; nothing leaves through it."""
    message = "requests leave through the paid wire only"
    raise TypeError(message)
