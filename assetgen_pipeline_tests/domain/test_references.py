import pytest
from pydantic import TypeAdapter

from assetgen_pipeline.domain.references import (
    Blocked,
    FetchOutcome,
    PackContent,
    Unfetched,
    content_fingerprint,
    decide_row,
    url_fingerprint,
    url_label,
)
from assetgen_pipeline_tests.builders import (
    a_decision,
    a_reference,
    an_image_request,
    fetched,
    row_references,
)

GOOD, OTHER, SAME, DEAD, GONE, EVIL = (f"https://example.com/{n}" for n in range(6))
OUTCOMES = {
    GOOD: fetched("a"),
    OTHER: fetched("b"),
    SAME: fetched("a"),
    DEAD: Unfetched(fingerprint=url_fingerprint(DEAD), code="reference-unavailable", detail="404"),
    GONE: Unfetched(fingerprint=url_fingerprint(GONE), code="reference-type", detail="no image"),
    EVIL: Blocked(code="reference-blocked", detail="refused by policy"),
}


def a_pack(*letters, pack_id="P", found=True):
    return {
        pack_id: PackContent(
            pack_id=pack_id, found=found, references=tuple(a_reference(c) for c in letters)
        )
    }


def decide(*urls, pack_id="", packs=None):
    request = an_image_request(reference_urls=urls, ref_pack_id=pack_id)
    return decide_row(request, outcomes=OUTCOMES, packs=packs or {})


def letters(row):
    return "".join(reference.fingerprint[-1] for reference in row.used)


def test_a_row_without_references_has_none():
    assert decide() == row_references()


def test_a_row_s_references_come_first_then_its_pack_s():
    row = decide(OTHER, GOOD, pack_id="P", packs=a_pack("c", "d"))

    assert letters(row) == "bacd"
    assert (row.failure_code, row.warning) == (None, None)


def test_the_same_bytes_count_once_and_the_row_says_so():
    row = decide(GOOD, SAME, pack_id="P", packs=a_pack("a", "c"))

    assert letters(row) == "ac"
    assert len(row.dropped) == 2
    assert all("same bytes" in why for why in row.dropped)


def test_six_references_at_most_and_duplicates_do_not_use_up_a_place():
    row = decide(GOOD, SAME, pack_id="P", packs=a_pack("b", "c", "d", "e", "f", "1", "2"))

    assert letters(row) == "abcdef"
    assert [why.partition(": ")[2] for why in row.dropped][1:] == ["more than 6 references"] * 2


def test_a_reference_that_could_not_be_had_is_named_and_the_row_goes_on():
    row = decide(DEAD, GOOD, GONE)

    assert letters(row) == "a"
    assert row.unfetched == (
        f"reference 1, {url_label(DEAD)}: reference-unavailable: 404",
        f"reference 3, {url_label(GONE)}: reference-type: no image",
    )
    assert row.failure_code is None


def test_a_reference_refused_by_policy_fails_the_row_whatever_else_it_has():
    row = decide(GOOD, DEAD, EVIL, pack_id="P", packs=a_pack("c"))

    assert (row.used, row.unfetched) == ((), ())
    assert row.failure_code == "reference-blocked"
    assert row.failure == f"reference 3, {url_label(EVIL)}: refused by policy"


def test_a_missing_pack_fails_a_row_that_names_nothing_else():
    row = decide(pack_id="P", packs=a_pack(found=False))

    assert (row.failure_code, row.failure) == (
        "pack-unknown",
        "reference pack P does not exist",
    )


@pytest.mark.parametrize("url", [GOOD, DEAD])
def test_a_missing_pack_is_a_warning_where_the_row_names_another_reference(url):
    row = decide(url, pack_id="P", packs=a_pack(found=False))

    assert (row.failure_code, row.warning) == (None, "reference pack P does not exist")


def test_a_decision_finds_rows_by_scene():
    rows = row_references("A"), row_references("B")

    assert a_decision(*rows).by_scene() == {"A": rows[0], "B": rows[1]}


def test_a_label_shows_no_path_query_or_user():
    label = url_label("https://user:pw@Example.com/secret/a.png?token=x")

    assert label.startswith("https://example.com/…#")
    assert len(label) == len("https://example.com/…#") + 12
    assert url_label("gs:///x").startswith("gs://?/…#")


def test_the_identity_of_bytes_is_never_that_of_a_url():
    assert content_fingerprint("ab") == "img1:sha256:ab"
    assert url_fingerprint("x").startswith("url1:sha256:")
    assert url_fingerprint("x") != url_fingerprint("y")


@pytest.mark.parametrize("outcome", OUTCOMES.values())
def test_outcomes_travel_as_json(outcome):
    adapter = TypeAdapter(FetchOutcome)

    assert adapter.validate_json(adapter.dump_json(outcome)) == outcome
