"""The contact sheet: complete, offline, and deaf to hostile prompts."""

import base64
import hashlib
import inspect
import re
from datetime import datetime
from html import unescape
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.budget import StoredImage
from assetgen_pipeline.domain.contact_sheet import SheetPage, contact_sheet_html, sheet_pages
from assetgen_pipeline.domain.image_request import AspectRatio, ImageRequest, ReferenceMode
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.outcome import BatchOutcome, ImageOutcome, ImageStatus, RowOutcome

AT = datetime(2026, 1, 5, 13, 0, tzinfo=ZoneInfo("Europe/Berlin"))
HOSTILE = "</script><script>alert(1)</script><img src=https://evil.example/x onerror=alert(1)>\"'&"
JPEG = b"\xff\xd8\xff\xe0 not really a picture \xff\xd9"


def stored(name, *, width=1024, height=576):
    return StoredImage(
        object_name=f"images/{name}.png",
        thumbnail_name=f"thumbnails/{name}.jpg",
        mime_type="image/png",
        width=width,
        height=height,
        size_bytes=9,
        sha256="0" * 64,
    )


def image(variant=1, *, scene="S1", status=ImageStatus.DELIVERED, **changes):
    delivered = status is ImageStatus.DELIVERED
    fields = {
        "image": stored(f"{scene}-{variant}") if delivered else None,
        "cost": Money(2000) if delivered else ZERO,
    }
    return ImageOutcome(
        scene_id=scene, row_number=1, variant=variant, status=status, **{**fields, **changes}
    )


def row(*images, scene="S1", prompt="A quiet harbour", unfetched=(), warning=""):
    request = ImageRequest(
        row_number=1,
        line=2,
        scene_id=scene,
        prompt=prompt,
        variants=len(images),
        reference_urls=(),
        reference_mode=ReferenceMode.STYLE_ONLY,
        ref_pack_id="",
        aspect_ratio=AspectRatio.LANDSCAPE,
        cells=(),
    )
    return RowOutcome(
        request=request, images=images, references_used=0, unfetched=unfetched, warning=warning
    )


def an_outcome(*rows):
    return BatchOutcome(batch_id="team.story.0a1b2c3d", owner="team", header=(), rows=rows)


def pieces(*rows, thumbnails=lambda name: JPEG, title="Storyboard", page_of=None):
    outcome = an_outcome(*rows)
    return contact_sheet_html(
        outcome, thumbnails=thumbnails, title=title, generated_at=AT, page=page_of
    )


def page(*rows, **options):
    return "".join(pieces(*rows, **options))


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.text = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def test_each_thumbnail_is_embedded_exactly_once():
    html = page(row(image(1), image(2), image(3)), row(image(scene="S2"), scene="S2"))
    assert html.count("data:image/jpeg;base64,") == 4
    for attrs in Elements(html).all("img"):
        assert base64.b64decode(attrs["src"].partition(",")[2]) == JPEG


def test_each_thumbnail_is_asked_for_by_its_name_when_its_row_is_written():
    asked = []

    def thumbnails(name):
        asked.append(name)
        return JPEG

    rows = [row(image(scene=f"S{n}"), scene=f"S{n}") for n in range(3)]
    made = pieces(*rows, thumbnails=thumbnails)
    assert inspect.isgenerator(made)
    next(made)
    assert asked == []
    next(made)
    assert asked == ["thumbnails/S0-1.jpg"]


def test_nothing_on_the_page_reaches_the_network():
    html = page(row(image(), prompt=HOSTILE), title=HOSTILE)
    for tag, attrs in Elements(html).found:
        assert tag not in {"link", "iframe", "object", "embed", "base", "audio", "video", "a"}
        assert "href" not in attrs
        assert "srcset" not in attrs
        assert attrs.get("src", "data:image/jpeg;").startswith("data:image/jpeg;")
        assert not [name for name in attrs if name.startswith("on")]
    assert "@import" not in html
    assert "url(" not in html


@given(st.text(min_size=1, max_size=80))
def test_any_text_stays_text(prompt):
    plain, hostile = Elements(page(row(image()))), Elements(page(row(image(), prompt=prompt)))
    assert [tag for tag, _ in plain.found] == [tag for tag, _ in hostile.found]


def test_hostile_text_is_shown_as_it_was_written():
    failed = image(status=ImageStatus.FAILED, code=HOSTILE, detail=HOSTILE)
    html = page(
        row(image(), failed, prompt=HOSTILE, unfetched=(HOSTILE,), warning=HOSTILE), title=HOSTILE
    )
    assert html.count("<script>") == 1
    assert HOSTILE not in html
    # Two titles, the prompt and its tooltip, a code, a sentence and two notes.
    assert unescape(html).count(HOSTILE) == 8


