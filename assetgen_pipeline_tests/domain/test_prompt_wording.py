import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.image_request import ReferenceMode
from assetgen_pipeline.domain.prompt_wording import (
    WORDING_VERSION,
    most_text_bytes,
    worded_prompt,
    wordings,
)

# The digest of every wording, by version. A wording that changes needs a new version, because
# the version is part of every content address: stored images were made with the old words.
DIGESTS = {1: "ae48d746655b5d11"}


def test_a_wording_changes_only_together_with_its_version():
    digest = hashlib.sha256("\0".join(wordings()).encode()).hexdigest()[:16]

    assert DIGESTS[WORDING_VERSION] == digest


def test_a_prompt_without_references_is_sent_as_it_is():
    for mode in ReferenceMode:
        assert worded_prompt("a kitchen", mode=mode, references=0) == "a kitchen"


@pytest.mark.parametrize(("count", "named"), [(1, "image 1 "), (3, "images 1 to 3 ")])
@pytest.mark.parametrize("mode", list(ReferenceMode))
def test_references_are_named_by_number_and_the_prompt_comes_last(mode, count, named):
    text = worded_prompt("a {kitchen}", mode=mode, references=count)

    assert named in text
    assert text.endswith("\na {kitchen}")


def test_the_modes_ask_for_different_things():
    style, both = (worded_prompt("a", mode=mode, references=2) for mode in ReferenceMode)

    assert "Do not copy" in style
    assert "composition" in both
    assert "composition" not in style


@given(st.text(max_size=50), st.integers(0, 14), st.integers(0, 14), st.sampled_from(ReferenceMode))
def test_no_request_holds_more_text_than_was_priced(prompt, allowed, used, mode):
    prompt = prompt.encode("utf-8", "replace").decode()
    sent = worded_prompt(prompt, mode=mode, references=min(used, allowed))

    assert len(sent.encode()) <= most_text_bytes(prompt, references=allowed)
