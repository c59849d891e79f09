"""What the page on providers says is what the code does."""

import re
from pathlib import Path

import pytest

from assetgen_pipeline.adapters.catalogue import load_catalogue
from assetgen_pipeline.adapters.provider_failures import status_kind
from assetgen_pipeline.domain.model_options import Capabilities, RateLimits, RequestOptions
from assetgen_pipeline.domain.pricing import ModelPrice, TokenCounts, TokenRates

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-provider.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_example_catalogue_can_be_used(tmp_path):
    [example] = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
    path = tmp_path / "ours.toml"
    path.write_text(example, encoding="utf-8")

    catalogue = load_catalogue(path)

    price = catalogue.price("openai", catalogue.default_model("openai"))
    assert (price.model, price.capabilities.edits) == ("flux-schnell", False)


@pytest.mark.parametrize(
    "model", [ModelPrice, TokenRates, TokenCounts, RequestOptions, Capabilities, RateLimits]
)
def test_every_field_of_the_catalogue_is_explained(model):
    assert [name for name in model.model_fields if f"`{name}`" not in TEXT] == []


def test_the_table_of_statuses_is_the_code():
    rows = re.findall(r"^\| ([0-9x, anyother]+) \| `(\w+)` \|$", TEXT, flags=re.MULTILINE)
    told = {int(status): kind for cells, kind in rows for status in re.findall(r"\b\d{3}\b", cells)}

    assert len(told) > 20
    assert told == {status: status_kind(status).value for status in told}
    by_class = {"other 4xx": 418, "other 5xx": 507, "any 3xx": 308}
    for cells, kind in rows:
        for name, example in by_class.items():
            if name in cells:
                assert status_kind(example).value == kind
    unnamed = {status for status in range(300, 600) if status not in told}
    assert {status_kind(status).value for status in unnamed} == {
        *("fatal_config", "invalid_request", "transient")
    }
