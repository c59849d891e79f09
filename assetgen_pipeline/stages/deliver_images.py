"""Write what people open: manifest, failed rows, contact sheet. Signed URLs are not made here."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.budget import StoredImage
from assetgen_pipeline.domain.contact_sheet import SheetPage, contact_sheet_html, sheet_pages
from assetgen_pipeline.domain.outcome import BatchOutcome
from assetgen_pipeline.domain.result_files import failed_csv, manifest_json
from assetgen_pipeline.stages.image_receipts import read_thumbnail
from assetgen_pipeline.stages.parse_batch import CSV_TYPE
from assetgen_pipeline.stages.refresh_urls import read_links
from assetgen_pipeline.stages.services import Services

_READS_AT_ONCE = 16


def deliver_images(outcome: BatchOutcome, *, services: Services) -> list[str]:
    """Write `manifest.json`, `failed.csv` and the contact sheet; returns their names.

    Each is uploaded whole as a new generation, so a reader never meets half a file.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    folder, store = BatchFolder(outcome.batch_id), services.store
    signed = read_links(outcome.batch_id, services=services)
    data = manifest_json(outcome, bucket=store.bucket, signed=signed)
    store.write(folder.manifest, data, content_type="application/json")
    store.write(folder.failed, failed_csv(outcome), content_type=CSV_TYPE)
    sheets = [_write_page(outcome, page, services=services) for page in sheet_pages(outcome)]
    return [folder.manifest, folder.failed, *sheets]


def _write_page(outcome: BatchOutcome, page: SheetPage, *, services: Services) -> str:
    name = BatchFolder(outcome.batch_id).prefix + page.file
    wanted = {i.image.thumbnail_name: i.image for i in page.images if i.image is not None}
    thumbnails = _read_all(list(wanted.values()), owner=outcome.owner, services=services)
    html = contact_sheet_html(
        outcome,
        thumbnails=thumbnails.get,
        title=outcome.batch_id,
        generated_at=services.clock.now(),
        page=page,
    )
    services.store.write(name, "".join(html).encode(), content_type="text/html; charset=utf-8")
    return name


def _read_all(images: Sequence[StoredImage], *, owner: str, services: Services) -> dict[str, bytes]:
    """The thumbnails that are there or can be: a page's at most, read many at once."""

    def read(image: StoredImage) -> bytes | None:
        return read_thumbnail(image, owner=owner, services=services)

    with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="thumbnails") as pool:
        found = zip(images, pool.map(read, images), strict=True)
        return {image.thumbnail_name: data for image, data in found if data is not None}
