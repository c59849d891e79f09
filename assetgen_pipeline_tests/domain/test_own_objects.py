import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.errors import ReferenceBlocked
from assetgen_pipeline.domain.own_objects import check_own_object, own_object
from assetgen_pipeline.domain.reference_url import check_reference_url
from assetgen_pipeline_tests.builders import BUCKET, OWNER

LOCAL, COMPOSE = "http://127.0.0.1:4443", "http://fake-gcs:4443"
NAME = f"images/{OWNER}/ab/a.png"
ENCODED = NAME.replace("/", "%2F")


@pytest.mark.parametrize(
    "url",
    [
        f"gs://{BUCKET}/{NAME}",
        f"https://storage.googleapis.com/{BUCKET}/{NAME}",
        f"https://storage.googleapis.com:443/{BUCKET}/{NAME}?X-Goog-Signature=00",
        f"https://STORAGE.googleapis.com./{BUCKET}/{ENCODED}",
        f"https://storage.googleapis.com/%61ssetgen-test/{NAME}",
        f"https://{BUCKET}.storage.googleapis.com/{NAME}",
        f"https://storage.cloud.google.com/{BUCKET}/{NAME}?authuser=1",
        f"https://{BUCKET}.commondatastorage.googleapis.com/{NAME}",
        f"https://commondatastorage.googleapis.com/{BUCKET}/{NAME}",
        f"https://storage.googleapis.com/storage/v1/b/{BUCKET}/o/{ENCODED}?alt=media",
        f"https://storage.googleapis.com/download/storage/v1/b/{BUCKET}/o/{ENCODED}?alt=media",
        f"https://www.googleapis.com/storage/v1/b/{BUCKET}/o/{ENCODED}?alt=media",
        f"https://www.googleapis.com/download/storage/v1/b/%61ssetgen-test/o/{ENCODED}",
    ],
)
def test_an_object_of_our_bucket_is_known_in_any_spelling(url):
    assert own_object(url, bucket=BUCKET) == NAME


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:4443/{BUCKET}/{NAME}?X-Goog-Expires=1",
        f"http://localhost:4443/{BUCKET}/{NAME}",
        f"http://127.9.9.9:4443/{BUCKET}/{NAME}",
        f"http://[::1]:4443/{BUCKET}/{NAME}",
        f"http://[::ffff:127.0.0.1]:4443/{BUCKET}/{NAME}",
        f"http://a.localhost:4443/{BUCKET}/{NAME}",
        f"http://127.0.0.1:4443/storage/v1/b/{BUCKET}/o/{ENCODED}?alt=media",
        f"http://127.0.0.1:4443/download/storage/v1/b/{BUCKET}/o/{ENCODED}?alt=media",
    ],
)
def test_an_object_of_our_bucket_is_known_at_the_emulator(url):
    assert own_object(url, bucket=BUCKET, endpoint=LOCAL) == NAME
    assert own_object(url, bucket=BUCKET) is None
    assert own_object(url.replace("4443", "4444"), bucket=BUCKET, endpoint=LOCAL) is None


@pytest.mark.parametrize(
    "url",
    [
        f"https://storage.googleapis.com/{BUCKET}-2/{NAME}",
        f"https://storage.googleapis.com/other/{BUCKET}/{NAME}",
        f"https://{BUCKET}-2.storage.googleapis.com/{NAME}",
        f"https://x.{BUCKET}.storage.googleapis.com/{NAME}",
        f"https://storage.googleapis.com.example.com/{BUCKET}/{NAME}",
        f"https://www.googleapis.com/{BUCKET}/{NAME}",
        f"https://storage.googleapis.com/storage/v1/b/other/o/{ENCODED}",
        f"https://example.com/storage/v1/b/{BUCKET}/o/{ENCODED}",
        f"https://firebasestorage.googleapis.com/v0/b/{BUCKET}/o/{ENCODED}?alt=media",
        "gs://other/packs/a.png",
        f"http://10.0.0.1:4443/{BUCKET}/{NAME}",
    ],
)
def test_anything_else_is_a_strangers_server(url):
    assert own_object(url, bucket=BUCKET, endpoint=LOCAL) is None


def test_an_emulator_is_known_by_its_name():
    url = f"http://fake-gcs:4443/{BUCKET}/{NAME}"

    assert own_object(url, bucket=BUCKET, endpoint=COMPOSE) == NAME
    assert own_object(url.replace("fake-gcs", "127.0.0.1"), bucket=BUCKET, endpoint=COMPOSE) is None


@pytest.mark.parametrize(
    "name",
    [
        "packs/a/b.png",
        *(f"{f}/{OWNER}/x/y.png" for f in ("inbox", "outbox", "images", "references")),
    ],
)
def test_packs_and_the_owners_folders_may_be_read(name):
    check_own_object(name, owner=OWNER)


@pytest.mark.parametrize(
    "name",
    [
        "", "/", "images/rival/ab/a.png", f"images/{OWNER}-2/a.png", f"images/{OWNER}", "costs/x.parquet",
        "config/pause.json", "artifacts/x", f"images/{OWNER}/../rival/a.png", f"images/{OWNER}/./a.png",
        f"images/{OWNER}//a.png", f"/images/{OWNER}/a.png", "packs/", "packs/..", f"images/{OWNER}/..\\rival",
        f"images/{OWNER}/a\x00.png", f"images/{OWNER}/%2e%2e/../rival/a.png",
    ],
)  # fmt: skip
def test_nothing_else_may(name):
    with pytest.raises(ReferenceBlocked) as refusal:
        check_own_object(name, owner=OWNER)

    assert refusal.value.code == "reference-not-permitted"


def test_a_link_of_the_emulators_passes_the_lint_for_our_bucket_alone():
    def check(url, endpoint=LOCAL):
        check_reference_url(
            url, allowed_networks=(), own_bucket=BUCKET, owner=OWNER, own_endpoint=endpoint
        )

    check(f"{LOCAL}/{BUCKET}/{NAME}?X-Goog-Signature=00")
    for url, endpoint in (
        (f"{LOCAL}/other/{NAME}", LOCAL),
        (f"{LOCAL}/_internal/config", LOCAL),
        (f"http://127.0.0.1:4444/{BUCKET}/{NAME}", LOCAL),
        (f"{LOCAL}/{BUCKET}/{NAME}", ""),
    ):
        with pytest.raises(ReferenceBlocked) as refusal:
            check(url, endpoint)
        assert refusal.value.code == "reference-blocked"


@given(st.text(max_size=40), st.sampled_from(["/", "%2F", "%252F"]))
def test_no_spelling_of_a_climb_is_permitted(tail, slash):
    url = f"https://storage.googleapis.com/{BUCKET}/images/{OWNER}/..{slash}rival/{tail}"
    try:
        name = own_object(url, bucket=BUCKET)
        check_own_object(name or "", owner=OWNER)
    except (ReferenceBlocked, ValueError):
        return
    assert name.startswith(f"images/{OWNER}/")
    assert ".." not in name.split("/")
