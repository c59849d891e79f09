import http.client
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from cryptography.exceptions import InvalidSignature
from google.cloud.storage import _signing

from assetgen_pipeline.adapters.gcs_object_store import GcsObjectStore, emulator_client
from assetgen_pipeline.adapters.gcs_url_signer import (
    KeySigner,
    key_file_signer,
    local_signing_key,
)
from assetgen_pipeline.adapters.local_bucket import hold_local_bucket
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline_tests.processes import DEADLINE_S
from assetgen_pipeline_tests.url_verifier import (
    DAY,
    HOUR,
    NOW,
    Refused,
    accept,
    public_key_of,
    verify,
)

NAMES = ["a.png", "images/o/ab/ü x+%&?#~=.png", "a//b", "😀/'\"(1).png"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def key(home):
    return local_signing_key(home)


@pytest.fixture(scope="module")
def public_key(home, key):
    return public_key_of(home / "signing-key.json")


@pytest.fixture
def signer(key):
    return KeySigner(kind="key_file", credentials=key, bucket="my-bucket")


def test_every_url_verifies_with_the_public_key_and_they_come_in_order(signer, public_key):
    signed = signer.sign(NAMES, ttl=DAY, now=NOW)

    assert [unquote(urlsplit(s.url).path) for s in signed] == [f"/my-bucket/{n}" for n in NAMES]
    for one in signed:
        fields = verify(one.url, public_key)
        assert fields["X-Goog-Date"] == "20260301T235958Z"
        assert fields["X-Goog-Expires"] == "86400"
        assert fields["X-Goog-Credential"].startswith("local@assetgen.invalid/20260301/")
        assert one.url.startswith("https://storage.googleapis.com/my-bucket/")
        assert (one.signer, one.expires_at) == (
            "key_file",
            datetime(2026, 3, 2, 23, 59, 58, tzinfo=UTC),
        )


@pytest.mark.parametrize("change", ["path", "X-Goog-Expires", "X-Goog-Date"])
def test_a_url_that_was_tampered_with_does_not_verify(signer, public_key, change):
    url = signer.sign(["a.png"], ttl=DAY, now=NOW)[0].url
    tampered = {
        "path": url.replace("a.png", "b.png"),
        "X-Goog-Expires": url.replace("=86400", "=604800"),
        "X-Goog-Date": url.replace("X-Goog-Date=20260301", "X-Goog-Date=20260302"),
    }[change]

    assert tampered != url
    with pytest.raises((InvalidSignature, AssertionError)):
        verify(tampered, public_key)


def test_a_url_with_one_flipped_byte_anywhere_in_its_signature_does_not_verify(signer, public_key):
    url = signer.sign(["a.png"], ttl=DAY, now=NOW)[0].url
    before, _, signature = url.partition("&X-Goog-Signature=")

    for place in range(0, len(signature), 37):
        flipped = f"{int(signature[place], 16) ^ 1:x}"
        broken = signature[:place] + flipped + signature[place + 1 :]
        with pytest.raises(InvalidSignature):
            verify(f"{before}&X-Goog-Signature={broken}", public_key)


def test_the_signature_of_another_object_or_another_key_does_not_verify(
    signer, public_key, tmp_path
):
    ours, other = (s.url for s in signer.sign(["a.png", "b.png"], ttl=DAY, now=NOW))
    swapped = ours.partition("&X-Goog-Signature=")[0] + other[other.index("&X-Goog-Signature=") :]
    stranger = KeySigner(kind="local", credentials=local_signing_key(tmp_path), bucket="my-bucket")

    with pytest.raises(InvalidSignature):
        verify(swapped, public_key)
    with pytest.raises(InvalidSignature):
        verify(stranger.sign(["a.png"], ttl=DAY, now=NOW)[0].url, public_key)


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "POST"])
def test_a_url_allows_a_get_and_nothing_else(signer, public_key, method):
    one = signer.sign(["a.png"], ttl=DAY, now=NOW)[0]

    accept(one.url, public_key, at=NOW)
    with pytest.raises(InvalidSignature):
        accept(one.url, public_key, method=method, at=NOW)


def test_a_url_works_until_the_second_it_says_and_not_before_it_was_signed(signer, public_key):
    one = signer.sign(["a.png"], ttl=DAY, now=NOW)[0]
    second = timedelta(seconds=1)

    accept(one.url, public_key, at=one.expires_at - second)
    for at in (one.expires_at, one.expires_at - DAY - second):
        with pytest.raises(Refused):
            accept(one.url, public_key, at=at)


