"""The processes that decode: limited, replaced when they die, and believed in nothing."""

import io
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from assetgen_pipeline.adapters import image_worker, pillow_images
from assetgen_pipeline.adapters.pillow_images import PillowImageCodec
from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.stages.fetch_history import FetchHistory
from assetgen_pipeline.stages.fetch_references import FetchPolicy, fetch_chunk
from assetgen_pipeline.stages.reference_shelf import ReferenceShelf
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.references import ScriptedReferenceFetcher
from assetgen_pipeline_tests.made_images import plain, png
from assetgen_pipeline_tests.processes import is_alive, until


def test_a_worker_that_dies_loses_its_image_and_no_other(monkeypatch, tmp_path):
    dying = tmp_path / "worker.py"
    dying.write_text("import os, sys; sys.stdin.buffer.read(4); os.kill(os.getpid(), 11)")
    with PillowImageCodec() as codec:
        monkeypatch.setattr(image_worker, "__file__", str(dying))
        with pytest.raises(ReferenceUnfetched) as loss:
            codec.decode_reference(plain())
        monkeypatch.undo()

        assert loss.value.code == "reference-undecodable"
        assert codec.decode_reference(plain()).width == 64


LIMITED = """
import sys
from assetgen_pipeline.adapters import image_worker
image_worker._CPU_S = 1
image_worker._limit_process()

def explode(image, long_edge_px):
    {explosion}

image_worker.shrink = explode
image_worker.serve(sys.stdin.buffer, sys.stdout.buffer)
"""


@pytest.mark.parametrize(
    "explosion",
    ["bytearray(2 << 30)", "while True: pass", "import os; os.abort()", "import os; os._exit(0)"],
    ids=["memory", "processor time", "abort", "exit"],
)
def test_a_worker_that_explodes_is_held_to_its_limits_and_loses_its_image_and_no_other(
    monkeypatch, tmp_path, explosion
):
    exploding = tmp_path / "worker.py"
    exploding.write_text(LIMITED.format(explosion=explosion))
    with PillowImageCodec(workers=1) as codec:
        monkeypatch.setattr(image_worker, "__file__", str(exploding))
        with pytest.raises(ReferenceUnfetched) as loss:
            codec.decode_reference(plain())
        monkeypatch.undo()

        assert loss.value.code == "reference-undecodable"
        assert codec.decode_reference(plain()).width == 64


@pytest.mark.parametrize(
    ("mode", "color"), [("P", 3), ("RGBA", (1, 2, 3, 4))], ids=["palette", "transparent"]
)
def test_the_largest_image_that_we_take_fits_the_workers_memory(mode, color):
    options = {"transparency": 3} if mode == "P" else {}
    data = plain(mode=mode, size=(6324, 6324), color=color, compress_level=1, **options)
    with PillowImageCodec(workers=1) as codec:
        decoded = codec.decode_reference(data)
        memory = Path(f"/proc/{codec._idle[0].pid}/status").read_text()

    assert (decoded.width, decoded.height) == (2048, 2048)
    peak_kb = int(memory.partition("VmPeak:")[2].split()[0])
    assert peak_kb < 700_000


async def test_in_a_batch_the_image_that_kills_a_worker_is_the_only_one_lost(monkeypatch, tmp_path):
    poisoned = tmp_path / "worker.py"
    poisoned.write_text(
        "import os, sys\n"
        "from assetgen_pipeline.adapters import image_worker\n"
        "answer = image_worker.answer\n"
        "image_worker.answer = lambda data: os.kill(os.getpid(), 11) if b'POISON' in data else answer(data)\n"
        "image_worker.serve(sys.stdin.buffer, sys.stdout.buffer)\n"
    )
    monkeypatch.setattr(image_worker, "__file__", str(poisoned))
    urls = [f"https://host{number}.example/" for number in range(12)]
    script = {url: plain("JPEG", size=(64, 64 + number)) for number, url in enumerate(urls)}
    script[urls[5]] += b"POISON"
    with PillowImageCodec(workers=2) as codec:
        chunk, _ = await fetch_chunk(
            urls,
            shelf=ReferenceShelf("team", store=InMemoryObjectStore(), codec=codec),
            fetcher=ScriptedReferenceFetcher(script),
            clock=ManualClock(),
            policy=FetchPolicy(),
            history=FetchHistory(),
        )

    lost = [
        url for url, outcome in zip(urls, chunk.outcomes, strict=True) if outcome.kind != "fetched"
    ]
    assert lost == [urls[5]]
    assert chunk.outcomes[5].code == "reference-undecodable"


