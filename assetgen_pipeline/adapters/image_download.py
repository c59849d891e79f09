"""Downloading an image that a provider answered by URL.

The image is paid for, so the download is tried again and the generation is not. The
operator chose the endpoint, so its own origin is trusted; every other address is judged like
a stranger's, and never by the exemptions that references have.
"""

import asyncio

import httpx2

from assetgen_pipeline.adapters.http_reference_fetcher import HttpReferenceFetcher
from assetgen_pipeline.domain.errors import ReferenceBlocked, ReferenceUnfetched
from assetgen_pipeline.domain.references import FetchedBytes
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.ports.references import ReferenceFetcher

_MAX_BYTES = 64 * 1024 * 1024
_TIMEOUT_S = 60.0
_WAITS_S = (1.0, 2.0)
_OK, _SERVER_ERROR = 200, 500


class DownloadFailed(Exception):
    """The image could not be had; `blocked` where policy refuses its address."""

    def __init__(self, *, blocked: bool = False) -> None:
        """Say only whether trying could ever have helped."""
        super().__init__("the image could not be downloaded")
        self.blocked = blocked


class ImageDownload:
    """Downloads from the endpoint's origin directly, and from elsewhere through the guard."""

    def __init__(
        self, endpoint: str, *, clock: Clock, fetcher: ReferenceFetcher | None = None
    ) -> None:
        """`fetcher` stands in for the guarded one in tests."""
        self._endpoint = httpx2.URL(endpoint)
        self._clock = clock
        self._fetcher: ReferenceFetcher = fetcher or HttpReferenceFetcher(
            timeout_s=_TIMEOUT_S, max_bytes=_MAX_BYTES
        )
        self._http = httpx2.AsyncClient(
            trust_env=False, follow_redirects=False, timeout=httpx2.Timeout(_TIMEOUT_S)
        )

    async def fetch(self, url: str) -> bytes:
        """The image's bytes.

        Raises:
            DownloadFailed: three tries gave nothing, or none can.
        """
        for wait_s in (*_WAITS_S, None):
            data = await self._try(url)
            if data is not None:
                return data
            if wait_s is not None:
                await self._clock.sleep(wait_s)
        raise DownloadFailed

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()
        await self._fetcher.aclose()

    async def _try(self, url: str) -> bytes | None:
        """The bytes, or None where trying again may help."""
        if self._is_ours(url):
            return await self._get(url)
        try:
            fetched = await self._fetcher.fetch(url)
        except ReferenceBlocked:
            raise DownloadFailed(blocked=True) from None
        except ReferenceUnfetched as error:
            if error.retryable:
                return None
            raise DownloadFailed from None
        # We said that we have nothing, so "not modified" is no answer.
        return fetched.data if isinstance(fetched, FetchedBytes) else None

    async def _get(self, url: str) -> bytes | None:
        data = bytearray()
        try:
            # One deadline over all of it: a server that drips never meets a time-out per read.
            async with (
                asyncio.timeout(_TIMEOUT_S),
                self._http.stream("GET", url) as response,
            ):
                if response.status_code >= _SERVER_ERROR:
                    return None
                if response.status_code != _OK:
                    raise DownloadFailed
                async for part in response.aiter_bytes():
                    data += part
                    if len(data) > _MAX_BYTES:
                        raise DownloadFailed
        except (TimeoutError, httpx2.HTTPError):
            return None
        return bytes(data)

    def _is_ours(self, url: str) -> bool:
        try:
            other = httpx2.URL(url)
        except (httpx2.InvalidURL, ValueError):
            # A lone surrogate, which JSON can hold, is a ValueError; the guard refuses it.
            return False
        return not other.userinfo and (other.scheme, other.host, _port(other)) == (
            self._endpoint.scheme,
            self._endpoint.host,
            _port(self._endpoint),
        )


def _port(url: httpx2.URL) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)
