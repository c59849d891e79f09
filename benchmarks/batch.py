"""What the pipeline adds to the provider's own time. JSON lines; name parts to run only those.

batch.py stage   100 rows x 2 variants at 1.0 s and concurrency 8, generation stage alone
batch.py run     the same as a whole `assetgen run` against the provider stub
batch.py cpu     CPU per image against the bare library calls for the same bytes
batch.py flat    10,000 rows at 0 latency: images per second, memory along the way
"""

import asyncio
import base64
import hashlib
import io
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from PIL import Image

from assetgen_pipeline.domain.batch_file import CsvLimits, parse_batch_file
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.generation import ProviderImage, plan_images, plan_shards
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.references import ReferenceDecision, RowReferences
from assetgen_pipeline.ports.images import ImageProvider
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.generate_images import generate_shard
from assetgen_pipeline.stages.progress import Progress
from assetgen_pipeline.stages.reserve_budget import reserve_budget
from assetgen_pipeline.stages.shard_job import shard_job
from assetgen_pipeline.testing.provider_stub import ProviderStub
from assetgen_pipeline.testing.stub_answers import StubRequest, as_json
from assetgen_pipeline.testing.stub_gemini import GEMINI_ANSWERS
from assetgen_pipeline.wiring.deployment import open_deployment
from assetgen_pipeline.wiring.services import open_all

OWNER = "bench"
ASSETGEN = str(Path(sys.executable).parent / "assetgen")


def say(**figures):
    print(json.dumps(figures), flush=True)


