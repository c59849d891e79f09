import base64
import hashlib
import http.client
import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlsplit

import google.auth.credentials
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from google.auth.exceptions import RefreshError, TransportError
from google.cloud.storage import _signing

from assetgen_pipeline.adapters.gcs_object_store import GcsObjectStore, emulator_client
from assetgen_pipeline.adapters.gcs_url_signer import (
    IamSigner,
    KeySigner,
    iam_signer,
    key_file_signer,
    local_signing_key,
)
from assetgen_pipeline.adapters.local_bucket import hold_local_bucket
from assetgen_pipeline.domain.errors import StorageUnavailable

NOW = datetime(2026, 3, 1, 23, 59, 58, 750_000, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NAMES = ["a.png", "images/o/ab/ü x+%&?#~=.png", "a//b", "😀/'\"(1).png"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def key(home):
    return local_signing_key(home)


@pytest.fixture(scope="module")
def public_key(home, key):
    info = json.loads((home / "signing-key.json").read_text())
    private = serialization.load_pem_private_key(info["private_key"].encode(), password=None)
    return private.public_key()


@pytest.fixture
def signer(key):
    return KeySigner(kind="key_file", credentials=key, bucket="my-bucket")


def verify(url, public_key):
    """Check a V4 URL as Google's documentation says, from the URL's text alone."""
    parts = urlsplit(url)
    query, _, signature = parts.query.partition("&X-Goog-Signature=")
    fields = dict(parse_qsl(query, strict_parsing=True))
    ordered = "&".join(
        f"{quote(name, safe='~')}={quote(value, safe='~')}"
        for name, value in sorted(fields.items())
    )
    path = quote(unquote(parts.path), safe="/~")
    canonical = f"GET\n{path}\n{ordered}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = fields["X-Goog-Credential"].split("/", 1)[1]
    text = "\n".join(
        [
            "GOOG4-RSA-SHA256",
            fields["X-Goog-Date"],
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    assert fields["X-Goog-SignedHeaders"] == "host"
    assert scope == f"{fields['X-Goog-Date'][:8]}/auto/storage/goog4_request"
    public_key.verify(bytes.fromhex(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return fields


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
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
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
        answers = [process.communicate("go\n", timeout=60)[0] for process in processes]

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


class MachineAccount(google.auth.credentials.Credentials):
    """Credentials of a machine: no key, and an e-mail only after the first refresh."""

    def __init__(self, *, email="robot@project.iam.gserviceaccount.com", error=None):
        super().__init__()
        self.refreshes = 0
        self._email = email
        self._error = error
        self.service_account_email = "default"

    def refresh(self, request):
        if self._error is not None:
            raise self._error
        self.refreshes += 1
        self.token = "CANARY-token"
        self.service_account_email = self._email


class SignBlob:
    """IAM's signBlob, with the local key."""

    def __init__(self, key, *, status=200):
        self.key = key
        self.status = status
        self.calls = []

    def __call__(self, url, method, body, headers):
        self.calls.append((url, method, headers))
        payload = base64.b64decode(json.loads(body)["payload"])
        answer = {"signedBlob": base64.b64encode(self.key.sign_bytes(payload)).decode()}
        data = json.dumps(answer) if self.status == 200 else "CANARY-body"
        return SimpleNamespace(status=self.status, data=data.encode())


class TestIam:
    def test_urls_verify_and_come_in_order_after_one_refresh(self, key, public_key):
        account, service = MachineAccount(), SignBlob(key)
        signer = IamSigner(credentials=account, bucket="b", request=service)
        names = [f"{number}.png" for number in range(30)]

        signed = signer.sign(names, ttl=HOUR, now=NOW)

        assert [urlsplit(s.url).path for s in signed] == [f"/b/{name}" for name in names]
        assert {s.signer for s in signed} == {"iam"}
        assert account.refreshes == 1
        assert len(service.calls) == 30
        for one in signed:
            fields = verify(one.url, public_key)
            assert fields["X-Goog-Credential"].startswith("robot@project.iam.gserviceaccount.com/")
        url, method, headers = service.calls[0]
        assert url.endswith("/serviceAccounts/robot@project.iam.gserviceaccount.com:signBlob")
        assert (method, headers["authorization"]) == ("POST", "Bearer CANARY-token")

    def test_another_account_can_be_named(self, key):
        service = SignBlob(key)
        signer = IamSigner(
            credentials=MachineAccount(),
            bucket="b",
            service_account_email="signer@project.iam.gserviceaccount.com",
            request=service,
        )

        signer.sign(["a"], ttl=HOUR, now=NOW)

        assert "signer@project" in service.calls[0][0]

    @pytest.mark.parametrize(("ttl", "hours"), [(HOUR, 1), (12 * HOUR, 12), (7 * DAY, 12)])
    def test_a_link_lives_twelve_hours_at_most(self, key, ttl, hours):
        signer = IamSigner(credentials=MachineAccount(), bucket="b", request=SignBlob(key))

        one = signer.sign(["a"], ttl=ttl, now=NOW)[0]

        assert one.expires_at == NOW.replace(microsecond=0) + hours * HOUR
        assert f"X-Goog-Expires={hours * 3600}&" in one.url

    @pytest.mark.parametrize(
        ("account", "status"),
        [
            (MachineAccount(), 403),
            (MachineAccount(error=RefreshError("CANARY")), 200),
            (MachineAccount(error=TransportError("CANARY")), 200),
            (MachineAccount(email=None), 200),
        ],
    )
    def test_a_refusal_is_unavailable_without_what_iam_said(self, key, account, status):
        signer = IamSigner(credentials=account, bucket="b", request=SignBlob(key, status=status))

        with pytest.raises(StorageUnavailable) as caught:
            signer.sign(["a"] * 20, ttl=HOUR, now=NOW)

        assert "CANARY" not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None

    def test_a_machine_without_credentials_says_so(self, monkeypatch, tmp_path):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))

        with pytest.raises(StorageUnavailable, match="no Google Cloud credentials"):
            iam_signer(bucket="b")
