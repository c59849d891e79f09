"""What every object store keeps to: the fake in memory, and the real one on a real server."""

import gzip
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from assetgen_pipeline.adapters.gcs_object_store import GcsObjectStore, emulator_client
from assetgen_pipeline.adapters.local_bucket import hold_local_bucket
from assetgen_pipeline.domain.errors import (
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
    StorageUnavailable,
)
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.ports import refusing_port

TEXT = "text/plain"
LARGE = 8 * 1024 * 1024 + 1


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    with hold_local_bucket(tmp_path_factory.mktemp("bucket")) as address:
        yield address


@pytest.fixture(params=["memory", "gcs"])
def store(request):
    if request.param == "memory":
        yield InMemoryObjectStore()
        return
    client = emulator_client(request.getfixturevalue("endpoint"))
    made = GcsObjectStore(client, bucket=f"b-{abs(hash(request.node.name)):x}")
    made.ensure_bucket()
    yield made
    client.close()


def names(store, prefix):
    return [info.name for info in store.list(prefix)]


@pytest.mark.parametrize("data", [b"", b"bytes", bytes(range(256)), gzip.compress(b"zip", mtime=0)])
def test_what_was_stored_is_read_byte_for_byte(store, data):
    store.create("a/object", data, content_type="application/octet-stream")

    assert store.read("a/object") == data


