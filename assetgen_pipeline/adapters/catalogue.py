"""The catalogue file: the built-in prices, and an operator's own laid over them."""

import tomllib
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import NoReturn

from pydantic import Field, ValidationError

from assetgen_pipeline.domain.errors import PriceUnknown
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.pricing import Catalogue, ModelPrice, RetiredModel

_BUILT_IN = "catalogue.toml"


class CatalogueInvalid(PriceUnknown):
    """A catalogue file cannot be used; without prices nothing is generated."""

    fix = "Correct the file; `assetgen_pipeline/data/catalogue.toml` shows every field."


class _File(Value):
    """What a catalogue file may say; an override says as much of it as it changes."""

    as_of: str = ""
    source: str = ""
    default_models: dict[str, str] = Field(default_factory=dict)
    models: tuple[ModelPrice, ...] = ()
    retired: tuple[RetiredModel, ...] = ()


def load_catalogue(override: Path | None = None) -> Catalogue:
    """The built-in catalogue, with the override's models added or put in place of ours.

    A model that the override lists works, whatever we hold of it.

    Raises:
        CatalogueInvalid: the override cannot be read or used; the message says where and why.
    """
    built_in = resources.files("assetgen_pipeline") / "data" / _BUILT_IN
    base = _parsed(built_in.read_text(encoding="utf-8"), name=_BUILT_IN)
    own = _File() if override is None else _parsed(_read(override), name=override.name)
    models = {(entry.provider, entry.model): entry for entry in (*base.models, *own.models)}
    catalogue = Catalogue(
        as_of=own.as_of or base.as_of,
        source="; ".join(source for source in (base.source, own.source) if source),
        default_models={**base.default_models, **own.default_models},
        models=tuple(models.values()),
        retired=(*base.retired, *own.retired),
    )
    for provider, model in catalogue.default_models.items():
        if (provider, model) not in models:
            message = f"the default model {provider}/{model} has no price in the catalogue"
            raise CatalogueInvalid(message)
    return catalogue


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"{path.name} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        message = f"{path.name} is not UTF-8 text"
    raise CatalogueInvalid(message)


def _parsed(text: str, *, name: str) -> _File:
    try:
        parsed = _File.model_validate(tomllib.loads(text, parse_float=_refuse_float))
    except tomllib.TOMLDecodeError as error:
        message = f"{name} is not TOML: {error}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"{name}, {where}: {first['msg'].removeprefix('Value error, ')}"
    except _FloatFound as found:
        message = f'{name}: write the number {found} as text: "{found}"'
    else:
        _check_entries(parsed, name=name)
        return parsed
    raise CatalogueInvalid(message)


class _FloatFound(Exception):
    """A price was written as a binary fraction."""


def _refuse_float(number: str) -> NoReturn:
    raise _FloatFound(number)


def _check_entries(parsed: _File, *, name: str) -> None:
    counts = Counter((entry.provider, entry.model) for entry in parsed.models)
    for entry in parsed.models:
        label = f"{name}, {entry.provider}/{entry.model}"
        if counts[entry.provider, entry.model] > 1:
            message = f"{label} is listed twice"
        elif not all(price.is_finite() and price >= 0 for price in entry.amounts()):
            message = f"{label}: a price is not a number of dollars from 0"
        elif not (entry.ceiling_factor.is_finite() and entry.ceiling_factor >= 1):
            message = f"{label}: ceiling_factor must be 1 or more"
        else:
            continue
        raise CatalogueInvalid(message)
