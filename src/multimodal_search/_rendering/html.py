"""Hits as HTML: a page for a browser, and a fragment for a notebook.

Names, texts, payloads and queries are foreign data: each is escaped by `_shown` or `_shown_prose`. The page's content
security policy allows its own style and embedded images only: no scripts, no network.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import PIL.Image

from multimodal_search._payload import json_safe
from multimodal_search._rendering.card import Card, group_text, percent_text, sections, thread_map
from multimodal_search._text import printable, prose, score_text, shorten
from multimodal_search.errors import ConfigurationError

_PAGE_PX, _NOTEBOOK_PX, _DUPLICATE_PX = 640, 320, 160  # twice the displayed size, for high-density screens
_TINY_PX = 128
_MAX_PIXELS = 1_000_000_000  # of thumbnails in one page, some 100 MB
_MAX_TEXT, _MAX_CAPTION, _MAX_NAME, _MAX_PAYLOAD = 600, 200, 240, 20_000  # characters
_MAX_REASON = 48  # characters, in a square of 80 pixels
_MAX_DUPLICATES = 24

_STYLE = """\
.mms{--line:rgba(128,128,128,.35);--mat:rgba(128,128,128,.12);--card:transparent;--size:170px;--gap:12px;
 font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;text-align:start}
.mms h1{font-size:1.6em;line-height:1.25;margin:0;overflow-wrap:anywhere}
.mms h2{font-size:1.2em;line-height:1.3;margin:1.6em 0 .6em;overflow-wrap:anywhere}
.mms p{margin:0}
.mms .count{margin:.2em 0 1.2em}
.mms .quiet{opacity:.78}
.mms.mms ol,.mms.mms ul{list-style:none;margin:0;padding:0}
.mms ol{display:grid;gap:var(--gap);grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--size)),1fr))}
.mms ol>li{min-width:0;padding:10px;border:1px solid var(--line);border-radius:10px;background:var(--card)}
.mms .frame{position:relative;aspect-ratio:1;display:flex;align-items:center;justify-content:center;overflow:hidden;
 border-radius:5px;background:var(--mat);margin-bottom:8px}
.mms .frame img{position:absolute;inset:0;width:100%;height:100%;max-width:none;margin:0;object-fit:contain}
.mms .frame .tiny{object-fit:scale-down}
.mms .words{align-items:flex-start;justify-content:flex-start;padding:.85em;background:rgba(214,178,70,.16);
 border-inline-start:4px solid rgba(190,150,40,.8);box-sizing:border-box;container-type:inline-size}
