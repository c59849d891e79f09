"""The contact sheet: one page that shows what became of a batch, readable offline.

Each page is made piece by piece, a row at a time. A browser serves about 1,000 images
well, so a larger batch has several files, which name one another without any address.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from assetgen_pipeline.domain.contact_sheet_assets import SCRIPT, STYLE
from assetgen_pipeline.domain.money import ZERO
from assetgen_pipeline.domain.outcome import (
    BatchOutcome,
    ImageOutcome,
    ImageStatus,
    RowOutcome,
    RowStatus,
)

IMAGES_PER_PAGE = 1000
_THUMBNAIL_EDGE_PX = 256
_KEYS = """<footer class="keys"><kbd>/</kbd> search <kbd>j</kbd> <kbd>k</kbd> next, previous row
<kbd>f</kbd> next filter <kbd>t</kbd> colours</footer>
"""
_WORDS = {
    RowStatus.DELIVERED: "Delivered",
    RowStatus.PARTIAL: "Partial",
    RowStatus.FAILED: "Failed",
    RowStatus.BLOCKED: "Blocked",
    RowStatus.NOT_ATTEMPTED: "Not attempted",
}


@dataclass(frozen=True, slots=True)
class SheetPage:
    """One file of a contact sheet: its number, how many there are, and its rows."""

    number: int
    count: int
    rows: tuple[RowOutcome, ...]

    @property
    def file(self) -> str:
        """The name of the file, beside the others."""
        return page_file(self.number)

    @property
    def images(self) -> list[ImageOutcome]:
        """The images of its rows."""
        return [image for row in self.rows for image in row.images]


def page_file(number: int) -> str:
    """The file of a page; the first has no number."""
    return "contact-sheet.html" if number == 1 else f"contact-sheet-{number}.html"


def sheet_pages(
    outcome: BatchOutcome, *, images_per_page: int = IMAGES_PER_PAGE
) -> list[SheetPage]:
    """Cut the rows into pages; a row is never cut, and there is always a first page."""
    pages: list[list[RowOutcome]] = [[]]
    images = 0
    for row in outcome.rows:
        if pages[-1] and images + len(row.images) > images_per_page:
            pages.append([])
            images = 0
        pages[-1].append(row)
        images += len(row.images)
    return [
        SheetPage(number, len(pages), tuple(rows)) for number, rows in enumerate(pages, start=1)
    ]


def contact_sheet_html(
    outcome: BatchOutcome,
    *,
    thumbnails: Callable[[str], bytes | None],
    title: str,
    generated_at: datetime,
    page: SheetPage | None = None,
) -> Iterator[str]:
    """A page in pieces; `thumbnails` gives a thumbnail's JPEG by its object name, or `None`.

    Without `page`, all rows stand on one.

    Raises:
        AssetgenError: whatever `thumbnails` raises, at the row that it is asked for.
    """
    page = page or SheetPage(1, 1, outcome.rows)
    yield _opening(outcome, page, title=title, generated_at=generated_at)
    for row in page.rows:
        yield _card(row, thumbnails)
    yield f"</main>\n{_pages(page)}{_KEYS}<script>{SCRIPT}</script>\n</body>\n</html>\n"


def _opening(outcome: BatchOutcome, page: SheetPage, *, title: str, generated_at: datetime) -> str:
    counts = outcome.counts()
    shown = Counter(image.status for image in page.images)
    filters = "".join(
        _filter(status.value, _word(status), shown[status])
        for status in ImageStatus
        if shown[status]
    )
    at = generated_at.astimezone(UTC)
    totals = {
        "images requested": f"{counts['requested']:,}",
        "delivered": f"{counts['delivered']:,}",
        "not delivered": f"{counts['requested'] - counts['delivered']:,}",
        "rows": f"{len(outcome.rows):,}",
        "spent": str(outcome.spent()),
    }
    figures = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in totals.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header class="top">
<h1>{escape(title)}</h1>
<p class="meta">owner {escape(outcome.owner)} ·
<time datetime="{at.isoformat()}">{at:%d %b %Y, %H:%M} UTC</time></p>
<dl class="totals">{figures}</dl>
</header>
{_pages(page)}<div class="bar"><form hidden>
<fieldset><legend>Show rows with images that are</legend>
{_filter("all", "All", shown.total(), checked=" checked")}{filters}</fieldset>
<input type="search" name="find" aria-label="Search scene and prompt"
 placeholder="Search scene and prompt ( / )" autocomplete="off">
<output aria-live="polite"></output>
<button type="button" class="theme" aria-label="Colours: as the system">◐</button>
</form></div>
<main>
"""


