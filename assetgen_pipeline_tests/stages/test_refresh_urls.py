"""Signed URLs: when they are too old, and where they stand."""

import csv
import io
from datetime import timedelta

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.stages.close_batch import finish_batch, publish_results, settle_batch
from assetgen_pipeline.stages.refresh_urls import needs_refresh, published_margin, sign_results
from assetgen_pipeline.stages.services import UrlPolicy
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline.testing.signer import FakeSigner
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW, RUN_ID
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

FOLDER = BatchFolder(BATCH_ID)
MARGIN = timedelta(minutes=5)


def results(bench):
    data = bench.store.read(FOLDER.results).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(data)))


async def a_bench(count=1, *, script=None, **services):
    bench = Bench(**services)
    batch = bench.open(*some_requests(count))
    await bench.generate(batch, ScriptedProvider(script))
    return bench


def refused():
    return [ProviderError("no image", kind=ErrorKind.INVALID_REQUEST)]


@pytest.mark.parametrize(
    ("left", "refresh"),
    [
        (timedelta(minutes=5, seconds=1), False),
        (timedelta(minutes=5, microseconds=1), False),
        (timedelta(minutes=5), True),
        (timedelta(minutes=4, seconds=59), True),
        (timedelta(0), True),
        (timedelta(seconds=-1), True),
    ],
    ids=["5:01", "just above", "5:00", "4:59", "now", "expired"],
)
def test_a_url_is_renewed_from_five_minutes_before_it_ends(left, refresh):
    assert needs_refresh(NOW + left, now=NOW, margin=MARGIN) is refresh


@pytest.mark.parametrize(
    ("ttl", "expected"),
    [
        (timedelta(days=7), timedelta(hours=16, minutes=48)),
        (timedelta(minutes=50), MARGIN),
        (timedelta(minutes=10), MARGIN),
        (timedelta(hours=12), timedelta(minutes=72)),
    ],
)
def test_a_published_link_keeps_the_margin_or_a_tenth_of_its_life(ttl, expected):
    assert published_margin(ttl, MARGIN) == expected


async def test_every_delivered_image_and_thumbnail_gets_a_link():
    bench = await a_bench(2, script={"S2/1": refused()})

    signed = sign_results(bench.outcome(), services=bench.services)

    first, second = results(bench)
    image = bench.attempts()[0].image
    assert (signed.urls, signed.signer) == (2, "fake")
    assert image.object_name in first["image_url_1"]
    assert image.thumbnail_name in first["thumbnail_url_1"]
    assert "X-Goog-Signature" in first["image_url_1"]
    assert first["urls_expire_at"] == signed.expires_at == (NOW + timedelta(days=7)).isoformat()
    assert second["image_url_1"] == second["thumbnail_url_1"] == second["urls_expire_at"] == ""
    assert second["status"] == "failed"


async def test_an_image_that_serves_many_rows_is_signed_once():
    bench = Bench()
    await bench.generate(bench.open(*some_requests(3, prompt="the same")))

    signed = sign_results(bench.outcome(), services=bench.services)

    assert signed.urls == len(bench.signer.signed) == 2
    assert len({row["image_url_1"] for row in results(bench)}) == 1


async def test_a_batch_without_images_has_results_without_links_and_no_index_entry():
    bench = await a_bench(script={"S1/1": refused()})

    signed = sign_results(bench.outcome(), services=bench.services)

    assert (signed.urls, signed.expires_at) == (0, "")
    assert results(bench)[0]["status"] == "failed"
    assert bench.names("index/") == []


async def test_the_index_names_the_hour_that_the_first_link_ends_in():
    bench = await a_bench(urls=UrlPolicy(ttl=timedelta(hours=2, minutes=30)))

    sign_results(bench.outcome(), services=bench.services)

    assert bench.names("index/") == [f"index/expiry/2026-03-01T14/{BATCH_ID}"]


async def test_the_signers_own_limit_decides_when_a_link_ends():
    bench = await a_bench(signer=FakeSigner(bucket=BUCKET, max_ttl=timedelta(hours=12)))

    signed = sign_results(bench.outcome(), services=bench.services)

    assert signed.expires_at == (NOW + timedelta(hours=12)).isoformat()


async def test_signing_again_always_gives_fresh_links():
    bench = await a_bench()
    sign_results(bench.outcome(), services=bench.services)
    [before] = results(bench)
    bench.clock.advance(timedelta(seconds=1))

    signed = sign_results(bench.outcome(), services=bench.services)

    [after] = results(bench)
    assert after["image_url_1"] != before["image_url_1"]
    assert signed.expires_at == (NOW + timedelta(days=7, seconds=1)).isoformat()
    assert after["image_uri_1"] == before["image_uri_1"]


async def test_signed_urls_stand_in_the_results_and_in_no_other_object():
    bench = await a_bench(2)
    settle_batch(BATCH_ID, services=bench.services)
    publish_results(bench.outcome(), run_id=RUN_ID, services=bench.services)
    signed = sign_results(bench.outcome(), services=bench.services)
    bench.keep(bench.open(*some_requests(2)), "signed_urls", signed)
    finish_batch(bench.outcome(), services=bench.services)

    holding = [
        name
        for name in bench.names()
        if b"X-Goog-Signature" in bench.store.read(name)
        or "X-Goog-Signature" in str(bench.store.stat(name))
    ]

    assert holding == [FOLDER.results]
    assert "X-Goog-Signature" not in str(bench.facts.files)
    assert f"artifacts/{BATCH_ID}/signed_urls.json" in bench.names()


async def test_a_signer_that_fails_leaves_the_former_results():
    bench = await a_bench()
    sign_results(bench.outcome(), services=bench.services)
    before = bench.store.stat(FOLDER.results)
    bench.signer.fail_next()

    with pytest.raises(StorageUnavailable):
        sign_results(bench.outcome(), services=bench.services)

    assert bench.store.stat(FOLDER.results) == before