@pytest.mark.parametrize("name", NAMES)
def test_urls_are_those_of_googles_own_library(signer, key, name):
    theirs = _signing.generate_signed_url_v4(
        key,
        resource=f"/my-bucket/{quote(name, safe='/~')}",
        expiration=DAY,
        api_access_endpoint="https://storage.googleapis.com",
        _request_timestamp="20260301T235958Z",
    )

    assert signer.sign([name], ttl=DAY, now=NOW)[0].url == theirs


def test_now_of_another_zone_is_the_same_instant(signer):
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-5)))

    assert signer.sign(["a"], ttl=DAY, now=elsewhere) == signer.sign(["a"], ttl=DAY, now=NOW)


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        (timedelta(seconds=1), 1),
        (timedelta(seconds=1.9), 1),
        (timedelta(days=7), 604_800),
        (timedelta(days=7, seconds=1), 604_800),
        (timedelta(days=365), 604_800),
    ],
)
def test_a_link_lives_as_long_as_asked_and_seven_days_at_most(signer, ttl, seconds):
    one = signer.sign(["a"], ttl=ttl, now=NOW)[0]

    assert parse_qs(urlsplit(one.url).query)["X-Goog-Expires"] == [str(seconds)]
    assert one.expires_at == NOW.replace(microsecond=0) + timedelta(seconds=seconds)


def test_no_link_without_life_or_zone(signer):
    with pytest.raises(ValueError, match="live"):
        signer.sign(["a"], ttl=timedelta(0), now=NOW)
    with pytest.raises(ValueError, match="zone"):
        signer.sign(["a"], ttl=DAY, now=NOW.replace(tzinfo=None))


def test_no_names_no_urls(signer):
    assert signer.sign([], ttl=DAY, now=NOW) == []


def test_a_local_link_downloads_from_the_running_server(home, key, public_key):
    with hold_local_bucket(home) as endpoint:
        client = emulator_client(endpoint)
        store = GcsObjectStore(client, bucket="my-bucket")
        store.ensure_bucket()
        name = "images/o/ab/ü x+%&?#~=.png"
        store.create(name, b"bytes", content_type="image/png")
        signer = KeySigner(
            kind="local", credentials=key, bucket="my-bucket", api_access_endpoint=endpoint
        )

        one = signer.sign([name], ttl=DAY, now=datetime.now(UTC))[0]
        status, content_type, body = download(one.url)
        client.close()

    assert (status, content_type, body) == (200, "image/png", b"bytes")
    assert one.signer == "local"
    verify(one.url, public_key)


def download(url):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=DEADLINE_S)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read()
    finally:
        connection.close()


class TestTheLocalKey:
    def test_it_is_kept_and_readable_by_its_owner_only(self, home, key):
        path = home / "signing-key.json"

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert local_signing_key(home).sign_bytes(b"x") == key.sign_bytes(b"x")
        assert [p.name for p in home.glob("signing-key.json*")] == ["signing-key.json"]

    def test_of_several_processes_that_make_one_all_get_the_same(self, tmp_path):
        code = (
            "import sys; from pathlib import Path;"
            "from assetgen_pipeline.adapters.gcs_url_signer import local_signing_key;"
            "sys.stdin.readline();"
            "print(local_signing_key(Path(sys.argv[1])).sign_bytes(b'x').hex())"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(tmp_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(3)
        ]
        answers = [process.communicate("go\n")[0] for process in processes]

        assert len(set(answers)) == 1
        assert len(answers[0]) > 500
        assert [p.name for p in tmp_path.iterdir()] == ["signing-key.json"]

    def test_a_broken_key_says_what_to_do_and_nothing_of_its_text(self, tmp_path):
        (tmp_path / "signing-key.json").write_text('{"private_key": "CANARY"}')

        with pytest.raises(StorageUnavailable, match=r"delete signing-key\.json") as caught:
            local_signing_key(tmp_path)
        assert "CANARY" not in str(caught.value)


class TestTheKeyFile:
    def test_it_signs(self, home, key, public_key):
        signer = key_file_signer(home / "signing-key.json", bucket="b")

        one = signer.sign(["a"], ttl=HOUR, now=NOW)[0]

        assert one.signer == "key_file"
        verify(one.url, public_key)

    @pytest.mark.parametrize("text", [None, "not json", "{}", '{"type": "authorized_user"}'])
    def test_a_file_without_a_key_is_unavailable(self, tmp_path, text):
        path = tmp_path / "key.json"
        if text is not None:
            path.write_text(text)

        with pytest.raises(StorageUnavailable, match="key file"):
            key_file_signer(path, bucket="b")
