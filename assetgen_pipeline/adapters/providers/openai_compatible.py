"""OpenAI's Images API, and servers that speak it, through the openai SDK."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx2
import openai

from assetgen_pipeline.adapters.image_download import DownloadFailed, ImageDownload
from assetgen_pipeline.adapters.openai_answers import ImageAnswer, error_answer, read_answer
from assetgen_pipeline.adapters.paid_wire import Attempt, open_wire
from assetgen_pipeline.adapters.provider_failures import (
    OK,
    clean_request_id,
    failure,
    lost,
    unreadable,
)
from assetgen_pipeline.adapters.provider_requests import check_references, seed_of, sniffed_type
from assetgen_pipeline.adapters.retry_hints import used_up_s
from assetgen_pipeline.domain.budget import AttemptToken
from assetgen_pipeline.domain.generation import (
    Billing,
    ErrorKind,
    PlannedImage,
    ProviderError,
    ProviderImage,
)
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pricing import ModelPrice, actual_cost
from assetgen_pipeline.domain.prompt_wording import worded_prompt
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.ports.images import ImageProvider

_OPENAI = "https://api.openai.com/v1"
_SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


class OpenAiProvider(ImageProvider):
    """One model of OpenAI or of a compatible server; open it in the loop that generates."""

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        price: ModelPrice,
        clock: Clock,
        alternatives: Sequence[str] = (),
    ) -> None:
        """Without `base_url` it is OpenAI, which needs a key; other servers may need none.

        Raises:
            ProviderError: of kind `auth`; OpenAI without a key.
        """
        if not (api_key or base_url):
            raise ProviderError("no key: set OPENAI_API_KEY", kind=ErrorKind.AUTH)
        self._price = price
        self._clock = clock
        self._alternatives = tuple(name for name in alternatives if name != price.model)
        self._timeout_s = price.capabilities.timeout_s
        endpoint = base_url or _OPENAI
        bearer = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._wire, http = open_wire(endpoint, timeout_s=self._timeout_s, own_headers=bearer)
        self._client = _Client(
            api_key=api_key or "none", base_url=endpoint, max_retries=0, http_client=http
        )
        self._download = ImageDownload(endpoint, clock=clock)

    async def generate(
        self, image: PlannedImage, references: Sequence[bytes], token: AttemptToken
    ) -> ProviderImage:
        """Make the image with one request; an answer by URL is downloaded.

        Raises:
            ProviderError: with its kind and whether it is billed.
        """
        check_references(references, self._price)
        with self._wire.attempt(token) as attempt:
            body = await self._ask(image, references, attempt)
        answer = read_answer(body, self._price)
        cost, basis = actual_cost(
            self._price, answer.usage, prompt=image.prompt, references=len(references)
        )
        return ProviderImage(
            data=await self._image_data(answer, cost, basis),
            cost=cost,
            cost_basis=basis,
            request_id=clean_request_id(attempt.headers.get("x-request-id")),
            usage=answer.usage_report,
            pause_s=used_up_s(attempt.headers),
        )

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.close()
        await self._download.aclose()

    async def _ask(
        self, image: PlannedImage, references: Sequence[bytes], attempt: Attempt
    ) -> bytes:
        billed_errors = self._price.capabilities.billed_errors
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._post(image, references, attempt.token)
        except openai.APIStatusError as error:
            raise error_answer(
                error,
                attempt.headers,
                now=self._clock.now(),
                alternatives=self._alternatives,
                billed_errors=billed_errors,
            ) from None
        except (TimeoutError, openai.APIConnectionError, httpx2.HTTPError):
            raise lost(attempt, billed_errors=billed_errors) from None
        if response.status_code != OK:
            raise unreadable(attempt, billed_errors=billed_errors)
        return response.content

    async def _post(
        self, image: PlannedImage, references: Sequence[bytes], token: AttemptToken
    ) -> httpx2.Response:
        # The SDK's general call, not `images.edit`: only here can the file field be named,
        # and the answer be read without a model that some servers do not keep to.
        fields = self._fields(image, references, token)
        if not references:
            return await self._client.post(
                "/images/generations", cast_to=httpx2.Response, body=fields
            )
        return await self._client.post(
            "/images/edits",
            cast_to=httpx2.Response,
            body=fields,
            files=[
                (self._price.capabilities.image_field, _file(number, reference))
                for number, reference in enumerate(references, start=1)
            ],
            options={"headers": {"Content-Type": "multipart/form-data"}},
        )

    def _fields(
        self, image: PlannedImage, references: Sequence[bytes], token: AttemptToken
    ) -> dict[str, Any]:
        options, capabilities = self._price.options, self._price.capabilities
        width, height = image.size_px
        fields = {
            "model": image.model,
            "prompt": worded_prompt(
                image.prompt, mode=image.reference_mode, references=len(references)
            ),
            "n": 1,
            "size": options.sizes.get(image.aspect_ratio, f"{width}x{height}"),
            "quality": options.quality,
            "output_format": options.output_format,
            "response_format": capabilities.response_format,
            "seed": seed_of(image, token) if capabilities.seeds else "",
            **options.extra_body,
        }
        return {name: value for name, value in fields.items() if value != ""}

    async def _image_data(self, answer: ImageAnswer, cost: Money, basis: str) -> bytes:
        if answer.data is not None:
            return answer.data
        try:
            return await self._download.fetch(answer.url)
        except DownloadFailed as error:
            # Paid for and lost. A blocked address would lose every image: the batch stops.
            # Otherwise the image ends here, because asking again would pay again.
            kind = ErrorKind.FATAL_CONFIG if error.blocked else ErrorKind.INVALID_REQUEST
            said = "address not permitted" if error.blocked else "download failed"
            raise failure(
                kind,
                said=said,
                hint="set response_format to b64_json for this model",
                billing=Billing.BILLED,
                cost=cost,
                cost_basis=basis,
            ) from None


class _Client(openai.AsyncOpenAI):
    """The SDK's client without the headers that it takes from the environment."""

    @property
    def default_headers(self) -> dict[str, str | openai.Omit]:
        return {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"assetgen-pipeline openai/{openai.__version__}",
        }


def _file(number: int, data: bytes) -> tuple[str, bytes, str]:
    kind = sniffed_type(data)
    return f"reference-{number}.{_SUFFIXES[kind]}", data, kind