def _pages(page: SheetPage) -> str:
    """Where the other pages are: file names, so that a copied folder works."""
    if page.count == 1:
        return ""
    links = "".join(
        f'<b aria-current="page">{number}</b>'
        if number == page.number
        else f'<a href="{page_file(number)}">{number}</a>'
        for number in range(1, page.count + 1)
    )
    return f'<nav class="pages" aria-label="Pages">Page {links}</nav>\n'


def _policy() -> str:
    """Our own style and script by hash, embedded images, and nothing else."""
    style, script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (STYLE, SCRIPT)
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; "
        f"script-src 'sha256-{script}'; base-uri 'none'; form-action 'none'"
    )


def _filter(value: str, name: str, count: int, *, checked: str = "") -> str:
    return (
        f'<label><input type="radio" name="status" value="{value}"{checked}>'
        f"<span>{name} {count:,}</span></label>"
    )


def _word(status: RowStatus | ImageStatus) -> str:
    return _WORDS[RowStatus(status.value)]


def _card(row: RowOutcome, thumbnails: Callable[[str], bytes | None]) -> str:
    request = row.request
    statuses = " ".join(sorted({image.status.value for image in row.images}))
    figures = "".join(_figure(image, thumbnails) for image in row.images)
    return f"""<article class="card v{len(row.images)}" data-status="{statuses}" tabindex="0">
<div class="strip" title="{escape(request.scene_id)}: {escape(request.prompt)}">{figures}</div>
<div class="body"><div class="head"><h2>{escape(request.scene_id)}</h2>
<span class="tag {row.status.value}">{_word(row.status)}</span>
<span class="cost">{row.cost}</span></div>
<p class="prompt">{escape(request.prompt)}</p>{_notes(row)}</div>
</article>
"""


def _figure(image: ImageOutcome, thumbnails: Callable[[str], bytes | None]) -> str:
    spent = f" · {image.cost}" if image.cost != ZERO else ""
    return (
        f'<figure><div class="stage">{_shown(image, thumbnails)}</div>'
        f"<figcaption>variant {image.variant}{spent}</figcaption></figure>"
    )


def _shown(image: ImageOutcome, thumbnails: Callable[[str], bytes | None]) -> str:
    if image.image is None:
        word = f'<b class="{image.status.value}">{_word(image.status)}</b>'
        code = f"<code>{escape(image.code)}</code><br>" if image.code else ""
        return f'<div class="gone">{word}{code}{escape(image.detail)}</div>'
    data = thumbnails(image.image.thumbnail_name)
    if data is None:
        return '<div class="gone"><b>No thumbnail</b>The image itself is in the results.</div>'
    long_edge = max(image.image.width, image.image.height)
    width, height = (
        max(1, round(edge * _THUMBNAIL_EDGE_PX / long_edge))
        for edge in (image.image.width, image.image.height)
    )
    label = f"{escape(image.scene_id)}, variant {image.variant}"
    return (
        f'<img alt="{label}" width="{width}" height="{height}" loading="lazy" '
        f'decoding="async" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
    )


def _notes(row: RowOutcome) -> str:
    notes = [row.warning] if row.warning else []
    notes += [f"Reference not used: {reference}" for reference in row.unfetched]
    return "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
