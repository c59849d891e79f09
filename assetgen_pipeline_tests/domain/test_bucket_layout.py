import posixpath
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.bucket_layout import (
    BatchFolder,
    batch_id_for,
    checked_owner,
    image_name,
    inbox_name,
    is_batch_id,
    owner_of,
    pack_prefix,
    parse_drop,
    reference_name,
    slug,
    suffix_of_type,
    thumbnail_name,
    type_of_suffix,
)
from assetgen_pipeline.domain.errors import OwnerInvalid
from assetgen_pipeline_tests.builders import BATCH_ID

HOSTILE = [
    "", ".", "..", "../x", "a/b", "a.b", "A", "é", "-a", "_a", "a" * 64, "a\n", "a\0", "a b", "a%2f",
]  # fmt: skip


@pytest.mark.parametrize("owner", ["a", "0", "team-1_x", "a" * 63])
def test_an_owner_is_a_plain_lower_case_name(owner):
    assert checked_owner(owner) == owner


@pytest.mark.parametrize("owner", HOSTILE)
def test_any_other_owner_is_refused(owner):
    with pytest.raises(OwnerInvalid):
        checked_owner(owner)


def test_a_batch_id_names_its_owner():
    assert is_batch_id(BATCH_ID)
    assert owner_of(BATCH_ID) == "studio"


@pytest.mark.parametrize(
    "text",
    ["", "studio", "studio.x.0123abc", "studio.x.0123ABCD", "studio..0123abcd", "a.b.c.0123abcd",
     "studio.x.0123abcd\n", "studio.x y.0123abcd", "../x.x.0123abcd"],
)  # fmt: skip
def test_what_is_no_batch_id_names_nobody(text):
    assert not is_batch_id(text)
    with pytest.raises(OwnerInvalid):
        owner_of(text)


@pytest.mark.parametrize(
    ("stem", "expected"),
    [("spring", "spring"), ("Spring 2026 (final)", "Spring-2026-final"), ("../é", "batch"), ("", "batch"),
     ("a" * 100, "a" * 64), ("a" * 63 + " b", "a" * 63)],
)  # fmt: skip
def test_a_stem_becomes_a_plain_name(stem, expected):
    assert slug(stem) == expected


def test_one_drop_is_always_one_batch_and_two_drops_are_two():
    drop = {"owner": "studio", "stem": "a", "bucket": "b", "name": "inbox/studio/a.csv"}

    assert batch_id_for(**drop, generation=1) == batch_id_for(**drop, generation=1)
    assert batch_id_for(**drop, generation=1) != batch_id_for(**drop, generation=2)
    assert batch_id_for(**drop, generation=1) != batch_id_for(
        **drop | {"bucket": "c"}, generation=1
    )
    with pytest.raises(OwnerInvalid):
        batch_id_for(**drop | {"owner": "../x"}, generation=1)


@given(st.text(), st.integers(min_value=0))
def test_every_batch_folder_is_a_plain_path_under_the_outbox(stem, generation):
    batch_id = batch_id_for(owner="a", stem=stem, bucket="b", name=stem[:0], generation=generation)
    folder = BatchFolder(batch_id)

    assert is_batch_id(batch_id)
    assert posixpath.normpath(folder.request) == folder.request
    assert folder.request.startswith("outbox/a/")


@pytest.mark.parametrize(
    ("name", "owner", "stem", "dry_run"),
    [
        ("inbox/studio/a.csv", "studio", "a", False),
        ("inbox/studio/A b.é.CSV", "studio", "A b.é", False),
        ("inbox/studio/dry-run/a.csv", "studio", "a", True),
        ("inbox/dry-run/a.csv", "dry-run", "a", False),
    ],
)
def test_a_csv_in_an_owner_s_folder_is_a_drop(name, owner, stem, dry_run):
    drop = parse_drop(name)

    assert drop is not None
    assert (drop.name, drop.owner, drop.stem, drop.dry_run) == (name, owner, stem, dry_run)


@pytest.mark.parametrize(
    "name",
    ["", "inbox/", "inbox/studio/", "inbox/a.csv", "inbox/studio/a.txt", "inbox/studio/.csv",
     "inbox/Studio/a.csv", "inbox/../a.csv", "inbox/studio/x/a.csv", "inbox/studio/dry-run/x/a.csv",
     "inbox/studio/dry-run/", "outbox/studio/a.csv", "studio/a.csv", "inbox//a.csv"],
)  # fmt: skip
def test_anything_else_is_not(name):
    assert parse_drop(name) is None


@pytest.mark.parametrize("dry_run", [True, False])
def test_where_a_file_is_dropped_is_read_back(dry_run):
    drop = parse_drop(inbox_name("studio", "a.csv", dry_run=dry_run))

    assert drop is not None
    assert drop.dry_run is dry_run


def test_the_objects_of_a_batch_have_the_names_of_the_contract():
    folder = BatchFolder(BATCH_ID)
    names = [
        folder.request, folder.status, folder.results, folder.failed, folder.manifest,
        folder.contact_sheet, folder.problem, folder.control,
    ]  # fmt: skip

    assert folder.prefix == f"outbox/studio/{BATCH_ID}/"
    assert [name.removeprefix(folder.prefix) for name in names] == [
        "request.csv", "status.json", "results.csv", "failed.csv", "manifest.json",
        "contact-sheet.html", "problem.json", "control.json",
    ]  # fmt: skip
    assert folder.artifact("budget_hold") == f"artifacts/{BATCH_ID}/budget_hold.json"
    assert folder.fetch_history("r") == f"artifacts/{BATCH_ID}/r/fetch_history.json"
    assert folder.op_artifact("r", "s", None) == f"artifacts/{BATCH_ID}/r/s.json"
    assert folder.op_artifact("r", "s", "3") == f"artifacts/{BATCH_ID}/r/s[3].json"
    assert folder.costs("2026-03-01") == f"costs/dt=2026-03-01/{BATCH_ID}.parquet"


def test_the_expiry_index_counts_hours_in_utc():
    at = datetime(2026, 3, 1, 1, 59, tzinfo=timezone(timedelta(hours=2)))

    assert BatchFolder(BATCH_ID).expiry(at) == f"index/expiry/2026-02-28T23/{BATCH_ID}"
    assert BatchFolder(BATCH_ID).expiry(at.astimezone(UTC)) == BatchFolder(BATCH_ID).expiry(at)


def test_images_thumbnails_references_and_packs_have_their_folders():
    assert image_name("o", "abcd", "image/jpeg") == "images/o/ab/abcd.jpg"
    assert thumbnail_name("o", "abcd") == "thumbnails/o/ab/abcd.jpg"
    assert reference_name("o", "ff", "image/webp") == "references/o/ff.webp"
    assert pack_prefix("warm") == "packs/warm/"


def test_packs_hold_every_suffix_of_the_contract():
    assert set(type_of_suffix) == {"png", "jpg", "jpeg", "webp"}
    assert all(type_of_suffix[suffix] == mime for mime, suffix in suffix_of_type.items())