@pytest.mark.parametrize(
    "lie",
    [
        "b''",
        "b'J'",
        "struct.pack('>1sIII', b'J', 64, 48, 1000)",
        "struct.pack('>1sIII', b'J', 64, 48, 2**32 - 1)",
        "struct.pack('>1sIII', b'J', 2**31, 48, 0)",
    ],
)
def test_an_answer_that_cannot_be_is_not_believed(monkeypatch, tmp_path, lie):
    liar = tmp_path / "worker.py"
    liar.write_text(f"import struct, sys; sys.stdin.buffer.read(4); sys.stdout.buffer.write({lie})")
    monkeypatch.setattr(image_worker, "__file__", str(liar))

    with PillowImageCodec() as codec, pytest.raises(ReferenceUnfetched) as refusal:
        codec.decode_reference(plain())

    assert refusal.value.code == "reference-undecodable"


def test_a_worker_that_never_answers_is_killed(monkeypatch, tmp_path):
    silent = tmp_path / "worker.py"
    silent.write_text("import sys; sys.stdin.buffer.read()")
    monkeypatch.setattr(image_worker, "__file__", str(silent))

    with PillowImageCodec(wait_s=0.3) as codec, pytest.raises(ReferenceUnfetched) as refusal:
        codec.decode_reference(plain())

    assert refusal.value.code == "reference-undecodable"


def test_a_worker_has_time_to_use_its_processor_time_up_on_a_busy_machine():
    with PillowImageCodec() as codec:
        assert codec._wait_s >= 10 * image_worker._CPU_S


def test_a_worker_that_died_while_idle_costs_nobody_an_image():
    with PillowImageCodec() as codec:
        codec.decode_reference(plain())
        worker = codec._idle[0]
        worker.kill()
        worker.wait()

        assert codec.decode_reference(plain()).width == 64
        assert codec._idle[0].pid != worker.pid


def test_a_worker_is_used_again():
    with PillowImageCodec(workers=1) as codec:
        codec.decode_reference(plain())
        before = {worker.pid for worker in codec._idle}
        codec.decode_reference(plain())

        assert {worker.pid for worker in codec._idle} == before


def test_a_worker_that_ran_out_of_memory_is_replaced(monkeypatch, tmp_path):
    full = tmp_path / "worker.py"
    full.write_text(
        "import struct, sys; sys.stdin.buffer.read(4)\n"
        "sys.stdout.buffer.write(struct.pack('>1sIII', b'X', 0, 0, 0)); sys.stdout.flush()\n"
        "sys.stdin.buffer.read()"
    )
    monkeypatch.setattr(image_worker, "__file__", str(full))
    with PillowImageCodec() as codec:
        with pytest.raises(ReferenceUnfetched):
            codec.decode_reference(plain())

        assert codec._idle == []


def test_four_threads_decode_at_once_with_a_worker_each():
    gate = threading.Barrier(4)

    def decode(number):
        gate.wait()
        return codec.decode_reference(plain(size=(64 + number, 64))).width

    with PillowImageCodec(workers=4) as codec, ThreadPoolExecutor(4) as threads:
        assert list(threads.map(decode, range(4))) == [64, 65, 66, 67]
        assert len(codec._idle) <= 4


