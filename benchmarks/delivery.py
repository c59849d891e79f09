"""Delivery: signing against bare RSA, freshness, refresh, and the contact sheet. JSON lines.

One batch of 1,000 images on the local bucket and a SQLite ledger. Every figure is of one
process; the ratio to bare RSA is the smallest of interleaved rounds, so that a busy machine
does not speak for either side. The paint needs chromium and chromedriver.
"""

import asyncio
import json
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import dagster as dg
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from PIL import Image

from assetgen_pipeline.adapters.gcs_url_signer import KeySigner, local_signing_key
from assetgen_pipeline.defs.expiry_sensor import expiring_urls_sensor
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.contact_sheet import contact_sheet_html, sheet_pages
from assetgen_pipeline.domain.delivery import LinkLife, RefreshCause
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.close_batch import finish_batch, publish_results, settle_batch
from assetgen_pipeline.stages.expiry_index import index_links
from assetgen_pipeline.stages.refresh_published import refresh_batch
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.builders import BATCH_ID
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

IMAGES = 1_000
ROUNDS = 7


def report(benchmark, **figures):
    print(json.dumps({"benchmark": benchmark, **figures}), flush=True)


def seconds(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def signing(home):
    credentials = local_signing_key(home)
    signer = KeySigner(kind="local", credentials=credentials, bucket="b")
    info = json.loads((home / "signing-key.json").read_text(encoding="utf-8"))
    key = serialization.load_pem_private_key(info["private_key"].encode(), password=None)
    names = [f"images/studio/{n:040x}.png" for n in range(IMAGES)]
    texts = [f"GOOG4-RSA-SHA256\n{n:0112x}".encode() for n in range(IMAGES)]
    now, week = datetime.now(UTC), timedelta(days=7)
    ours, bare, ratios = [], [], []
    for _ in range(ROUNDS):
        ours.append(seconds(lambda: signer.sign(names, ttl=week, now=now)))
        bare.append(
            seconds(lambda: [key.sign(t, padding.PKCS1v15(), hashes.SHA256()) for t in texts])
        )
        ratios.append(ours[-1] / bare[-1])
    report(
        "sign 1,000 URLs",
        urls_per_second=round(IMAGES / min(ours)),
        bare_rsa_per_second=round(IMAGES / min(bare)),
        ratio_of_best=round(min(ours) / min(bare), 2),
        ratio_median=round(statistics.median(ratios), 2),
    )


def tick_ms(services):
    """A sensor tick, without the making of its context."""
    context = dg.build_sensor_context(resources={"services": services})
    ticks = [seconds(lambda: expiring_urls_sensor(context)) for _ in range(ROUNDS)]
    return round(statistics.median(ticks) * 1000, 1)


def a_thumbnail(number):
    picture, data = Image.effect_noise((256, 144), 30 + number % 60), BytesIO()
    picture.convert("RGB").save(data, "JPEG", quality=80)
    return data.getvalue()


@contextmanager
def published(home):
    """A batch of 1,000 images on real adapters, with thumbnails of a real size."""
    with open_all(load_settings(home=home, daily_limit_usd=1_000)) as services:
        bench = Bench(store=services.store, ledger=services.ledger)
        batch = bench.open(*some_requests(IMAGES))
        asyncio.run(bench.generate(batch, concurrency=16))
        thumbnails = [a_thumbnail(number) for number in range(20)]
        names = [info.name for info in services.store.list("thumbnails/")]
        with ThreadPoolExecutor(16) as pool:
            list(
                pool.map(
                    lambda n: services.store.write(
                        names[n], thumbnails[n % 20], content_type="image/jpeg"
                    ),
                    range(len(names)),
                )
            )
        outcome = bench.outcome()
        settle_batch(BATCH_ID, services=services)
        took = seconds(lambda: publish_results(outcome, services=services))
        finish_batch(outcome, services=services)
        report("publish 1,000 images (sheet, manifest, links, facts)", seconds=round(took, 2))
        yield services, outcome


def freshness(services):
    look = [
        seconds(lambda: refresh_batch(BATCH_ID, cause=RefreshCause.EXPIRING, services=services))
        for _ in range(ROUNDS)
    ]
    report(
        "freshness check, 1,000 images, nothing due",
        batch_ms=round(statistics.median(look) * 1000, 1),
        tick_ms=tick_ms(services),
    )
    now = services.clock.now()
    due = LinkLife(signed_at=now, expires_at=now + timedelta(minutes=1), published_at=now)
    for number in range(200):
        index_links(f"studio.due.{number:08x}", due, store=services.store)
    report(
        "sensor tick, 200 batches due (10,000 links if they have 25 images each)",
        tick_ms=tick_ms(services),
    )


def refresh(services):
    took = [
        seconds(lambda: refresh_batch(BATCH_ID, cause=RefreshCause.OPERATOR, services=services))
        for _ in range(3)
    ]
    report("refresh 1,000 images (2,000 links)", seconds=round(statistics.median(took), 2))


def contact_sheet(services, outcome, folder):
    read = {
        image.image.thumbnail_name: services.store.read(image.image.thumbnail_name)
        for image in outcome.images
    }
    [page] = sheet_pages(outcome)
    pieces = []
    took = seconds(
        lambda: pieces.extend(
            contact_sheet_html(
                outcome,
                thumbnails=read.get,
                title=BATCH_ID,
                generated_at=datetime.now(UTC),
                page=page,
            )
        )
    )
    path = folder / "contact-sheet.html"
    path.write_bytes(services.store.read(BatchFolder(BATCH_ID).contact_sheet))
    report(
        "contact sheet of 1,000 images",
        build_seconds=round(took, 3),
        megabytes=round(path.stat().st_size / 1e6, 1),
        **painted(path, folder),
    )


def painted(path, folder):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        return {"paint": "NOT MEASURED: chromium or chromedriver is not installed"}
    from selenium import webdriver  # noqa: PLC0415

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-dev-shm-usage", "--disable-background-networking",
        f"--user-data-dir={folder / 'profile'}", "--window-size=1400,900",
    ):  # fmt: skip
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    paints, loads = [], []
    try:
        for _ in range(5):
            browser.get(path.as_uri())
            paints.append(
                browser.execute_script(
                    "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
                )
            )
            loads.append(
                browser.execute_script(
                    "return performance.getEntriesByType('navigation')[0].domComplete"
                )
            )
    finally:
        browser.quit()
    return {
        "first_paint_ms": round(statistics.median(paints)),
        "complete_ms": round(statistics.median(loads)),
    }


def main():
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        signing(home)
        with published(home) as (services, outcome):
            freshness(services)
            refresh(services)
            contact_sheet(services, outcome, Path(folder))


if __name__ == "__main__":
    main()