def test_the_policy_allows_our_own_style_and_script_by_hash_and_nothing_else():
    html = page(row(image()))
    policy = next(a["content"] for a in Elements(html).all("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "img-src data:" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert 'style="' not in html


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (ImageStatus.FAILED, "Failed"),
        (ImageStatus.BLOCKED, "Blocked"),
        (ImageStatus.NOT_ATTEMPTED, "Not attempted"),
    ],
)
def test_an_image_not_delivered_says_why(status, word):
    html = page(row(image(status=status, code="provider-blocked", detail="Policy refuses it.")))
    assert f'<b class="{status.value}">{word}</b><code>provider-blocked</code>' in html
    assert "Policy refuses it." in html
    assert "data:image/" not in html
    assert f'data-status="{status.value}"' in html


def test_an_image_that_failed_without_a_code_shows_its_status_only():
    assert "<code>" not in page(row(image(status=ImageStatus.NOT_ATTEMPTED)))


def test_a_lost_thumbnail_leaves_a_note():
    html = page(row(image()), thumbnails=lambda name: None)
    assert "No thumbnail" in html
    assert "data:image/" not in html


def test_the_header_counts_and_sums():
    html = page(
        row(image(1), image(2, status=ImageStatus.FAILED, cost=Money(500))),
        row(image(scene="S2"), scene="S2"),
    )
    text = " ".join(Elements(html).text)
    assert "<dt>images requested</dt><dd>3</dd>" in html
    assert "<dt>delivered</dt><dd>2</dd>" in html
    assert "<dt>not delivered</dt><dd>1</dd>" in html
    assert "<dt>spent</dt><dd>$0.0045</dd>" in html
    assert "owner team" in text
    assert '<time datetime="2026-01-05T12:00:00+00:00">05 Jan 2026, 12:00 UTC</time>' in html
    assert "All 3" in text
    assert "Delivered 2" in text
    assert "Blocked" not in text
    assert 'data-status="delivered failed"' in html
    assert ">Partial</span>" in html


def test_variants_stand_side_by_side_each_with_its_cost():
    html = page(row(image(1), image(2)))
    assert 'class="card v2"' in html
    assert html.count("<figure>") == 2
    assert "variant 2 · $0.002" in html
    assert '<span class="cost">$0.004</span>' in html


def test_references_not_used_and_warnings_are_noted():
    html = page(
        row(
            image(),
            unfetched=("https://a.example/…#12: reference-unavailable",),
            warning="No pack.",
        )
    )
    assert "Reference not used: https://a.example/…#12: reference-unavailable" in html
    assert '<p class="note">No pack.</p>' in html


def test_images_state_their_size_and_load_late():
    tall = image(image=stored("tall", width=576, height=1024))
    (attrs,) = Elements(page(row(tall))).all("img")
    assert (attrs["width"], attrs["height"]) == ("144", "256")
    assert (attrs["loading"], attrs["decoding"]) == ("lazy", "async")
    assert attrs["alt"] == "S1, variant 1"


def test_an_empty_batch_still_gives_a_page():
    html = page()
    assert html.startswith("<!doctype html>")
    assert html.rstrip().endswith("</html>")


def test_scene_and_prompt_stand_in_the_tooltip_of_the_pictures():
    (strip,) = [
        a
        for a in Elements(page(row(image(), prompt='A "quiet" harbour'))).all("div")
        if "title" in a
    ]

    assert strip["title"] == 'S1: A "quiet" harbour'


def test_a_small_batch_is_one_page_that_names_no_other_file():
    (only,) = sheet_pages(an_outcome(row(image(1), image(2)), row(image())))

    html = page(*only.rows, page_of=only)

    assert (only.number, only.count, only.file) == (1, 1, "contact-sheet.html")
    assert "href" not in html
    assert "<nav" not in html


def test_rows_are_cut_into_pages_by_images_and_none_is_cut_lost_or_doubled():
    rows = tuple(row(*[image(v) for v in range(1, 4)], scene=f"S{n}") for n in range(7))

    pages = sheet_pages(an_outcome(*rows), images_per_page=7)

    assert [len(one.images) for one in pages] == [6, 6, 6, 3]
    assert [found for one in pages for found in one.rows] == list(rows)
    assert [one.file for one in pages] == [
        "contact-sheet.html", "contact-sheet-2.html", "contact-sheet-3.html", "contact-sheet-4.html",
    ]  # fmt: skip


def test_a_row_larger_than_a_page_has_a_page_of_its_own():
    pages = sheet_pages(
        an_outcome(row(image(1), image(2), image(3)), row(image())), images_per_page=2
    )

    assert [len(one.images) for one in pages] == [3, 1]


def test_pages_name_one_another_by_file_alone_and_count_the_whole_batch():
    rows = (row(image()), row(image(status=ImageStatus.FAILED), scene="S2"))
    first, second = sheet_pages(an_outcome(*rows), images_per_page=1)

    html = page(*rows, page_of=second)

    assert isinstance(first, SheetPage)
    assert {a["href"] for a in Elements(html).all("a")} == {"contact-sheet.html"}
    assert html.count('<b aria-current="page">2</b>') == 2
    assert "<dt>images requested</dt><dd>2</dd>" in html
    assert "Failed 1" in html
    assert "Delivered 1" not in html
    assert html.count("<article") == 1
