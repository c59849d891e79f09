"""What a process keeps while it generates."""

from assetgen_pipeline.domain.model_options import RateLimits
from assetgen_pipeline.domain.pricing import ModelPrice
from assetgen_pipeline.stages.generation_memory import GenerationMemory
from assetgen_pipeline.testing.clock import ManualClock


def pacer(memory, run_id="run-1", model="m", **limits):
    price = ModelPrice(provider="p", model=model, image_usd=1, limits=RateLimits(**limits))
    return memory.pacer(run_id, price, ceiling=4, clock=ManualClock())


def test_the_shards_of_a_run_share_what_was_learned_of_a_model():
    memory = GenerationMemory()

    assert pacer(memory) is pacer(memory)


def test_another_model_and_another_run_begin_afresh():
    memory = GenerationMemory()

    assert len({id(pacer(memory)), id(pacer(memory, model="n")), id(pacer(memory, "run-2"))}) == 3


def test_limits_of_the_catalogue_are_held():
    memory = GenerationMemory()
    limited = pacer(memory, requests_per_minute=6, images_per_minute=60)

    limited.pace.start(0.0)

    assert limited.pace.wait_s(0.0) > 9.9


def test_the_progress_of_a_run_is_begun_once():
    memory, begun = GenerationMemory(), []

    first = memory.progress("b", "run-1", lambda: begun.append(1) or object())
    again = memory.progress("b", "run-1", lambda: begun.append(1) or object())

    assert first is again
    assert len(begun) == 1


def test_the_first_reason_to_stop_a_run_stays_and_stops_no_other():
    memory = GenerationMemory()

    memory.stop("run-1", "")
    before = memory.stop_code("run-1")
    memory.stop("run-1", "paused")
    memory.stop("run-1", "cancelled")

    assert (before, memory.stop_code("run-1"), memory.stop_code("run-2")) == ("", "paused", "")
