"""Scrubbing: nothing that opens a door leaves, and what explains a problem stays."""

import pytest

from assetgen_pipeline.domain.scrubbing import scrub

SECRETS = ["hunter2-CANARY", "hook/CANARY/path", 'pass"word/CANARY']


@pytest.mark.parametrize(
    "text",
    [
        "password hunter2-CANARY was used",
        "POST https://hooks.test/hook/CANARY/path",
        "https://x.test/a.png?whatever=CANARY&b=2",
        "https://x.test/a.png#CANARY",
        r'{"url": "https:\/\/x.test\/a?t=CANARY"}',
        "key AIzaCANARY0123456789",
        "Authorization: Bearer CANARY0123456789",
        "postgresql://ledger:CANARY@db/ledger",
        r"in JSON: pass\"word/CANARY and pass%22word%2FCANARY",
    ],
)
def test_secrets_links_and_queries_are_blacked_out(text):
    assert "CANARY" not in scrub(text, SECRETS)


def test_what_explains_a_problem_stays():
    text = 'row 7 of https://x.test/a.png failed: 503 {"cost": "0.002000"} sha256:abcdef'

    assert scrub(text, SECRETS) == text


@pytest.mark.timeout(30)
def test_a_cell_full_of_addresses_takes_no_longer_than_other_text():
    text = "https://" * 100_000

    assert scrub(text, SECRETS) == text


def test_a_secret_that_is_part_of_another_leaves_no_rest():
    assert scrub("abcdefgh-long", ["abcdefgh", "abcdefgh-long"]) == "[redacted]"


def test_a_secret_too_short_to_mean_anything_blacks_out_nothing():
    assert scrub("exactly", ["x", ""]) == "exactly"
