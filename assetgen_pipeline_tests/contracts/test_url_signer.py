"""What every signer of URLs keeps to, real or fake."""

from datetime import UTC, datetime, timedelta

import pytest

from assetgen_pipeline.adapters.gcs_url_signer import KeySigner, local_signing_key
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.testing.signer import FakeSigner

NOW = datetime(2026, 3, 1, 12, 0, 0, 999_999, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return local_signing_key(tmp_path_factory.mktemp("home"))


@pytest.fixture(params=["fake", "key"])
def signer(request):
    if request.param == "fake":
        return FakeSigner(bucket="b")
    return KeySigner(kind="local", credentials=request.getfixturevalue("key"), bucket="b")


def test_one_url_for_each_name_in_order_also_for_the_same_name_twice(signer):
    signed = signer.sign(["x", "y", "x"], ttl=HOUR, now=NOW)

    assert [s.url.partition("?")[0].rpartition("/")[2] for s in signed] == ["x", "y", "x"]
    assert {s.signer for s in signed} == {signer.kind}


def test_a_link_never_claims_to_live_longer_than_it_does(signer):
    assert signer.sign(["x"], ttl=HOUR, now=NOW)[0].expires_at <= NOW + HOUR
    assert signer.sign(["x"], ttl=400 * HOUR, now=NOW)[0].expires_at <= NOW + timedelta(days=7)


def test_a_link_signed_later_is_another_link(signer):
    first, second = (signer.sign(["x"], ttl=HOUR, now=now)[0] for now in (NOW, NOW + HOUR))

    assert first.url != second.url
    assert second.expires_at - first.expires_at == HOUR


def test_a_link_without_life_is_refused(signer):
    with pytest.raises(ValueError, match="li"):
        signer.sign(["x"], ttl=timedelta(0), now=NOW)


def test_the_fake_fails_when_told():
    signer = FakeSigner()
    signer.fail_next()

    with pytest.raises(StorageUnavailable):
        signer.sign(["x"], ttl=HOUR, now=NOW)
    signer.sign(["x", "y"], ttl=HOUR, now=NOW)
    assert signer.signed == ["x", "y"]
