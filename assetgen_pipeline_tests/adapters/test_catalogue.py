"""The catalogue file and an operator's own laid over it."""

import tomllib
from decimal import Decimal
from importlib import resources

import pytest

from assetgen_pipeline.adapters.catalogue import CatalogueInvalid, load_catalogue
from assetgen_pipeline.domain.errors import ModelUnavailable, PriceUnknown
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.pricing import ceiling, listed_cost


@pytest.fixture
def override(tmp_path):
    def write(text):
        path = tmp_path / "own.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


OWN = '[[models]]\nprovider = "{0}"\nmodel = "{1}"\nimage_usd = "{2}"\n'


def test_the_built_in_catalogue_prices_every_default():
    catalogue = load_catalogue()
    assert set(catalogue.default_models) == {"local", "gemini", "openai"}
    for provider in catalogue.default_models:
        price = catalogue.price(provider, catalogue.default_model(provider))
        assert listed_cost(price, prompt="a kitchen", references=0) > ZERO


def test_the_default_gemini_model_is_one_that_lives():
    assert load_catalogue().default_model("gemini") == "gemini-nano-banana-2.1"


def test_every_entry_says_when_and_where_its_price_was_read():
    assert [m.model for m in load_catalogue().models if not (m.as_of and m.source)] == []


def test_nothing_is_both_listed_and_retired():
    catalogue = load_catalogue()
    listed = {(entry.provider, entry.model) for entry in catalogue.models}
    assert listed.isdisjoint((end.provider, end.model) for end in catalogue.retired)


def test_the_local_price_is_nominal_and_says_so():
    price = load_catalogue().price("local", "storyboard-1")
    assert price.nominal
    assert ceiling(price, prompt="x" * 1000, references=6) == Money(2000)


def test_a_listed_gemini_image_costs_what_its_price_page_says():
    price = load_catalogue().price("gemini", "gemini-nano-banana-2.1")
    assert price.rates.image_out * price.tokens.image == Decimal(33_600)
    assert price.rates.image_in * price.tokens.reference == Decimal(1_680)


@pytest.mark.parametrize("model", ["gemini-2.5-flash-image", "imagen-4.0-generate-001"])
def test_a_retired_model_is_refused_with_the_ids_that_work(model):
    with pytest.raises(ModelUnavailable, match=r"was retired on .*gemini-nano-banana-2\.1"):
        load_catalogue().price("gemini", model)


def test_the_built_in_file_holds_no_binary_fractions():
    text = (resources.files("assetgen_pipeline") / "data" / "catalogue.toml").read_text("utf-8")
    tomllib.loads(text, parse_float=lambda number: pytest.fail(f"a float: {number}"))


def test_an_override_adds_and_replaces_by_provider_and_model(override):
    path = override(
        'as_of = "2026-12-01"\nsource = "our contract"\n[default_models]\nopenai = "flux"\n'
        + OWN.format("openai", "flux", "0.01")
        + OWN.format("gemini", "gemini-nano-banana-2.1", "0.03")
    )
    built_in, own = load_catalogue(), load_catalogue(path)
    assert own.default_model("openai") == "flux"
    assert own.price("openai", "flux").image_usd == Decimal("0.01")
    assert own.price("gemini", "gemini-nano-banana-2.1").image_usd == Decimal("0.03")
    assert own.price("local", "storyboard-1") == built_in.price("local", "storyboard-1")
    assert len(own.models) == len(built_in.models) + 1
    assert own.source.endswith("; our contract")
    assert own.version.startswith("2026-12-01+")
    assert own.version != built_in.version


def test_an_override_may_keep_a_retired_model_alive_and_retire_others(override):
    path = override(
        OWN.format("gemini", "gemini-2.5-flash-image", "0.039")
        + '[[retired]]\nprovider = "openai"\nmodel = "old"\nsince = "2026-12-01"\n'
    )
    own = load_catalogue(path)
    assert own.price("gemini", "gemini-2.5-flash-image").image_usd == Decimal("0.039")
    with pytest.raises(ModelUnavailable, match="old was retired on 2026-12-01"):
        own.price("openai", "old")


def test_an_override_may_price_by_tokens_and_say_what_a_server_can_do(override):
    path = override(
        """
[[models]]
provider = "openai"
model = "flux"
rates = { text_in = "1", image_in = "1", image_out = "2" }
tokens = { image = 100 }
options = { sizes = { "16:9" = "1280x720" }, extra_body = { num_inference_steps = 8 } }
capabilities = { edits = false, seeds = true, response_format = "b64_json" }
limits = { images_per_minute = 6 }
"""
    )
    price = load_catalogue(path).price("openai", "flux")
    assert (price.capabilities.edits, price.limits.images_per_minute) == (False, 6)
    assert "1280x720" in price.options.fingerprint()


def test_an_empty_override_changes_nothing(override):
    assert load_catalogue(override("")).version == load_catalogue().version


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models = [", "own.toml is not TOML"),
        (b"\xff\xfe", "own.toml is not UTF-8"),
        ('color = "red"', "own.toml, color: Extra inputs"),
        (OWN.format("x", "y", "cheap"), "own.toml, models.0.image_usd: Input should be"),
        ('[[models]]\nprovider = "x"\nmodel = "y"\n', "own.toml, models.0: needs a price"),
        (OWN.format("x", "y", "-1"), "own.toml, x/y: a price is not"),
        (OWN.format("x", "y", "1") + "reference_usd = 0.1", 'write the number 0.1 as text: "0.1"'),
        (OWN.format("x", "y", "1") + 'ceiling_factor = "0.5"', "x/y: ceiling_factor must be"),
        (
            (
                '[[models]]\nprovider = "x"\nmodel = "y"\ntokens = { image = 1 }\n'
                'rates = { text_in = "-1", image_in = "1", image_out = "1" }'
            ),
            "x/y: a price is not",
        ),
        (OWN.format("x", "y", "1") * 2, "own.toml, x/y is listed twice"),
        ('[default_models]\nlocal = "nothing"', "default model local/nothing has no price"),
    ],
)
def test_a_wrong_file_says_where_and_why(override, text, says):
    with pytest.raises(CatalogueInvalid) as caught:
        load_catalogue(override(text))
    assert says in str(caught.value)
    assert isinstance(caught.value, PriceUnknown)


def test_a_missing_file_is_named_without_its_folder(tmp_path):
    with pytest.raises(CatalogueInvalid, match=r"^absent\.toml cannot be read: No such file"):
        load_catalogue(tmp_path / "absent.toml")
