"""Copying results: the files of the contract, and no other file of the folder is touched."""

import pytest

from assetgen_pipeline.cli.batches import copy_results
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import BATCH_ID

FOLDER = BatchFolder(BATCH_ID)


def test_every_page_of_a_contact_sheet_is_copied(tmp_path):
    store = InMemoryObjectStore()
    for name in ("results.csv", "contact-sheet.html", "contact-sheet-2.html"):
        store.create(FOLDER.prefix + name, name.encode(), content_type="text/plain")

    written = copy_results(BATCH_ID, tmp_path, store=store)

    assert [path.name for path in written] == [
        "results.csv",
        "contact-sheet.html",
        "contact-sheet-2.html",
    ]
    assert [path.read_text() for path in written] == [path.name for path in written]


@pytest.mark.parametrize(
    "name",
    [
        "contact-sheet-x/../../.bashrc",
        "contact-sheet-/",
        "contact-sheet-2.html/Makefile",
        "contact-sheet-..\\..\\evil.html",
        "contact-sheet-2.html\n",
    ],
)
def test_what_somebody_put_beside_the_results_is_not_copied(tmp_path, name):
    store = InMemoryObjectStore()
    store.create(FOLDER.prefix + name, b"evil", content_type="text/html")
    home = tmp_path / "home"

    assert copy_results(BATCH_ID, home, store=store) == []
    assert list(tmp_path.rglob("*")) == [home]
