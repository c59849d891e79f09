"""Signing through IAM: no key here, twelve hours at most, and patience when it is busy."""

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from urllib.parse import urlsplit

import google.auth.credentials
import pytest
import stamina
from google.auth.exceptions import RefreshError, TransportError

from assetgen_pipeline.adapters.gcs_url_signer import IamSigner, iam_signer, local_signing_key
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline_tests.url_verifier import DAY, HOUR, NOW, public_key_of, verify


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def key(home):
    return local_signing_key(home)


@pytest.fixture(scope="module")
def public_key(home, key):
    return public_key_of(home / "signing-key.json")


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


@pytest.fixture
def impatient():
    """Retries without the waits between them."""
    stamina.set_testing(True, attempts=8, cap=True)
    yield
    stamina.set_testing(False)


class BusySignBlob(SignBlob):
    """Answers 429 to the first calls, and knows how many were in flight at once."""

    def __init__(self, key, *, busy=0):
        super().__init__(key)
        self.busy = busy
        self.lock = threading.Lock()
        self.now = self.most = 0

    def __call__(self, url, method, body, headers):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            busy, self.busy = self.busy > 0, self.busy - 1
        try:
            if busy:
                self.calls.append((url, method, headers))
                return SimpleNamespace(status=429, data=b"CANARY-body")
            return super().__call__(url, method, body, headers)
        finally:
            with self.lock:
                self.now -= 1


@pytest.mark.usefixtures("impatient")
class TestAnIamThatIsBusy:
    def test_a_call_that_is_told_to_slow_down_is_made_again(self, key, public_key):
        service = BusySignBlob(key, busy=3)
        signer = IamSigner(credentials=MachineAccount(), bucket="b", request=service)

        signed = signer.sign(["a", "b"], ttl=HOUR, now=NOW)

        assert len(service.calls) == 5
        for one in signed:
            verify(one.url, public_key)

    def test_one_that_never_has_time_is_unavailable_without_what_it_said(self, key):
        service = BusySignBlob(key, busy=10_000)
        signer = IamSigner(credentials=MachineAccount(), bucket="b", request=service)

        with pytest.raises(StorageUnavailable, match="fewer URLs a minute") as caught:
            signer.sign(["a"], ttl=HOUR, now=NOW)

        assert len(service.calls) == 8
        assert "CANARY" not in str(caught.value)

    def test_no_log_of_the_repeated_call_shows_our_token(self, key, capsys, caplog):
        signer = IamSigner(
            credentials=MachineAccount(), bucket="b", request=BusySignBlob(key, busy=3)
        )

        signer.sign(["a"], ttl=HOUR, now=NOW)

        printed = capsys.readouterr()
        assert "CANARY" not in printed.out + printed.err + caplog.text

    def test_eight_calls_are_in_flight_at_most_also_for_many_batches_at_once(self, key):
        service = BusySignBlob(key)
        signer = IamSigner(credentials=MachineAccount(), bucket="b", request=service)
        names = [f"{number}" for number in range(40)]

        with ThreadPoolExecutor(4) as pool:
            batches = list(pool.map(lambda _: signer.sign(names, ttl=HOUR, now=NOW), range(4)))

        assert [len(batch) for batch in batches] == [40] * 4
        assert 1 <= service.most <= 8
