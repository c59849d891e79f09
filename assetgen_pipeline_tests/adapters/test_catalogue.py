"""The catalogue file and an operator's own laid over it."""

import tomllib
from decimal import Decimal
from importlib import resources

import pytest

from assetgen_pipeline.adapters.catalogue import CatalogueInvalid, load_catalogue
from assetgen_pipeline.domain.errors import PriceUnknown
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pricing import ceiling


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
        assert catalogue.price(provider, catalogue.default_model(provider)).image_usd > 0


def test_the_local_price_is_nominal_and_says_so():
    price = load_catalogue().price("local", "storyboard-1")
    assert price.nominal
    assert ceiling(price, prompt_chars=1000, references=6) == Money(2000)


def test_a_paid_ceiling_covers_thinking_references_and_a_full_prompt():
    price = load_catalogue().price("gemini", "gemini-nano-banana-2.1")
    assert ceiling(price, prompt_chars=1000, references=3) == Money.from_usd(
        (Decimal("0.0376") + 3 * Decimal("0.00168") + Decimal("0.0015")) * Decimal("1.25")
    )


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


def test_an_empty_override_changes_nothing(override):
    assert load_catalogue(override("")).version == load_catalogue().version


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models = [", "own.toml is not TOML"),
        (b"\xff\xfe", "own.toml is not UTF-8"),
        ('color = "red"', "own.toml, color: Extra inputs"),
        (OWN.format("x", "y", "cheap"), "own.toml, models.0.image_usd: Input should be"),
        ('[[models]]\nprovider = "x"\nmodel = "y"\n', "models.0.image_usd: Field required"),
        (OWN.format("x", "y", "-1"), "own.toml, x/y: a price is not"),
        (OWN.format("x", "y", "1") + "reference_usd = 0.1", 'write the number 0.1 as text: "0.1"'),
        (OWN.format("x", "y", "1") + 'ceiling_factor = "0.5"', "x/y: ceiling_factor must be"),
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
