"""How long servers are waited for, when a host is given up, and when a batch's time is over."""

import asyncio
from datetime import timedelta

import pytest

from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.domain.references import Fetched, Unfetched
from assetgen_pipeline.stages.fetch_history import FetchHistory
from assetgen_pipeline.testing.references import ScriptedReferenceFetcher
from assetgen_pipeline_tests.reference_desk import A, Desk, again


class SlowlyDying(ScriptedReferenceFetcher):
    """Every attempt ends in a time-out, after its ten seconds."""

    def __init__(self, clock):
        super().__init__({})
        self.clock = clock

    async def fetch(self, url, *, known=None):
        self.urls.append(url)
        self._under_way += 1
        # Attempts that are under way together take their time together.
        mine = self._under_way
        await asyncio.sleep(0)
        if mine == 1:
            self.clock.advance(timedelta(seconds=10))
        self._under_way -= 1
        raise again()


async def in_chunks(desk, urls, size=500):
    requests = 0
    for first in range(0, len(urls), size):
        requests += (await desk.chunk(*urls[first : first + size], first=first)).requests
    return requests


async def test_a_server_may_ask_for_a_longer_wait_but_not_for_a_shorter_one():
    desk = Desk({A: [again(30.0), again(0.0), again(600.0), b"image"]})

    await desk.fetch(A, retries=3)

    assert desk.clock.sleeps == [30.0, 2.0, 600.0]


@pytest.mark.parametrize("asked_s", [1800.0, 86_400.0])
async def test_a_wait_that_ends_after_the_deadline_is_not_begun(asked_s):
    desk = Desk({A: [again(asked_s), b"image"]})

    result = await desk.fetch(A)

    assert (desk.clock.sleeps, result.requests) == ([], 1)
    assert result.outcomes[A].detail == "down"


async def test_a_server_that_asks_for_patience_costs_other_servers_none():
    slow = [f"https://slow.example/{number}" for number in range(20)]
    quick = [f"https://host{number}.example/" for number in range(20)]
    patient = {url: [again(300.0), b"image"] for url in slow[:4]}
    desk = Desk(dict.fromkeys(slow + quick, b"image") | patient)

    result = await desk.fetch(*slow, *quick)

    assert all(isinstance(outcome, Fetched) for outcome in result.outcomes.values())
    # It is left alone from its first answer on: four may have been asked by then.
    urls = desk.fetcher.urls
    meanwhile = urls[: max(urls.index(url) for url in quick)]
    assert sum(url in slow for url in meanwhile) <= 4


async def test_a_host_that_fails_three_times_is_asked_no_more():
    dead = [f"https://dead.example/{number}" for number in range(1000)]
    desk = Desk({A: b"image"} | dict.fromkeys(dead, again()))

    chunk = await desk.fetch(*dead, A, concurrency=1)

    assert chunk.requests == 3 * 3 + 1
    assert chunk.outcomes[dead[3]].detail == "its server failed too often in this batch"
    assert isinstance(chunk.outcomes[A], Fetched)


async def test_a_host_given_up_by_others_is_not_tried_again():
    dead = [f"https://dead.example/{number}" for number in range(1000)]
    desk = Desk(dict.fromkeys(dead, again()))

    chunk = await desk.fetch(*dead)

    # Three that failed, and three that had begun meanwhile.
    assert chunk.requests <= 6 * 3


@pytest.mark.parametrize("answer", [b"image", ReferenceUnfetched("404")])
async def test_any_answer_between_two_failures_keeps_the_host(answer):
    urls = [f"https://flaky.example/{number}" for number in range(8)]
    script = dict.fromkeys(urls, again()) | {urls[2]: answer, urls[5]: answer}
    desk = Desk(script)

    chunk = await desk.fetch(*urls, concurrency=1, retries=0)

    assert chunk.requests == 8


async def test_after_the_deadline_nothing_is_asked_and_the_reason_is_said():
    desk = Desk({A: b"image"})
    desk.history = FetchHistory(spent_s=1800.0)

    result = await desk.fetch(A)

    assert result.requests == 0
    assert result.outcomes[A].detail == "the batch's time for references was over"


async def test_nobody_waits_past_the_deadline():
    desk = Desk({A: [again(), again(60.0), b"image"]})

    result = await desk.fetch(A, batch_deadline_s=10.0)

    assert desk.clock.sleeps == [1.0]
    assert isinstance(result.outcomes[A], Unfetched)


async def test_an_attempt_that_is_under_way_at_the_deadline_is_cut_short():
    class Hangs(ScriptedReferenceFetcher):
        async def fetch(self, url, *, known=None):
            await asyncio.Event().wait()

    desk = Desk(fetcher=Hangs({}))

    result = await desk.fetch(A, batch_deadline_s=0.05)

    assert result.outcomes[A].detail == "the batch's time for references was over"


async def test_ten_thousand_urls_of_one_dead_host_end_soon_with_a_dozen_connections():
    desk = Desk()
    desk.fetcher = SlowlyDying(desk.clock)

    requests = await in_chunks(desk, [f"https://dead.example/{n}" for n in range(10_000)])

    assert requests <= 12
    assert desk.clock.monotonic() < 60


async def test_ten_thousand_dead_hosts_end_with_the_batchs_time():
    desk = Desk()
    desk.fetcher = SlowlyDying(desk.clock)

    requests = await in_chunks(desk, [f"https://dead{n}.example/" for n in range(10_000)])

    assert 1800 <= desk.clock.monotonic() < 1820
    assert requests < 1000


async def test_a_host_given_up_in_one_chunk_is_not_asked_in_the_next_and_others_are():
    dead = [f"https://dead.example/{number}" for number in range(4)]
    desk = Desk({A: b"image"} | dict.fromkeys(dead, again()))
    await desk.fetch(*dead[:3])

    result = await desk.fetch(dead[3], A)

    assert result.requests == 1
    assert result.outcomes[dead[3]].detail == "its server failed too often in this batch"
