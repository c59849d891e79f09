from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.errors import ReferenceBlocked
from assetgen_pipeline.domain.reference_url import check_reference_url
from assetgen_pipeline_tests.builders import BUCKET, OWNER

INVALID, BLOCKED, NOT_PERMITTED = (
    "reference-url-invalid",
    "reference-blocked",
    "reference-not-permitted",
)
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def check(url, *, networks=()):
    return check_reference_url(url, allowed_networks=networks, own_bucket=BUCKET, owner=OWNER)


def refusal(url, *, networks=()):
    with pytest.raises(ReferenceBlocked) as caught:
        check(url, networks=networks)
    assert "127.0.0.1" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        "HTTPS://EXAMPLE.com:443/a.png?x=1&y=%2f#z",
        "https://storage.googleapis.com/bucket/refs/kitchen-cozy",
        "https://xn--mnchen-3ya.de/ü.png",
        "https://my_bucket.example.co.uk/a@b.png",
        "https://8.8.8.8/a.png",
        "https://[2606:4700::1111]/a.png",
        "https://example.com/" + "a" * 2028,
        f"gs://{BUCKET}/inbox/{OWNER}/a.png",
        f"gs://{BUCKET}/images/{OWNER}/ab/abc.png",
        f"gs://{BUCKET}/packs/warm/a.webp",
    ],
)
def test_a_public_https_address_or_an_object_of_the_owner_is_accepted(url):
    check(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "http://127.0.0.1/", "https://10.0.0.1/", "https://169.254.169.254/x",
        "https://100.64.0.1/", "https://0.0.0.0/", "https://[::1]/", "https://[::]/",
        "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[::127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/", "https://[fd00:ec2::254]/", "http://127.0.0.1#@example.com/",
        "https://2130706433/", "https://0x7f000001/", "https://017700000001/", "https://0177.0.0.1/",
        "https://0x7f.1/", "https://127.1/", "https://127.0.1/", "https://0/", "https://1.2.3.4.5/", "https://[v1.x]/",
        "https://localhost/", "https://LOCALHOST/", "https://a.localhost/", "https://metadata/",
        "https://metadata.google.internal/", "https://metadata.goog/", "https://printer/",
        "https://kubernetes.default.svc/", "https://host.docker.internal/", "https://nas.local/",
        "http://example.com/", "https://example.com:22/", "https://example.com:80/",
        "http://8.8.8.8/", "https://8.8.8.8:8443/", "http://example.com:443/",
    ],
)  # fmt: skip
def test_an_address_off_the_public_internet_is_blocked(url):
    assert refusal(url) == BLOCKED


@pytest.mark.parametrize(
    "url",
    [
        "", " ", "x", "http://", "https://", "https:///127.0.0.1/", "//127.0.0.1/", "a.png",
        "file:///etc/passwd", "gopher://127.0.0.1:6379/_INFO", "ftp://127.0.0.1/", "javascript:1",
        "dict://127.0.0.1:11211/", "data:image/png;base64,AA==", "s3://b/o", "jar:http://x!/",
        "unix:/var/run/docker.sock", "https://a@b@127.0.0.1/", "https://example.com@127.0.0.1/",
        "https://u:p@example.com/", "https://127.0.0.1%2f@example.com/", "https://[::1%25lo]/",
        "https://localhost%00.example.com/", "https://example.com\\@127.0.0.1/",
        "https://127.0.0.1:80\\@example.com/", "https://exa\tmple.com/", "https://ex\nample.com/",
        " https://example.com/", "https://example.com/ a", "https://example.com/\0",
        "https://example.com/\u202e", "https://example.com/\u200b", "https://example.com:80:80/",
        "https://example.com:99999/", "https://example.com:0/", "https://example.com:/",
        "https://example.com:x/", "https://[::1/", "https://127。0。0。1/",
        "https://①②⑦.⓪.⓪.①/", "https://ⓛocalhost/", "https://münchen.de/", "https://localhost./",
        "https://example.com./", "https://a..b/", "https://.com/", "https://exa!mple.com/",
        f"https://{'a' * 64}.com/", f"https://{'a.' * 130}com/", "https://example.com/" + "a" * 2029,
        "gs://", "gs://bucket", f"gs://{BUCKET}/", f"gs://{BUCKET}/packs/a/b?x", "gs://a@b/c",
        f"gs://{BUCKET}/packs/a/b#1",
    ],
)  # fmt: skip
def test_what_is_no_plain_url_is_invalid(url):
    assert refusal(url) == INVALID


@pytest.mark.parametrize(
    "url",
    [
        "gs://another-bucket/packs/a/b.png",
        f"gs://{BUCKET}/images/rival/ab/abc.png",
        f"gs://{BUCKET}/images/{OWNER}-2/ab/abc.png",
        f"gs://{BUCKET}/costs/x.parquet",
        f"gs://{BUCKET}/artifacts/x",
        f"gs://{BUCKET}/packs",
        f"gs://{BUCKET}//packs/a/b.png",
        f"gs://{BUCKET}/packs/../images/rival/x.png",
        f"gs://{BUCKET}/packs/a/",
        f"gs://{BUCKET.upper()}/packs/a/b.png",
    ],
)
def test_an_object_that_the_owner_may_not_use_is_not_permitted(url):
    assert refusal(url) == NOT_PERMITTED


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/a.png",
        "https://127.9.9.9:1/a.png",
        "http://[::1]:8000/a.png",
        "http://[::ffff:127.0.0.1]:8000/a.png",
        "http://localhost:8000/a.png",
        "http://assets/a.png",
        "http://nas.local:81/a.png",
        "http://example.com/a.png",
    ],
)
def test_an_allowed_network_may_use_any_port_and_plain_http_and_names_are_left_to_the_guard(url):
    check(url, networks=LOOPBACK)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://10.0.0.1/", BLOCKED),
        ("https://[fc00::1]/", BLOCKED),
        ("http://8.8.8.8/", BLOCKED),
        ("https://8.8.8.8:8443/", BLOCKED),
        ("http://2130706433/", BLOCKED),
        ("http://metadata.google.internal/", BLOCKED),
        ("http://metadata/", BLOCKED),
        ("http://localhost./", INVALID),
        ("http://localhost:0/", INVALID),
    ],
)
def test_an_allowed_network_exempts_nothing_else(url, code):
    assert refusal(url, networks=LOOPBACK) == code


@given(st.text() | st.from_regex(r"\A(https?|gs)://[^/]{0,30}(/.{0,20})?\Z"))
def test_any_text_is_accepted_or_refused_with_a_code_and_nothing_else(url):
    try:
        code = check(url)
    except ReferenceBlocked as error:
        code = error.code
    assert code in {None, INVALID, BLOCKED, NOT_PERMITTED}
