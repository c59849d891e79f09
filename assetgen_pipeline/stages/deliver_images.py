"""Write what people open: manifest, failed rows, contact sheet. Signed URLs are not made here."""

from collections.abc import Iterator

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.contact_sheet import contact_sheet_html
from assetgen_pipeline.domain.errors import ObjectMissing
from assetgen_pipeline.domain.outcome import BatchOutcome
from assetgen_pipeline.domain.result_files import failed_csv, manifest_json
from assetgen_pipeline.ports import ObjectStore
from assetgen_pipeline.stages.parse_batch import CSV_TYPE
from assetgen_pipeline.stages.services import Services


def deliver_images(outcome: BatchOutcome, *, services: Services) -> list[str]:
    """Write `manifest.json`, `failed.csv` and `contact-sheet.html`; returns their names.

    Each is uploaded whole as a new generation, so a reader never meets half a file.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    folder, store = BatchFolder(outcome.batch_id), services.store
    now = services.clock.now().isoformat()
    data = manifest_json(outcome, bucket=store.bucket)
    store.write(folder.manifest, data, content_type="application/json")
    store.write(folder.failed, failed_csv(outcome), content_type=CSV_TYPE)
    sheet = "".join(_sheet(outcome, store=store, now=now))
    store.write(folder.contact_sheet, sheet.encode(), content_type="text/html; charset=utf-8")
    return [folder.manifest, folder.failed, folder.contact_sheet]


def _sheet(outcome: BatchOutcome, *, store: ObjectStore, now: str) -> Iterator[str]:
    def thumbnail(name: str) -> bytes | None:
        try:
            return store.read(name)
        except ObjectMissing:
            return None

    return contact_sheet_html(
        outcome, thumbnails=thumbnail, title=outcome.batch_id, generated_at=now
    )