def test_no_worker_is_started_before_there_is_something_to_decode():
    with PillowImageCodec() as codec:
        codec.inspect(plain())

        assert codec._idle == []


def test_workers_can_be_started_before_they_are_needed():
    with PillowImageCodec(workers=2) as codec:
        codec.prepare()
        codec.prepare()
        ready = {worker.pid for worker in codec._idle}

        assert codec.decode_reference(plain()).width == 64
        assert len(ready) == 2
        assert {worker.pid for worker in codec._idle} == ready
    codec.prepare()
    assert codec._idle == []


def test_a_closed_codec_starts_no_worker():
    codec = PillowImageCodec()
    codec.decode_reference(plain())
    worker = codec._idle[0]
    codec.close()
    codec.close()

    assert worker.returncode is not None
    with pytest.raises(ReferenceUnfetched):
        codec.decode_reference(plain())


def test_a_worker_that_comes_home_after_closing_is_ended():
    codec = PillowImageCodec()
    worker = codec._hire()
    codec.close()
    codec._release(worker, reusable=True)

    assert worker.returncode is not None


def test_an_interrupted_call_ends_its_worker(monkeypatch):
    hired = []

    def interrupted(worker, data, *, wait_s):
        hired.append(worker)
        raise KeyboardInterrupt

    monkeypatch.setattr(pillow_images, "_ask", interrupted)
    with PillowImageCodec() as codec, pytest.raises(KeyboardInterrupt):
        codec.decode_reference(plain())

    assert hired[0].returncode is not None


def test_the_worker_is_limited_and_knows_no_secret(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "CANARY")
    with PillowImageCodec() as codec:
        codec.decode_reference(plain())
        process = Path(f"/proc/{codec._idle[0].pid}")
        limits = (process / "limits").read_text().splitlines()
        known = (process / "environ").read_text()

    lines = {line[:25].strip(): line[25:].split() for line in limits}
    assert lines["Max address space"][0] == str(1 << 30)
    assert lines["Max file size"][0] == "0"
    assert lines["Max cpu time"][0].isdigit()
    assert "CANARY" not in known


def test_a_worker_ends_with_its_parent():
    program = (
        "import sys\n"
        "from assetgen_pipeline.adapters.pillow_images import PillowImageCodec\n"
        "codec = PillowImageCodec()\n"
        "codec.decode_reference(sys.stdin.buffer.read())\n"
        "print(codec._idle[0].pid, flush=True)\n"
        "import os; os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", program], input=plain(), capture_output=True, check=False
    )
    pid = int(parent.stdout)

    until(lambda: not is_alive(pid))


def test_the_worker_answers_until_its_requests_end(monkeypatch):
    monkeypatch.setattr(image_worker, "_allow_cpu_for_one_image", lambda: None)
    requests = b"".join(
        image_worker.REQUEST.pack(len(data)) + data for data in (plain(), b"<html>", png(1, 1))
    )
    answers = io.BytesIO()

    image_worker.serve(io.BytesIO(requests), answers)

    data = answers.getvalue()
    status, width, height, length = image_worker.ANSWER.unpack(data[: image_worker.ANSWER.size])
    assert (status, width, height) == (b"J", 64, 48)
    rest = data[image_worker.ANSWER.size + length :]
    assert (rest[:1], rest[image_worker.ANSWER.size :][:1]) == (b"T", b"D")


@pytest.mark.parametrize(
    ("error", "status"), [(MemoryError(), b"X"), (RuntimeError(), b"U"), (OSError(), b"U")]
)
def test_whatever_a_decoder_raises_is_an_answer(monkeypatch, error, status):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(image_worker, "shrink", broken)

    assert image_worker.answer(plain())[:1] == status


def test_the_worker_ends_by_itself_when_nobody_asks():
    worker = pillow_images._start()
    worker.stdin.close()

    assert worker.wait() == 0
    worker.stdout.close()
