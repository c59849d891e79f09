"""The contact sheet: one page that shows what became of a batch, readable offline.

The page is made piece by piece, a row at a time, so that memory holds one row's
thumbnails however large the batch is. One page serves about 1,000 images well; a reader's
browser holds all of them, so far larger batches want several pages (not done here).
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
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

_THUMBNAIL_EDGE_PX = 256
_WORDS = {
    RowStatus.DELIVERED: "Delivered",
    RowStatus.PARTIAL: "Partial",
    RowStatus.FAILED: "Failed",
    RowStatus.BLOCKED: "Blocked",
    RowStatus.NOT_ATTEMPTED: "Not attempted",
}


def contact_sheet_html(
    outcome: BatchOutcome,
    *,
    thumbnails: Callable[[str], bytes | None],
    title: str,
    generated_at: str,
) -> Iterator[str]:
    """The page in pieces; `thumbnails` gives a thumbnail's JPEG by its object name, or `None`.

    Raises:
        AssetgenError: whatever `thumbnails` raises, at the row that it is asked for.
    """
    yield _opening(outcome, title=title, generated_at=generated_at)
    for row in outcome.rows:
        yield _card(row, thumbnails)
    yield f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"


def _opening(outcome: BatchOutcome, *, title: str, generated_at: str) -> str:
    counts = outcome.counts()
    filters = "".join(
        _filter(status.value, _word(status), counts[status.value])
        for status in ImageStatus
        if counts[status.value]
    )
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
<p class="meta">{escape(outcome.owner)} · {escape(outcome.batch_id)} · {escape(generated_at)}</p>
<dl class="totals">{figures}</dl>
</header>
<div class="bar"><form hidden>
<fieldset><legend>Show rows with images that are</legend>
{_filter("all", "All", counts["requested"], checked=" checked")}{filters}</fieldset>
<input type="search" name="find" aria-label="Search scene and prompt"
 placeholder="Search scene and prompt ( / )" autocomplete="off">
<output aria-live="polite"></output>
</form></div>
<main>
"""


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
<div class="strip">{figures}</div>
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
