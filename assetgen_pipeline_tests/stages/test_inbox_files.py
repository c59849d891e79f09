"""Files that wait in the inbox."""

import pytest

from assetgen_pipeline.domain.bucket_layout import parse_drop
from assetgen_pipeline.stages.inbox_files import InboxFile, inbox_files
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import BUCKET, NOW

NAMES = ("inbox/ada/spring.csv", "inbox/ada/dry-run/spring.csv", "inbox/adam/spring.csv")


@pytest.fixture
def store():
    bucket = InMemoryObjectStore(BUCKET, clock=ManualClock(NOW))
    for name in (*NAMES, "inbox/ada/notes.txt", "inbox/ada/deep/er/a.csv", "inbox/Not One/a.csv"):
        bucket.write(name, b"scene_id,prompt\n", content_type="text/csv")
    return bucket


def file_at(name, store):
    drop = parse_drop(name)
    generation = store.stat(name).generation
    return InboxFile(
        batch_id=drop.batch_id(bucket=BUCKET, generation=generation),
        owner=drop.owner,
        dry_run=drop.dry_run,
        dropped_at=NOW,
    )


@pytest.mark.parametrize(
    ("owner", "names"), [("", NAMES), ("ada", NAMES[:2]), ("adam", NAMES[2:]), ("ben", ())]
)
def test_what_waits_is_told_as_the_batches_that_it_becomes(store, owner, names):
    found = list(inbox_files(store=store, owner=owner))

    assert sorted(found, key=str) == sorted((file_at(name, store) for name in names), key=str)