def a_picture(edge, *, seed):
    """A PNG that is as hard to decode as a painted picture: some noise on a gradient."""
    noise = random.Random(seed)
    base = Image.linear_gradient("L").resize((edge, edge))
    grain = Image.frombytes("L", (edge // 4, edge // 4), noise.randbytes((edge // 4) ** 2))
    grain = grain.resize((edge, edge))
    sink = io.BytesIO()
    Image.merge("RGB", (base, grain, base.rotate(90))).save(sink, "PNG", compress_level=1)
    return sink.getvalue()


class Instant(ImageProvider):
    """Answers after a set time with a prepared picture."""

    def __init__(self, pictures, *, latency_s):
        self.pictures = pictures
        self.latency_s = latency_s
        self.calls = 0

    async def generate(self, image, references, token):
        del references
        self.calls += 1
        await asyncio.sleep(self.latency_s)
        data = self.pictures[self.calls % len(self.pictures)]
        return ProviderImage(data=data, cost=Money(2000), cost_basis="flat")

    async def aclose(self):
        """Nothing is open."""


@contextmanager
def a_home(**settings):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ |= {"ASSETGEN_HOME": home, "ASSETGEN_DAILY_LIMIT_USD": "100000"}
        os.environ |= {f"ASSETGEN_{name}": str(value) for name, value in settings.items()}
        yield load_settings()


def a_batch(rows, variants, *, batch_id):
    lines = ["scene_id,prompt,variants"]
    lines += [f"S{n},scene number {n} of a long story,{variants}" for n in range(rows)]
    parsed = parse_batch_file(
        "\n".join(lines).encode(), limits=CsvLimits(), own_bucket="b", owner=OWNER
    )
    return BatchRequests(
        batch_id=batch_id,
        owner=OWNER,
        mode="normal",
        header=parsed.header,
        requests=parsed.requests,
        received_at="2026-01-01T00:00:00+00:00",
    )


async def generate(batch, provider, services, deployment, *, on_shard=lambda _done: None):
    """The generation stage as the op runs it, shard by shard; seconds and CPU seconds."""
    run_id = "bench"
    deployment = replace(deployment, open_provider=lambda _provider, _model: provider)
    held = reserve_budget(
        batch,
        run_id=run_id,
        catalogue=deployment.catalogue,
        provider=deployment.provider,
        model=deployment.model,
        lane="stable",
        ledger=services.ledger,
    )
    nothing = [
        RowReferences(scene_id=r.scene_id, used=(), unfetched=(), dropped=())
        for r in batch.requests
    ]
    decision = ReferenceDecision(rows=nothing, named=0, unique_urls=0, fetched=0, requests=0)
    images = plan_images(batch, decision, provider=held.provider, model=held.model)
    progress = Progress(
        batch.batch_id,
        provider=held.provider,
        rows=len(batch.requests),
        images=batch.images_requested,
        failed_by_reference=0,
        run_id=run_id,
        services=services,
    )
    began, cpu, done = time.monotonic(), time.process_time(), 0
    for shard in plan_shards(images, shard_rows=deployment.shard_rows):
        report = await generate_shard(
            shard,
            job=shard_job(
                held,
                progress,
                run_id=run_id,
                alone=False,
                deployment=deployment,
                services=services,
            ),
        )
        assert report.generated == len(shard), report
        done += report.generated
        on_shard(done)
    return time.monotonic() - began, time.process_time() - cpu, done


async def control(pictures, services, ledger_file):
    """The same waits and the bare library calls, 8 at once: what this machine gives today."""
    shelf, turns = Bare(services, ledger_file), iter(range(200))

    async def work():
        for n in turns:
            await asyncio.sleep(1.0)
            await asyncio.to_thread(shelf.keep, n, pictures[n % len(pictures)])

    began = time.monotonic()
    await asyncio.gather(*(work() for _ in range(8)))
    return time.monotonic() - began


def stage():
    pictures = [a_picture(1024, seed=n) for n in range(8)]
    with a_home(GENERATION_CONCURRENCY=8) as settings, open_all(settings) as services:
        plain = asyncio.run(control(pictures, services, settings.home / "bare.db"))
        batch = a_batch(100, 2, batch_id="bench.stage.00000001")
        provider = Instant(pictures, latency_s=1.0)
        deployment = open_deployment(settings)
        seconds, cpu, done = asyncio.run(generate(batch, provider, services, deployment))
    ideal = 25.0
    say(
        benchmark="generation stage, 100 rows x 2 at 1.0 s, concurrency 8",
        seconds=round(seconds, 2),
        ideal_s=ideal,
        ratio=round(seconds / ideal, 3),
        control_s=round(plain, 2),
        ratio_to_control=round(seconds / plain, 3),
        cpu_seconds=round(cpu, 2),
        images=done,
        picture_kb=len(pictures[0]) // 1024,
        load=os.getloadavg()[0],
    )


def prepared(pictures):
    """The stub's answers, encoded beforehand: sending them is all that a timed run pays for."""
    asked = StubRequest(
        number=1,
        protocol="gemini",
        path="",
        model="prepared",
        prompt="",
        references=(),
        size=(8, 8),
        body={},
        headers={},
        attempt_id="",
    )
    document = json.loads(GEMINI_ANSWERS["ok"](asked).body)
    [part] = document["candidates"][0]["content"]["parts"]
    answers = []
    for picture in pictures:
        part["inlineData"]["data"] = base64.b64encode(picture).decode()
        answers.append(as_json(document, billed=True))
    return lambda request: answers[request.number % len(answers)]


def run():
    """A whole batch as an operator runs it, with the real SDK against the stub in this process."""
    pictures = [a_picture(1024, seed=n) for n in range(8)]
    with (
        ProviderStub(latency_s=1.0, keep=False) as stub,
        a_home(GENERATION_CONCURRENCY=8, PROVIDER="gemini") as settings,
    ):
        stub.always(prepared(pictures))
        os.environ |= {"GEMINI_API_KEY": "stub", "GOOGLE_GEMINI_BASE_URL": stub.url}
        csv = settings.home / "batch.csv"
        rows = [f"S{n},scene number {n},2" for n in range(100)]
        csv.write_text("\n".join(["scene_id,prompt,variants", *rows]), encoding="utf-8")
        command = [ASSETGEN, "run", str(csv), "--owner", OWNER, "--json"]
        began, stub_cpu = time.monotonic(), time.process_time()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds, stub_cpu = time.monotonic() - began, time.process_time() - stub_cpu
        status = json.loads(done.stdout)
        assert status["images"]["delivered"] == 200, status
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        say(
            benchmark="assetgen run, 100 rows x 2 at 1.0 s, concurrency 8, gemini SDK",
            seconds=round(seconds, 2),
            run_s=in_run(status),
            ideal_s=25.0,
            ratio=round(seconds / 25.0, 3),
            ratio_of_run=round(in_run(status) / 25.0, 3),
            # The largest process that this one waited for, itself or through its children.
            peak_mb=round(used.ru_maxrss / 1024),
            cpu_seconds=round(used.ru_utime + used.ru_stime, 2),
            stub_cpu_seconds=round(stub_cpu, 2),
            picture_kb=len(pictures[0]) // 1024,
            in_flight_peak=stub.state()["peak"],
            requests=stub.counts["requests"],
            load=os.getloadavg()[0],
        )


def in_run(status):
    """From the claim of the file to the final state."""
    started, ended = (datetime.fromisoformat(status[f"{n}_at"]) for n in ("started", "finished"))
    return round((ended - started).total_seconds(), 2)


class Bare:
    """The library calls that one image cannot do without, one after another."""

    def __init__(self, services, ledger_file):
        self.bucket = services.store._client.bucket(services.store.bucket)
        self.folder = ledger_file.name
        self.file = ledger_file
        self.lock = threading.Lock()
        with self.books() as books:
            books.execute("pragma journal_mode=wal")
            books.execute("create table attempt (id text primary key, state text, cost int)")

    @contextmanager
    def books(self):
        with self.lock, closing(sqlite3.connect(self.file, isolation_level=None)) as books:
            books.execute("pragma synchronous=full")
            yield books

    def keep(self, n, data):
        name = f"bare/{self.folder}/{n}"
        with self.books() as books:
            books.execute("insert into attempt values (?, 'intent', 2000)", (name,))
        hashlib.sha256(data).hexdigest()
        with Image.open(io.BytesIO(data)) as image:
            image.thumbnail((256, 256))
            sink = io.BytesIO()
            image.convert("RGB").save(sink, "JPEG", quality=82)
        self.bucket.blob(f"{name}.png").upload_from_string(data, if_generation_match=0)
        thumbnail = sink.getvalue()
        self.bucket.blob(f"{name}.jpg").upload_from_string(thumbnail, if_generation_match=0)
        with self.books() as books:
            books.execute("update attempt set state = 'captured' where id = ?", (name,))


def bare(services, data, *, count, ledger_file):
    """CPU seconds of one image's bare calls."""
    shelf, cpu = Bare(services, ledger_file), time.process_time()
    for n in range(count):
        shelf.keep(n, data)
    return (time.process_time() - cpu) / count


def cpu():
    data = a_picture(1024, seed=1)
    count = 200
    with a_home(GENERATION_CONCURRENCY=8) as settings, open_all(settings) as services:
        ledger_file = settings.home / "bare.db"
        bare(services, data, count=20, ledger_file=ledger_file.with_suffix(".warm"))
        floor = bare(services, data, count=count, ledger_file=ledger_file)
        batch = a_batch(count, 1, batch_id="bench.cpu.00000001")
        deployment = open_deployment(settings)
        provider = Instant([data], latency_s=0.0)
        seconds, spent, done = asyncio.run(generate(batch, provider, services, deployment))
    say(
        benchmark="CPU per image: thumbnail, hash, two uploads, ledger",
        ours_ms=round(spent / done * 1000, 2),
        bare_ms=round(floor * 1000, 2),
        ratio=round(spent / done / floor, 3),
        images_per_second=round(done / seconds, 1),
        picture_kb=len(data) // 1024,
        load=os.getloadavg()[0],
    )


def rss_mb():
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * resource.getpagesize() // 2**20


def flat(rows=10_000):
    data = a_picture(256, seed=1)
    marks = {}

    def note(done):
        marks[done] = (round(time.monotonic() - began, 1), rss_mb())

    with a_home(GENERATION_CONCURRENCY=8) as settings, open_all(settings) as services:
        batch = a_batch(rows, 1, batch_id="bench.flat.00000001")
        store = services.store
        name = BatchFolder(batch.batch_id).artifact("batch_requests")
        store.write(name, batch.model_dump_json().encode(), content_type="application/json")
        deployment = open_deployment(settings)
        provider = Instant([data], latency_s=0.0)
        before, began = rss_mb(), time.monotonic()
        seconds, spent, done = asyncio.run(
            generate(batch, provider, services, deployment, on_shard=note)
        )
    thousands = {n: mark for n, mark in marks.items() if n % 1000 == 0}
    rates = [
        round(1000 / (thousands[n][0] - thousands.get(n - 1000, (0.0, 0))[0]), 1) for n in thousands
    ]
    say(
        benchmark=f"{rows} rows at 0 latency",
        images_per_second=round(done / seconds, 1),
        images_per_second_by_thousand=rates,
        cpu_ms_per_image=round(spent / done * 1000, 2),
        rss_mb_before=before,
        rss_mb_by_thousand=[memory for _at, memory in thousands.values()],
        load=os.getloadavg()[0],
    )


def main():
    parts = {"stage": stage, "run": run, "cpu": cpu, "flat": flat}
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
