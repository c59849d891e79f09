"""Whole batches through the asset graph, the real SDKs and the provider stub: every cent told."""

import io
from dataclasses import replace

import pytest
from PIL import Image

from assetgen_pipeline.adapters.catalogue import load_catalogue
from assetgen_pipeline.adapters.pillow_images import PillowImageCodec
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.testing.provider_stub import ProviderStub
from assetgen_pipeline.wiring.provider import open_provider
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment, failures
from assetgen_pipeline_tests.read_results import read_results

CATALOGUE = load_catalogue()
REFERENCE = "https://93.184.216.34/a.png"
HEADER = ["scene_id", "prompt", "variants", "reference_urls", "aspect_ratio"]
ROWS = a_csv(
    ["S1", "a kitchen", "2", "", "16:9"], ["S2", "a harbour", "1", REFERENCE, ""], header=HEADER
)
# Prompt, thinking and image as the stub reports them, at the catalogue's rates.
GEMINI_IMAGE, GEMINI_REFERENCE = 12 * 1.5 + 90 * 7.5 + 1120 * 30, 1120 * 1.5
OPENAI_IMAGE, OPENAI_REFERENCE = 15 * 5 + 1056 * 30, 700 * 8


def a_picture():
    data = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(data, "PNG")
    return data.getvalue()


class Hosted:
    """A deployment whose images come from one hosted provider, that is the stub."""

    def __init__(self, instance, stub, monkeypatch, provider):
        self.stub = stub
        self.provider = provider
        monkeypatch.setenv("GEMINI_API_KEY", "key-of-ours")
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", stub.url)
        monkeypatch.setenv("OPENAI_API_KEY", "key-of-ours")
        monkeypatch.setenv("OPENAI_BASE_URL", stub.openai_url)
        settings = load_settings()
        self.codec = PillowImageCodec(workers=1)
        self.deployment = FakeDeployment(
            instance, references={REFERENCE: a_picture()}, generation_concurrency=1
        )
        self.deployment.services = replace(self.deployment.services, codec=self.codec)
        self.deployment.choose(
            provider=provider,
            model=CATALOGUE.default_model(provider),
            open_provider=lambda name, model: open_provider(settings, CATALOGUE, name, model),
        )

    def run(self):
        if not self.deployment.has(BatchFolder(BATCH_ID).request):
            self.deployment.upload(ROWS)
        return self.deployment.run()

    def attempts(self):
        return self.deployment.ledger.attempts(BATCH_ID)

    def rows(self):
        return read_results(self.deployment.store)

    def booked(self):
        """Attempts that the ledger counts as paid, captured or assumed."""
        paid = (AttemptState.CAPTURED, AttemptState.ASSUMED)
        return sum(attempt.state in paid for attempt in self.attempts())


@pytest.fixture(params=["gemini", "openai"])
def hosted(request, instance, monkeypatch):
    with ProviderStub() as stub:
        made = Hosted(instance, stub, monkeypatch, request.param)
        yield made
        made.codec.close()


def test_a_batch_costs_what_the_provider_says_that_it_used(hosted):
    result = hosted.run()

    assert result.success
    image, reference = {
        "gemini": (GEMINI_IMAGE, GEMINI_REFERENCE),
        "openai": (OPENAI_IMAGE, OPENAI_REFERENCE),
    }[hosted.provider]
    attempts = hosted.attempts()
    assert {attempt.cost_basis for attempt in attempts} == {"usage"}
    assert {attempt.price_version for attempt in attempts} == {CATALOGUE.version}
    costs = sorted(attempt.cost.micros for attempt in attempts)
    assert costs == [round(image), round(image), round(image + reference)]
    assert all(attempt.cost <= attempt.ceiling for attempt in attempts)
    assert hosted.stub.counts["billed"] == hosted.stub.counts["requests"] == 3
    status = hosted.deployment.status()
    assert status.state is BatchState.COMPLETED
    assert status.spent_usd == Money(sum(costs)).usd()
    assert [row["status"] for row in hosted.rows()] == ["delivered", "delivered"]


def test_references_reach_the_provider_and_ratios_are_kept(hosted):
    hosted.run()

    assert sorted(len(request.references) for request in hosted.stub.requests) == [0, 0, 1]
    [images] = [a.image for a in hosted.attempts() if (a.scene_id, a.variant) == ("S1", 1)]
    assert images.width / images.height == pytest.approx(16 / 9, rel=0.03)


def test_what_the_provider_bills_is_captured_or_assumed(hosted):
    hosted.stub.answer("drop", "internal", "ok", "no_image")

    result = hosted.run()

    assert result.success
    assert hosted.stub.counts["requests"] > 3
    assert hosted.booked() == hosted.stub.counts["billed"]
    delivered = [a for a in hosted.attempts() if a.image is not None]
    assert len({a.item_key for a in delivered}) == len(delivered)


def test_a_block_fails_one_image_for_good_and_the_rest_are_made(hosted):
    hosted.stub.answer("blocked")

    hosted.run()
    hosted.run()

    counts = hosted.deployment.status().images
    assert (counts.delivered, counts.blocked) == (2, 1)
    assert hosted.stub.counts["requests"] == 3


@pytest.mark.parametrize(
    ("answer", "code"), [("quota", "provider-quota"), ("auth", "provider-auth")]
)
def test_an_account_that_is_used_up_stops_the_batch_and_another_run_finishes_it(
    hosted, answer, code
):
    hosted.stub.answer("ok")
    hosted.stub.always(answer)
    hosted.run()
    images = hosted.deployment.status().images
    assert (images.delivered, hosted.stub.counts["requests"]) == (1, 2)
    assert images.failed + images.not_attempted == 2
    assert code in {row["error_code"] for row in hosted.rows()}
    hosted.stub.always("ok")

    hosted.run()

    assert hosted.deployment.status().state is BatchState.COMPLETED
    assert hosted.stub.counts["images"] == 3


def test_a_model_that_was_retired_meanwhile_is_named_with_those_that_work(hosted):
    hosted.stub.always("model_retired")

    hosted.run()

    assert hosted.stub.counts["requests"] == 1
    [error] = {row["error"] for row in hosted.rows() if row["error_code"] == "provider-config"}
    works = {"gemini": "gemini-3-pro-image", "openai": "gpt-image-2.6-sunburst"}
    assert works[hosted.provider] in error


def test_a_model_known_to_be_retired_ends_the_batch_before_anything_is_held(hosted):
    retired = {"gemini": "gemini-2.5-flash-image", "openai": "dall-e-3"}[hosted.provider]
    hosted.deployment.choose(model=retired)

    result = hosted.run()

    assert not result.success
    [message] = failures(result).values()
    assert message.startswith("provider-config: ")
    assert CATALOGUE.default_model(hosted.provider) in message
    assert hosted.deployment.spent_micros() == (0, 0)
    assert hosted.stub.counts["requests"] == 0
