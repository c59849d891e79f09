import pytest

from assetgen_pipeline.domain import reference_index
from assetgen_pipeline.domain.reference_index import ReferenceIndex, known_reference
from assetgen_pipeline.domain.references import Validators
from assetgen_pipeline_tests.builders import OWNER, a_reference

KNOWN = known_reference(a_reference("a"), Validators(etag='"v1"'))
OTHER = known_reference(a_reference("b"), Validators(last_modified="yesterday"))


def test_what_is_remembered_leads_back_to_the_stored_image():
    assert KNOWN.stored(OWNER) == a_reference("a")


def test_a_url_is_found_by_its_text_and_nothing_else():
    index = ReferenceIndex().learnt({"https://a.example/": KNOWN})

    assert index.get("https://a.example/") == KNOWN
    assert index.get("https://a.example") is None


def test_the_newest_word_counts():
    index = ReferenceIndex().learnt({"u": KNOWN}).learnt({"u": OTHER})

    assert (index.get("u"), len(index.entries)) == (OTHER, 1)


def test_beyond_the_limit_the_oldest_entries_go(monkeypatch):
    monkeypatch.setattr(reference_index, "MAX_ENTRIES", 3)
    index = ReferenceIndex().learnt({"1": KNOWN, "2": KNOWN, "3": KNOWN})

    index = index.learnt({"1": OTHER, "4": OTHER})

    assert [index.get(url) for url in "1234"] == [OTHER, None, KNOWN, OTHER]


@pytest.mark.parametrize(
    "validators",
    [
        Validators(),
        Validators(etag="x" * 201),
        Validators(etag="é"),
        Validators(etag="a\nInjected: header"),
        Validators(etag="ok", last_modified="\x00"),
    ],
)
def test_what_nobody_could_be_asked_about_later_is_not_remembered(validators):
    assert known_reference(a_reference(), validators) is None


def test_an_index_travels_as_json():
    index = ReferenceIndex().learnt({"u": KNOWN, "v": OTHER})

    assert ReferenceIndex.model_validate_json(index.model_dump_json()) == index
