"""Signed URLs: when they are too old, and where they stand."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.delivery import RefreshCause, UrlPolicy
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.stages.close_batch import finish_batch, publish_results, settle_batch
from assetgen_pipeline.stages.refresh_urls import keep_fresh, sign_results
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline.testing.signer import FakeSigner
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW
from assetgen_pipeline_tests.read_results import read_results
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

FOLDER = BatchFolder(BATCH_ID)


async def a_bench(count=1, *, script=None, **services):
    bench = Bench(**services)
    batch = bench.open(*some_requests(count))
    await bench.generate(batch, ScriptedProvider(script))
    return bench


def refused():
    return [ProviderError("no image", kind=ErrorKind.INVALID_REQUEST)]


async def test_every_delivered_image_and_thumbnail_gets_a_link():
    bench = await a_bench(2, script={"S2/1": refused()})

    signed = sign_results(bench.outcome(), services=bench.services)

    first, second = read_results(bench.store)
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
    assert len({row["image_url_1"] for row in read_results(bench.store)}) == 1


async def test_a_batch_without_images_has_results_without_links_and_no_index_entry():
    bench = await a_bench(script={"S1/1": refused()})

    signed = sign_results(bench.outcome(), services=bench.services)

    assert (signed.urls, signed.expires_at) == (0, "")
    assert read_results(bench.store)[0]["status"] == "failed"
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
    [before] = read_results(bench.store)
    bench.clock.advance(timedelta(seconds=1))

    signed = sign_results(bench.outcome(), services=bench.services)

    [after] = read_results(bench.store)
    assert after["image_url_1"] != before["image_url_1"]
    assert signed.expires_at == (NOW + timedelta(days=7, seconds=1)).isoformat()
    assert after["image_uri_1"] == before["image_uri_1"]


async def test_signed_urls_stand_in_the_results_and_in_no_other_object():
    bench = await a_bench(2)
    settle_batch(BATCH_ID, services=bench.services)
    publish_results(bench.outcome(), services=bench.services)
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


class SlowSigner(FakeSigner):
    """Takes some time for every call, which the clock shows."""

    def __init__(self, clock, seconds, **options):
        super().__init__(**options)
        self.clock = clock
        self.seconds = list(seconds)

    def sign(self, names, *, ttl, now):
        signed = super().sign(names, ttl=ttl, now=now)
        self.clock.advance(timedelta(seconds=self.seconds.pop(0) if self.seconds else 0))
        return signed


def slow_bench(bench, *seconds, ttl=timedelta(hours=1)):
    signer = SlowSigner(bench.clock, seconds, bucket=BUCKET)
    bench.services = replace(bench.services, signer=signer, urls=UrlPolicy(ttl=ttl))
    return bench


async def test_links_that_grew_old_while_they_were_signed_are_signed_again():
    bench = slow_bench(await a_bench(), 55 * 60 + 1)

    signed = sign_results(bench.outcome(), services=bench.services)

    left = timedelta(hours=1)
    assert signed.expires_at == (bench.clock.now() + left).isoformat()
    assert read_results(bench.store)[0]["urls_expire_at"] == signed.expires_at


async def test_links_leave_with_exactly_the_margin_if_need_be():
    bench = slow_bench(await a_bench(), 55 * 60)

    signed = sign_results(bench.outcome(), services=bench.services)

    assert signed.expires_at == (bench.clock.now() + timedelta(minutes=5)).isoformat()


async def test_signing_that_never_catches_up_ends_with_a_sentence_and_the_former_results():
    bench = await a_bench()
    sign_results(bench.outcome(), services=bench.services)
    before = bench.store.stat(FOLDER.results)
    slow_bench(bench, *[3600] * 9)

    with pytest.raises(StorageUnavailable, match="longer than the links live"):
        sign_results(bench.outcome(), services=bench.services)

    assert bench.store.stat(FOLDER.results) == before


async def test_links_shorter_than_the_margin_are_handed_out_once_and_not_signed_without_end():
    bench = slow_bench(await a_bench(), ttl=timedelta(minutes=1))

    signed = sign_results(bench.outcome(), services=bench.services)

    assert signed.expires_at == (NOW + timedelta(minutes=1)).isoformat()
    assert len(bench.services.signer.signed) == 2


async def test_a_batch_whose_clock_passes_the_end_of_its_links_while_it_runs_gets_new_ones():
    bench = await a_bench()
    first = sign_results(bench.outcome(), services=bench.services)
    assert keep_fresh(bench.outcome(), services=bench.services) == first
    bench.clock.advance(timedelta(days=7))

    again = keep_fresh(bench.outcome(), services=bench.services)

    assert again.expires_at == (NOW + timedelta(days=14)).isoformat()
    assert read_results(bench.store)[0]["urls_expire_at"] == again.expires_at


@pytest.mark.parametrize(
    ("left", "renewed"),
    [(timedelta(minutes=5, seconds=1), False), (timedelta(minutes=5), False),
     (timedelta(minutes=4, seconds=59), True)],
    ids=["5:01", "5:00", "4:59"],
)  # fmt: skip
async def test_a_run_hands_out_no_link_with_less_than_the_margin_left(left, renewed):
    bench = await a_bench()
    first = sign_results(bench.outcome(), services=bench.services)
    bench.clock.advance(timedelta(days=7) - left)

    again = keep_fresh(bench.outcome(), services=bench.services)

    assert (again != first) is renewed


async def test_a_batch_without_links_has_none_to_keep_fresh():
    bench = await a_bench(script={"S1/1": refused()})
    assert keep_fresh(bench.outcome(), services=bench.services) is None
    signed = sign_results(bench.outcome(), services=bench.services)

    assert keep_fresh(bench.outcome(), services=bench.services) == signed
    assert bench.signer.signed == []


async def test_the_manifest_says_when_why_and_by_whom_links_were_signed_and_never_the_url():
    bench = await a_bench()
    sign_results(bench.outcome(), services=bench.services)
    bench.clock.advance(timedelta(days=1))
    sign_results(bench.outcome(), services=bench.services, cause=RefreshCause.OPERATOR)

    text = bench.store.read(FOLDER.manifest).decode()

    links = json.loads(text)["links"]
    day = timedelta(days=1)
    ends = [(NOW + 7 * day).isoformat(), (NOW + 8 * day).isoformat()]
    common = {"signer": "fake", "urls": 2}
    assert links["refreshes"] == [
        {"at": NOW.isoformat(), "cause": "run", "old_expires_at": "", "new_expires_at": ends[0]}
        | common,
        {
            "at": (NOW + day).isoformat(),
            "cause": "operator",
            "old_expires_at": ends[0],
            "new_expires_at": ends[1],
        }
        | common,
    ]
    assert (links["expires_at"], links["published_at"]) == (ends[1], NOW.isoformat())
    image = json.loads(text)["rows"][0]["images"][0]
    assert image["link"] == {"signer": "fake", "expires_at": ends[1]}
    assert "X-Goog-Signature" not in text


async def test_publishing_again_keeps_the_record_of_former_signings():
    bench = await a_bench()
    for _ in range(2):
        publish_results(bench.outcome(), services=bench.services)

    links = json.loads(bench.store.read(FOLDER.manifest))["links"]

    assert [refresh["cause"] for refresh in links["refreshes"]] == ["run", "run"]


async def test_the_index_names_only_the_newest_end():
    bench = await a_bench()
    for _ in range(3):
        sign_results(bench.outcome(), services=bench.services)
        bench.clock.advance(timedelta(hours=5))

    assert bench.names("index/") == [f"index/expiry/2026-03-08T22/{BATCH_ID}"]


async def test_a_crash_before_the_results_are_written_leaves_the_batch_in_the_index():
    bench = await a_bench()
    sign_results(bench.outcome(), services=bench.services)
    due = bench.names("index/")
    bench.clock.advance(timedelta(days=6))

    class Crash(Exception):
        pass

    write = bench.store.write

    def crash(name, data, **options):
        if name == FOLDER.results:
            raise Crash
        return write(name, data, **options)

    bench.store.write = crash
    with pytest.raises(Crash):
        sign_results(bench.outcome(), services=bench.services)

    assert set(due) < set(bench.names("index/"))