def test_the_description_is_the_same_from_create_stat_and_list(store):
    made = store.create(
        "a/b.csv", b"12345", content_type="text/csv", metadata={"by": "Zoë", "n": "1"}
    )

    assert store.stat("a/b.csv") == made
    assert list(store.list("a/")) == [made]
    assert (made.name, made.size, made.content_type) == ("a/b.csv", 5, "text/csv")
    assert made.metadata == {"by": "Zoë", "n": "1"}
    assert made.generation > 0
    assert abs(made.updated_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_an_absent_object_is_none_missing_or_false(store):
    assert store.stat("nothing") is None
    assert store.delete("nothing") is False
    assert names(store, "nothing") == []
    with pytest.raises(ObjectMissing):
        store.read("nothing")


def test_a_folder_is_no_object(store):
    store.create("a/b", b"x", content_type=TEXT)

    assert store.stat("a") is None
    assert store.stat("a/") is None
    with pytest.raises(ObjectMissing):
        store.read("a")


def test_create_never_replaces(store):
    first = store.create("a", b"first", content_type=TEXT)

    with pytest.raises(ObjectExists):
        store.create("a", b"second", content_type=TEXT)

    assert store.read("a") == b"first"
    assert store.stat("a") == first


def test_create_never_replaces_an_object_of_many_megabytes_either(store):
    store.create("large", b"1" * LARGE, content_type=TEXT, metadata={"by": "first"})

    with pytest.raises(ObjectExists):
        store.create("large", b"2" * LARGE, content_type=TEXT, metadata={"by": "second"})

    assert store.read("large") == b"1" * LARGE
    assert store.stat("large").metadata == {"by": "first"}
    assert store.stat("large").size == LARGE


def test_of_many_that_create_at_once_one_succeeds(store):
    def attempt(number):
        try:
            store.create("race", str(number).encode(), content_type=TEXT)
        except ObjectExists:
            return None
        return number

    with ThreadPoolExecutor(16) as pool:
        winners = [won for won in pool.map(attempt, range(16)) if won is not None]

    assert len(winners) == 1
    assert store.read("race") == str(winners[0]).encode()


def test_write_creates_and_replaces_and_the_generation_rises(store):
    first = store.write("a", b"1", content_type=TEXT, metadata={"old": "1"})
    second = store.write("a", b"22", content_type="text/csv", metadata={"new": "2"})

    assert second.generation > first.generation
    assert store.stat("a") == second
    assert (second.size, second.content_type, second.metadata) == (2, "text/csv", {"new": "2"})


def test_a_guarded_write_succeeds_at_its_generation_only(store):
    first = store.create("a", b"1", content_type=TEXT)
    second = store.write("a", b"2", content_type=TEXT, if_generation=first.generation)

    with pytest.raises(ObjectChanged):
        store.write("a", b"3", content_type=TEXT, if_generation=first.generation)

    assert store.read("a") == b"2"
    assert store.stat("a") == second


def test_a_guarded_write_meets_an_absent_object(store):
    with pytest.raises(ObjectChanged):
        store.write("a", b"1", content_type=TEXT, if_generation=12345)
    assert store.stat("a") is None

    store.write("a", b"1", content_type=TEXT, if_generation=0)
    with pytest.raises(ObjectChanged):
        store.write("a", b"2", content_type=TEXT, if_generation=0)


def test_of_many_guarded_writes_at_once_one_succeeds(store):
    start = store.create("a", b"start", content_type=TEXT).generation

    def attempt(number):
        try:
            store.write("a", str(number).encode(), content_type=TEXT, if_generation=start)
        except ObjectChanged:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [won for won in pool.map(attempt, range(8)) if won is not None]

    assert len(winners) == 1
    assert store.read("a") == str(winners[0]).encode()


def test_a_read_at_a_generation_gives_that_one_or_nothing(store):
    first = store.create("a", b"1", content_type=TEXT)
    assert store.read("a", generation=first.generation) == b"1"

    store.write("a", b"2", content_type=TEXT)

    with pytest.raises(ObjectMissing):
        store.read("a", generation=first.generation)


def test_delete_removes_and_says_so_once(store):
    store.create("a", b"1", content_type=TEXT)

    assert store.delete("a") is True
    assert store.delete("a") is False
    assert store.stat("a") is None


def test_delete_leaves_another_generation_alone(store):
    first = store.create("a", b"1", content_type=TEXT)
    second = store.write("a", b"2", content_type=TEXT)

    assert store.delete("a", generation=first.generation) is False
    assert store.read("a") == b"2"
    assert store.delete("a", generation=second.generation) is True


def test_a_name_can_be_created_again_after_its_deletion_at_a_new_generation(store):
    first = store.create("a", b"1", content_type=TEXT)
    store.delete("a", generation=first.generation)

    assert store.create("a", b"2", content_type=TEXT).generation != first.generation


def test_list_gives_names_in_byte_order_and_nothing_outside_the_prefix(store):
    wanted = ["p/A", "p/a", "p/a.b", "p/a0", "p/b/c", "p/ü.csv", "p/😀"]
    for name in [*reversed(wanted), "pp", "o/x"]:
        store.create(name, b"x", content_type=TEXT)

    assert names(store, "p/") == wanted
    assert names(store, "p/a") == ["p/a", "p/a.b", "p/a0"]
    assert set(names(store, "")) == {*wanted, "pp", "o/x"}


@pytest.mark.parametrize(
    "name", ["a b", "a+b", "50%41", "q?x=1", "h#1", "a&b=c", "üñí/😀", "a'b\"c"]
)
def test_names_are_taken_literally(store, name):
    store.create(name, b"x", content_type=TEXT)

    assert store.stat(name).name == name
    assert store.read(name) == b"x"
    assert names(store, "") == [name]
    assert store.delete(name)


def test_the_description_cannot_be_changed_by_who_reads_it(store):
    made = store.create("a", b"1", content_type=TEXT, metadata={"k": "v"})

    with pytest.raises(TypeError):
        made.metadata["k"] = "w"


class TestTheFakeOnly:
    def test_it_fails_as_often_as_it_was_told_and_changes_nothing(self):
        store = InMemoryObjectStore()
        store.fail_next("create", times=2)

        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                store.create("a", b"1", content_type=TEXT)
        assert store.stat("a") is None
        store.create("a", b"1", content_type=TEXT)

    def test_it_takes_its_time_from_the_clock_it_was_given(self):
        clock = ManualClock()

        made = InMemoryObjectStore(clock=clock).create("a", b"", content_type=TEXT)

        assert made.updated_at == clock.now()


class TestTheRealOneOnly:
    @pytest.fixture
    def real(self, endpoint):
        client = emulator_client(endpoint)
        store = GcsObjectStore(client, bucket="real-bucket", retry_for_s=0.3)
        store.ensure_bucket()
        yield store
        client.close()

    def test_a_listing_of_several_pages_is_whole(self, real, monkeypatch):
        monkeypatch.setattr("assetgen_pipeline.adapters.gcs_object_store._PAGE_SIZE", 2)
        wanted = [f"pages/{number}" for number in range(5)]
        for name in wanted:
            real.create(name, b"", content_type=TEXT)

        assert names(real, "pages/") == wanted

    @pytest.mark.parametrize(
        "name", ["../escape", "a/../../escape", "a//b", "./a", "a/" + "x" * 256]
    )
    def test_no_name_leads_out_of_the_local_bucket(self, real, name):
        with pytest.raises(StorageUnavailable):
            real.create(name, b"x", content_type=TEXT)
        with pytest.raises(ObjectMissing):
            real.read(name)
        assert real.stat(name) is None
        assert real.delete(name) is False

    def test_a_bucket_that_is_not_there_is_unavailable(self, endpoint):
        client = emulator_client(endpoint)
        store = GcsObjectStore(client, bucket="no-such-bucket", retry_for_s=0.3)

        with pytest.raises(StorageUnavailable, match="the bucket does not exist"):
            store.create("a", b"", content_type=TEXT)
        with pytest.raises(StorageUnavailable, match="the bucket does not exist"):
            list(store.list(""))
        client.close()

    @pytest.mark.parametrize(
        "call",
        [
            lambda store: store.read("secret-name"),
            lambda store: store.stat("secret-name"),
            lambda store: store.create("secret-name", b"", content_type=TEXT),
            lambda store: store.create("secret-name", b"0" * LARGE, content_type=TEXT),
            lambda store: store.write("secret-name", b"", content_type=TEXT),
            lambda store: store.delete("secret-name"),
            lambda store: store.delete("secret-name", generation=3),
            lambda store: list(store.list("secret-name")),
            lambda store: store.ensure_bucket(),
        ],
    )
    def test_a_server_that_is_not_there_is_unavailable_in_a_sentence_without_address(
        self, call, unused_port
    ):
        client = emulator_client(f"http://127.0.0.1:{unused_port}")
        store = GcsObjectStore(client, bucket="real-bucket", retry_for_s=0.2)

        with pytest.raises(StorageUnavailable) as caught:
            call(store)
        client.close()

        assert str(caught.value).startswith("the bucket cannot be reached")
        assert "127.0.0.1" not in str(caught.value)
        assert "secret-name" not in str(caught.value)
        assert caught.value.__suppress_context__

    @pytest.mark.parametrize(
        ("status", "sentence"),
        [
            (401, "credentials"),
            (403, "a permission is missing"),
            (429, "asks us to slow down"),
            (503, "status 503"),
        ],
    )
    def test_a_server_that_refuses_is_unavailable_with_the_reason(
        self, httpserver, status, sentence
    ):
        httpserver.expect_request("/storage/v1/b/real-bucket/o/a").respond_with_data("no", status)
        client = emulator_client(httpserver.url_for("").rstrip("/"))
        store = GcsObjectStore(client, bucket="real-bucket", retry_for_s=0.2)

        with pytest.raises(StorageUnavailable, match=sentence):
            store.stat("a")
        client.close()

    def test_a_refusal_is_not_retried(self, httpserver):
        httpserver.expect_request("/storage/v1/b/real-bucket/o/a").respond_with_data("no", 403)
        client = emulator_client(httpserver.url_for("").rstrip("/"))

        with pytest.raises(StorageUnavailable):
            GcsObjectStore(client, bucket="real-bucket").stat("a")
        client.close()

        assert len(httpserver.log) == 1

    def test_a_stumble_is_retried(self, httpserver):
        path = "/download/storage/v1/b/real-bucket/o/a"
        httpserver.expect_ordered_request(path).respond_with_data("busy", 503)
        httpserver.expect_ordered_request(path).respond_with_data(b"bytes", 200)
        client = emulator_client(httpserver.url_for("").rstrip("/"))

        assert GcsObjectStore(client, bucket="real-bucket").read("a") == b"bytes"
        client.close()

    def test_bytes_that_break_on_the_way_are_unavailable_and_their_object_is_named(
        self, httpserver
    ):
        path = "/download/storage/v1/b/real-bucket/o/images/ada/a.png"
        httpserver.expect_request(path).respond_with_data(
            b"bytes", headers={"x-goog-hash": "md5=AAAAAAAAAAAAAAAAAAAAAA==,crc32c=AAAAAA=="}
        )
        client = emulator_client(httpserver.url_for("").rstrip("/"))

        with pytest.raises(StorageUnavailable) as failure:
            GcsObjectStore(client, bucket="real-bucket").read("images/ada/a.png")
        client.close()

        assert str(failure.value) == (
            "the bytes of images/ada/a.png that arrived do not match their checksum (DataCorruption)"
        )

    def test_nothing_but_the_object_is_asked_for(self, httpserver):
        httpserver.expect_request("/storage/v1/b/real-bucket/o/a").respond_with_data("no", 404)
        client = emulator_client(httpserver.url_for("").rstrip("/"))

        assert GcsObjectStore(client, bucket="real-bucket").stat("a") is None
        client.close()

        assert [request.path for request, _ in httpserver.log] == ["/storage/v1/b/real-bucket/o/a"]

    def test_the_environments_proxy_is_not_used(self, endpoint, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        client = emulator_client(endpoint)

        GcsObjectStore(client, bucket="real-bucket", retry_for_s=0.2).ensure_bucket()
        client.close()


@pytest.fixture
def unused_port():
    with refusing_port() as port:
        yield port
