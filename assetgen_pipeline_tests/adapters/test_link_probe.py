"""Verifying our own signatures with code of its own, and opening links."""

from datetime import timedelta

import pytest

from assetgen_pipeline.adapters import link_probe
from assetgen_pipeline.adapters.gcs_url_signer import KeySigner, local_signing_key
from assetgen_pipeline.adapters.link_probe import answer_of, signature_holds
from assetgen_pipeline_tests.builders import NOW
from assetgen_pipeline_tests.ports import refusing_port


@pytest.fixture
def signed(tmp_path):
    signer = KeySigner(kind="local", credentials=local_signing_key(tmp_path), bucket="b")
    [url] = signer.sign(["images/a b~ü.png"], ttl=timedelta(hours=1), now=NOW)
    return url.url


def test_a_signature_of_the_key_holds(signed, tmp_path):
    assert signature_holds(signed, tmp_path / "signing-key.json")


@pytest.mark.parametrize(
    ("old", "new"),
    [("Expires=3600", "Expires=9999"), ("images", "imagez"), ("googleapis.com", "example.com")],
)
def test_a_url_that_was_changed_does_not_hold(signed, tmp_path, old, new):
    assert old in signed

    assert not signature_holds(signed.replace(old, new), tmp_path / "signing-key.json")


def test_the_signature_of_another_key_does_not_hold(signed, tmp_path):
    (tmp_path / "other").mkdir()
    local_signing_key(tmp_path / "other")

    assert not signature_holds(signed, tmp_path / "other" / "signing-key.json")


def test_a_link_is_answered_with_its_status_and_silence_with_0(httpserver, monkeypatch):
    monkeypatch.setattr(link_probe, "_TIMEOUT_S", 300)
    httpserver.expect_request("/gone").respond_with_data(status=403)

    assert answer_of(httpserver.url_for("/gone")) == 403
    with refusing_port() as port:
        assert answer_of(f"http://127.0.0.1:{port}/") == 0