.mms .words p{display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:5;overflow:hidden}
.mms .words p,.mms .caption,.mms .name{overflow-wrap:anywhere}
.mms .none{flex-direction:column;padding:12px;box-sizing:border-box;text-align:center;overflow-wrap:anywhere}
.mms .broken{background:rgba(214,70,50,.14);border:1px dashed rgba(200,60,40,.75)}
.mms .line{display:flex;align-items:baseline;gap:8px;font-variant-numeric:tabular-nums}
.mms .line b{flex:none}
.mms .line .group{flex:1;min-width:0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.mms .line .score{margin-inline-start:auto;white-space:nowrap}
.mms svg{display:block;width:100%;height:5px;border-radius:3px;margin:3px 0 5px}
.mms .name{font-weight:600}
.mms .caption{display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:3;overflow:hidden}
.mms details{margin-top:6px}
.mms summary{cursor:pointer;border-radius:4px}
.mms summary:focus-visible,.mms pre:focus-visible{outline:2px solid #4a90d9;outline-offset:2px}
.mms pre{max-height:20em;overflow:auto;margin:6px 0 0;padding:8px;border-radius:5px;background:var(--mat);
 font:12px/1.4 ui-monospace,Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere;color:inherit}
.mms .duplicates ul{display:grid;gap:6px;grid-template-columns:repeat(auto-fill,minmax(80px,1fr));margin-top:6px}
.mms .duplicates li{min-width:0;font-size:12px;overflow-wrap:anywhere}
.mms .duplicates img{display:block;max-width:100%;height:auto;max-height:80px;width:auto;border-radius:3px;margin:0}
.mms .duplicates .frame{max-width:80px;padding:4px;margin:0;border-radius:3px;font-size:11px;line-height:1.2}
"""
"""All rules are below `.mms`, so that the rest of a notebook is unchanged; works on light and dark."""
_STYLE += "".join(
    f"@container (min-width:{1.45 * lines:.2f}em){{.mms .words p{{-webkit-line-clamp:{lines}}}}}\n"
    for lines in range(6, 18)  # as many whole lines of 1.45 em as the square holds
)

_PAGE_STYLE = """\
:root{color-scheme:light dark;--page:#f4f5f7;--ink:#1c2127;--paper:#fff}
@media (prefers-color-scheme:dark){:root{--page:#15181c;--ink:#e8eaed;--paper:#1f2329}}
body{margin:0;background:var(--page);color:var(--ink)}
.mms{--card:var(--paper);--size:240px;--gap:18px;max-width:1800px;margin:0 auto;padding:clamp(14px,3vw,36px)}
@media print{.mms ol>li{break-inside:avoid}}
"""


def page(cards: Sequence[Card], *, title: str, verdict: str = "") -> str:
    """A complete page without external files.

    Args:
        cards: Cards of the hits.
        title: The query.
        verdict: What is said of the answer beside the number of hits.

    Raises:
        ConfigurationError: There are too many cards for one page.
    """
    if len(cards) * _PAGE_PX**2 > _MAX_PIXELS:
        raise ConfigurationError(
            f"a page of {len(cards):,} hits would have hundreds of megabytes; take fewer hits, such as `results[:100]`"
        )
    style = _STYLE + _PAGE_STYLE
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    heading = _shown_prose(title, 300)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{heading}</title>
<style>{style}</style>
</head>
<body>
<main class="mms">
<h1><bdi>{heading}</bdi></h1>
{_body(cards, len(cards), verdict, _Look(side_px=_PAGE_PX, duplicate_px=_DUPLICATE_PX))}
</main>
</body>
</html>
"""


def fragment(cards: Sequence[Card], *, title: str, count: int, verdict: str = "") -> str:
    """An HTML fragment for a notebook, with smaller thumbnails.

    Args:
        cards: Cards of the first hits.
        title: The query.
        count: Number of all hits.
        verdict: As for `page`.
    """
    body = _body(cards, count, verdict, _Look(side_px=_NOTEBOOK_PX, duplicate_px=None))
    more = f'\n<p class="quiet">and {count - len(cards):,} more</p>' if count > len(cards) else ""
    heading = f"<p><b><bdi>{_shown_prose(title, 300)}</bdi></b></p>"
    return f'<div class="mms">\n<style>{_STYLE}</style>\n{heading}\n{body}{more}\n</div>'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """Sizes of thumbnails in pixels; None shows names only."""

    side_px: int
    duplicate_px: int | None


def _body(cards: Sequence[Card], count: int, verdict: str, look: _Look) -> str:
    said = f": {escape(verdict)}" if verdict else ""
    if not cards:
        return f'<p class="count quiet">no hits{said}</p>'
    groups = sections(cards)
    has_headings = groups[0].heading is not None
    in_order = [card for group in groups for card in group.cards]
    items = thread_map(in_order, lambda card: _item(card, look, with_group=not has_headings))
    parts = [f'<p class="count quiet">{count:,} {"hit" if count == 1 else "hits"}{said}</p>']
    for group in groups:
        if group.heading is not None:
            parts.append(f"<h2><bdi>{escape(group.heading)}</bdi></h2>")
        parts += ["<ol>", *itertools.islice(items, len(group.cards)), "</ol>"]
    return "\n".join(parts)


def _item(card: Card, look: _Look, *, with_group: bool) -> str:
    group = f'<span class="group quiet"><bdi>{escape(group_text(card.group))}</bdi></span>' if with_group else ""
    known = card.relevance is not None
    relevance = f' · <span title="relevance">{percent_text(card.relevance or 0)}</span>' if known else ""
    score = f'<span class="score quiet"><span title="score">{score_text(card.score)}</span>{relevance}</span>'
    parts = [
        _frame(card, look.side_px),
        f'<p class="line"><b>{card.rank:,}</b>{group}{score}</p>',
        _bar(card.relevance or 0) if known else "",
        f'<p class="name"><bdi>{_shown(card.name, _MAX_NAME)}</bdi></p>',
        f'<p class="caption" dir="auto">{_shown_prose(card.caption, _MAX_CAPTION)}</p>' if card.caption else "",
        _duplicates(card.duplicates, look.duplicate_px) if card.duplicates else "",
        _payload(card),
    ]
    return f"<li>{''.join(parts)}</li>"


def _frame(card: Card, side_px: int) -> str:
    """The square with the image, the text, or the reason why there is neither."""
    if card.is_text:
        words = _shown_prose(card.text or "", _MAX_TEXT)
        return f'<div class="frame words"><p dir="auto">{words}</p></div>'
    shown = card.thumbnail(side_px)
    if isinstance(shown, PIL.Image.Image):
        return f'<div class="frame">{_image(shown, card.caption or card.name)}</div>'
    return _blank(card, shown, _MAX_CAPTION)


def _blank(card: Card, reason: str, most: int) -> str:
    """A square with the reason why there is no image; red if the file of an image cannot be read."""
    kind = " broken" if card.file is not None else ""
    return f'<div class="frame none{kind}"><p>{_shown_prose(reason, most)}</p></div>'


def _bar(relevance: float) -> str:
    """A bar of the relevance; hidden from screen readers, since the number is above it."""
    width = 100 * min(max(relevance, 0), 1)
    return (
        '<svg viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        '<rect width="100" height="4" fill="#808080" fill-opacity=".3"/>'
        f'<rect width="{width:.1f}" height="4" fill="#3a8f5c"/></svg>'
    )


def _duplicates(cards: Sequence[Card], side_px: int | None) -> str:
    """Near-duplicates of a hit, in an element that opens by mouse or keyboard."""
    items = []
    for card in cards[:_MAX_DUPLICATES]:
        image = ""
        if side_px is not None:
            shown = (card.text or "") if card.is_text else card.thumbnail(side_px)
            image = _image(shown, "") if isinstance(shown, PIL.Image.Image) else _blank(card, shown, _MAX_REASON)
        items.append(
            f"<li>{image}<bdi>{_shown(card.name, _MAX_NAME)}</bdi> "
            f'<span class="quiet">{score_text(card.score)}</span></li>'
        )
    more = len(cards) - len(items)
    items += [f"<li>and {more:,} more</li>"] if more else []
    label = f"+{len(cards):,} near-duplicate{'' if len(cards) == 1 else 's'}"
    return f'<details class="duplicates"><summary>{label}</summary><ul>{"".join(items)}</ul></details>'


def _payload(card: Card) -> str:
    # Without the folder's path on this machine: pages are sent to others.
    fields = {name: value for name, value in card.payload.items() if name != "root"}
    if not fields:
        return ""
    text = json.dumps(json_safe(fields, most=_MAX_PAYLOAD), indent=1, ensure_ascii=False)
    shown = escape("\n".join(map(printable, text[:_MAX_PAYLOAD].split("\n"))))
    more = "\n…" if len(text) > _MAX_PAYLOAD else ""
    return (
        "<details><summary>Fields</summary>"
        f'<pre tabindex="0" role="region" aria-label="Fields" dir="auto">{shown}{more}</pre></details>'
    )


def _image(image: PIL.Image.Image, alt: str) -> str:
    tiny = ' class="tiny"' if max(image.size) < _TINY_PX else ""  # an enlarged icon would be blurred
    return (
        f'<img{tiny} src="{_data_uri(image)}" alt="{_shown_prose(alt, _MAX_CAPTION)}" '
        f'width="{image.width}" height="{image.height}" decoding="async">'
    )


def _data_uri(image: PIL.Image.Image) -> str:
    """An image as a `data:` URI: JPEG, or PNG if it has at most 256 colours."""
    file, kind = io.BytesIO(), "png"
    if image.getcolors(256) is None:
        kind = "jpeg"
        image.save(file, "JPEG", quality=80, optimize=True)
    else:
        image.save(file, "PNG", optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _shown(name: str, most: int) -> str:
    """A name, escaped for text and quoted attributes; shortened in the middle."""
    if len(name) > 2 * most:
        name = f"{name[:most]}…{name[-most:]}"
    return escape(shorten(printable(name), most, keep_end=True))


def _shown_prose(text: str, most: int) -> str:
    """A text, escaped for text and quoted attributes; shortened at the end."""
    return escape(shorten(prose(text[: 8 * most]), most))
