"""Whether what the settings name is there, asked before a batch is claimed for it.

Only what this machine can tell by itself: no network, nothing that a later try could find.
"""

from collections.abc import Iterator

from assetgen_pipeline.domain.errors import PriceUnknown, StorageUnavailable
from assetgen_pipeline.settings import Settings, SettingsInvalid
from assetgen_pipeline.wiring.deployment import open_catalogue
from assetgen_pipeline.wiring.services import open_signer, signer_kind


def require_ready(settings: Settings) -> None:
    """See that a batch can be made with these settings.

    Raises:
        SettingsInvalid: naming every variable that is wrong or missing, and what to set.
    """
    _refuse([*_catalogue(settings), *_provider(settings), *_signer(settings)])


def require_prices(settings: Settings) -> None:
    """See that a batch can be priced with these settings.

    Raises:
        SettingsInvalid: naming the variable that is wrong.
    """
    _refuse([*_catalogue(settings)])


def _refuse(complaints: list[str]) -> None:
    if complaints:
        raise SettingsInvalid("; ".join(complaints))


def _catalogue(settings: Settings) -> Iterator[str]:
    try:
        open_catalogue(settings)
    except PriceUnknown as error:
        yield f"ASSETGEN_CATALOGUE: {error}"


def _provider(settings: Settings) -> Iterator[str]:
    match settings.provider:
        case "gemini":
            if not (settings.use_vertexai or settings.gemini_api_key.get_secret_value().strip()):
                yield (
                    "GEMINI_API_KEY: not set, and ASSETGEN_PROVIDER=gemini needs it"
                    " (or GOOGLE_GENAI_USE_VERTEXAI=1, which needs no key)"
                )
        case "openai":
            if not (settings.openai_base_url or settings.openai_api_key.get_secret_value().strip()):
                yield (
                    "OPENAI_API_KEY: not set, and ASSETGEN_PROVIDER=openai needs it"
                    " (or OPENAI_BASE_URL, for a server that asks for none)"
                )
        case "local":
            pass


def _signer(settings: Settings) -> Iterator[str]:
    if signer_kind(settings) != "key_file":
        return
    if not settings.gcs_key_file:
        yield (
            "GOOGLE_APPLICATION_CREDENTIALS: not set, and ASSETGEN_SIGNER=key_file signs with the"
            " key file that it names (ASSETGEN_SIGNER=iam signs without one)"
        )
        return
    try:
        open_signer(settings)
    except StorageUnavailable:
        yield (
            "GOOGLE_APPLICATION_CREDENTIALS: not a service account's key file that can be read"
            " (ASSETGEN_SIGNER=iam signs without one)"
        )
