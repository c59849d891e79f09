"""Files that were results and become input again keep their meaning, whatever the cells hold."""

import csv
import io

from hypothesis import assume, given
from hypothesis import strategies as st

from assetgen_pipeline.domain.csv_cells import write_csv
from assetgen_pipeline.domain.errors import BatchRejected
from assetgen_pipeline.domain.outcome import batch_outcome
from assetgen_pipeline.domain.result_columns import RESULT_COLUMNS
from assetgen_pipeline.domain.result_files import (
    SignedLink,
    failed_csv,
    results_csv,
)
from assetgen_pipeline_tests.builders import (
    BUCKET,
    a_batch,
    a_decision,
    a_failed_attempt,
    a_stored_image,
    an_attempt,
    parse,
    row_references,
)

HEADER = ("scene_id", "prompt", "variants", "notes", "aspect", "ref_pack_id")
hostile = st.text("'=+-@|%＝＠ \u200b,;\"\n<>&ab", min_size=1, max_size=12)
text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30) | hostile
scenes = st.lists(
    st.text("-_aB9", min_size=1, max_size=8), min_size=1, max_size=4, unique_by=str.lower
)
rows = scenes.flatmap(
    lambda names: st.tuples(
        *[
            st.tuples(
                st.just(name),
                text,
                st.sampled_from(["", "1", "2", "3"]),
                text | st.just(""),
                st.sampled_from(["", "16:9"]),
                st.sampled_from(["", "-pack", "spring"]),
            )
            for name in names
        ]
    )
)
LINK = SignedLink(url="https://signed/x?a=1&b=2", expires_at="2026-03-08T12:00:00+00:00")


def parsed(cells):
    try:
        return parse(write_csv(HEADER, cells))
    except BatchRejected:
        return None


def an_outcome(batch):
    """Rows by turns delivered and failed, with references gone without and a warning."""
    attempts = []
    for number, request in enumerate(batch.requests):
        made = an_attempt if number % 2 == 0 else a_failed_attempt
        attempts += [made(request.scene_id, v) for v in range(1, request.variants + 1)]
    decision = a_decision(
        *(
            row_references(r.scene_id, unfetched=("=x",), warning="@pack is not known")
            for r in batch.requests
        )
    )
    batch = a_batch(*batch.requests, header=batch.header)
    return batch_outcome(batch, decision, attempts)


def asked(batch):
    """What rows ask for: everything but where they stand and their cells."""
    return [
        request.model_dump(exclude={"line", "cells", "row_number"}) for request in batch.requests
    ]


@given(rows)
def test_results_dropped_again_ask_for_the_same_images_and_keep_every_column(cells):
    first = parsed(cells)
    assume(first is not None)
    image = a_stored_image()
    links = {image.object_name: LINK, image.thumbnail_name: LINK}
    data = results_csv(an_outcome(first), links, bucket=BUCKET)

    again = parse(data)
    twice = parse(results_csv(an_outcome(again), links, bucket=BUCKET))

    assert asked(again) == asked(first)
    assert again.header == (*first.header, *RESULT_COLUMNS)
    assert [r.cells[: len(HEADER)] for r in again.requests] == [r.cells for r in first.requests]
    assert (twice.header, asked(twice)) == (again.header, asked(first))


@given(rows)
def test_failed_rows_dropped_again_ask_for_exactly_what_is_missing(cells):
    first = parsed(cells)
    assume(first is not None and len(first.requests) > 1)

    again = parse(failed_csv(an_outcome(first)))

    assert again.header == first.header
    assert asked(again) == asked(first)[1::2]
    assert [r.cells for r in again.requests] == [r.cells for r in first.requests][1::2]


@given(rows)
def test_no_cell_of_any_result_begins_a_formula(cells):
    first = parsed(cells)
    assume(first is not None)
    outcome = an_outcome(first)

    for data in (results_csv(outcome, {}, bucket=BUCKET), failed_csv(outcome)):
        for row in csv.reader(io.StringIO(data.decode(), newline=""), strict=True):
            for cell in row:
                assert not cell.strip(" \u200b").startswith(
                    ("=", "+", "-", "@", "|", "%", "＝", "＠")
                )
                assert not cell.startswith(("\t", "\r", "\n"))
