"""Search results: `SearchHit`, `SearchResults`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args, overload

import PIL.Image

from multimodal_search._bounds import is_iterable
from multimodal_search._files import atomic_write, checked_path
from multimodal_search._payload import json_safe
from multimodal_search._rendering.card import Card, group_text, percent_text
from multimodal_search._rendering.contact_sheet import draw_contact_sheet
from multimodal_search._rendering.html import fragment, page
from multimodal_search._text import columns_of, printable, prose, score_text, shorten
from multimodal_search.contents import Modality
from multimodal_search.errors import ConfigurationError, QueryError, UnreadableContentError
from multimodal_search.media.image_file import ImageFile
from multimodal_search.media.images import load_rgb
from multimodal_search.report import Failure, IndexReport
from multimodal_search.types import Payload, PointId

__all__ = ["Failure", "IndexReport", "SearchHit", "SearchResults", "Verdict"]

Verdict: TypeAlias = Literal["match", "unsure", "nothing"]
"""Of an answer, by the relevance of its best hit: from the upper threshold on, between the two, below the lower one."""

_ROWS_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchHit:
    """One hit of a search: a stored point and its score.

    Attributes:
        id: The point's id.
        score: Cosine similarity of point and query, -1 to 1; higher is closer. In a pure keyword search
            (`keyword_weight=1`), BM25 as a share of the best match's, above 0 to 1.
        payload: The fields stored with the point.
        relevance: Percentile of the score among neutral queries in this index, 0 to 1: the share of neutral queries of
            the same kind whose best hit scores lower. None if it is not known.
        group: Value of the field that the search was grouped by; None without grouping, or if the payload lacks it.
        duplicates: Near-duplicates of this hit with lower scores, collapsed into it by `deduplicate`.

    Examples:
        >>> hit = index.search("red", limit=1)[0]
        >>> hit.filename, hit.modality, hit.image().size
        ('red.jpg', 'image', (40, 30))
    """

    id: PointId
    score: float
    payload: Payload = field(default_factory=dict, hash=False)
    relevance: float | None = None
    group: str | int | float | bool | None = None
    duplicates: tuple[SearchHit, ...] = ()

    @property
    def filename(self) -> str | None:
        """Path below the indexed folder, with forward slashes; None if the payload has none."""
        return _str_or_none(self.payload, "filename")

    @property
    def path(self) -> Path | None:
        """Absolute path of the file when it was indexed; it may have moved since.

        None if the payload names no file, or one outside its own root folder: payloads may come from others, and
        `../../etc/passwd` must not be opened.
        """
        root, filename = _str_or_none(self.payload, "root"), self.filename
        if not root or not filename or "\0" in root + filename:
            return None
        below = Path(filename)
        if below.anchor or not below.parts or os.pardir in below.parts:
            return None
        return Path(root) / below

    @property
    def modality(self) -> Modality | None:
        """What was embedded: text, image or both; None if the payload does not say."""
        value = _str_or_none(self.payload, "modality")
        return cast("Modality", value) if value in get_args(Modality) else None

    @property
    def text(self) -> str | None:
        """The indexed text; None if it is not in the payload."""
        return _str_or_none(self.payload, "text")

    def image(self) -> PIL.Image.Image:
        """Read the image's file: upright, RGB, full size.

        Raises:
            UnreadableContentError: The hit is not an image from a file, or the file is missing or damaged.
        """
        file = self._file
        if file is None:
            named = "" if self.filename is None else f" ({printable(self.filename)})"
            raise UnreadableContentError(f"hit {self.id}{named}: {_why_no_image(self)}")
        try:
            return load_rgb(file.image())
        except UnreadableContentError as error:
            if not isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
                raise
            raise UnreadableContentError(
                f"{printable(file.name)}: the file is gone; it was moved or deleted after it was indexed. "
                "Restore it, or index its folder again"
            ) from error

    @property
    def _file(self) -> ImageFile | None:
        root = _str_or_none(self.payload, "root")
        return None if self.path is None or root is None else ImageFile.below(Path(root), Path(self.filename or ""))

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dict of JSON types, with the same keys for every hit.

        The keys are id, score, relevance, filename, path, modality, text, group, duplicates (a list of such dicts) and
        payload; unknown values are None. `docs/search-results.schema.json` is their JSON schema.
        """
        return {
            "id": self.id,
            "score": json_safe(float(self.score)),
            "relevance": None if self.relevance is None else json_safe(float(self.relevance)),
            "filename": self.filename,
            "path": None if self.path is None else str(self.path),
            "modality": self.modality,
            "text": self.text,
            "group": json_safe(self.group),
            "duplicates": [hit.to_dict() for hit in self.duplicates],
            "payload": json_safe(self.payload),
        }


@dataclass(frozen=True, slots=True, init=False, repr=False)
class SearchResults(Sequence[SearchHit]):
    """The hits of one search, best first: a sequence with a table, HTML and contact sheet of itself.

    Args:
        hits: In descending order of score.
        query: Short text that describes the query.
        relevance_unknown: Why there is no verdict, if there is none; else empty.
        verdict: Of the whole answer, whatever page of it this is, by the relevance of its best hit: `"match"`,
            `"unsure"` or `"nothing"`; None where that is not known. See docs/searching.md for how often it is right.
        thresholds: The two relevances that the verdict goes by: below the first it is `"nothing"`, unless a hit holds
            all words of the query, from the second on `"match"`.

    Examples:
        >>> results = index.search("red", limit=2)
        >>> len(results), results[0].filename
        (2, 'red.jpg')
        >>> results.contact_sheet().save("hits.png")
        >>> page = results.to_html("hits.html")
    """

    query: str
    relevance_unknown: str
    verdict: Verdict | None
    thresholds: tuple[float, float] | None
    _hits: tuple[SearchHit, ...]

    def __init__(
        self,
        hits: Iterable[SearchHit],
        query: str,
        *,
        relevance_unknown: str = "",
        verdict: Verdict | None = None,
        thresholds: tuple[float, float] | None = None,
    ) -> None:
        if not isinstance(query, str) or not is_iterable(hits):
            raise TypeError(f"SearchResults takes hits and a str, not {type(hits).__name__} and {type(query).__name__}")
        object.__setattr__(self, "query", query)
        object.__setattr__(self, "relevance_unknown", relevance_unknown)
        object.__setattr__(self, "verdict", verdict)
        object.__setattr__(self, "thresholds", thresholds)
        object.__setattr__(self, "_hits", tuple(hits))

    def __len__(self) -> int:
        return len(self._hits)

    def __iter__(self) -> Iterator[SearchHit]:
        return iter(self._hits)

    @overload
    def __getitem__(self, index: int) -> SearchHit: ...
    @overload
    def __getitem__(self, index: slice) -> SearchResults: ...
    def __getitem__(self, index: int | slice) -> SearchHit | SearchResults:
        if isinstance(index, slice):
            return self.with_hits(self._hits[index])
        return self._hits[index]

    def __repr__(self) -> str:
        return self._table(_ROWS_SHOWN)

    def __str__(self) -> str:
        return self._table(len(self))

    def _repr_html_(self) -> str:
        """The first 20 hits as HTML for a notebook, with embedded thumbnails."""
        try:
            cards = cards_of(self._hits[:_ROWS_SHOWN])
            return fragment(cards, title=self.query, count=len(self), verdict=said_of(self))
        except Exception as error:  # noqa: BLE001 - a notebook would show a traceback instead of the hits
            return f"<p>{len(self):,} hits that cannot be shown ({type(error).__name__})</p>"

    def _table(self, most_rows: int) -> str:
        more = [f"... and {len(self) - most_rows:,} more"] if len(self) > most_rows else []
        return "\n".join([heading_of(self), *rows_of(self._hits[:most_rows]), *more])

    def with_hits(self, hits: Iterable[SearchHit], query: str | None = None) -> SearchResults:
        """The same answer with other hits, such as some of these.

        Args:
            hits: In descending order of score.
            query: Short text that describes the query, if that is another.
        """
        return SearchResults(
            hits,
            self.query if query is None else query,
            relevance_unknown=self.relevance_unknown,
            verdict=self.verdict,
            thresholds=self.thresholds,
        )

    @property
    def matches(self) -> SearchResults:
        """The hits whose relevance reaches the upper threshold; maybe none.

        Raises:
            QueryError: The relevance of the hits is not known; the message says why.
        """
        if self.thresholds is None:
            why = self.relevance_unknown or "they do not come from a search"
            raise QueryError(f"which of these hits are matches cannot be told, as their relevance is not known: {why}")
        least = self.thresholds[1]
        return self.with_hits(hit for hit in self._hits if hit.relevance is not None and hit.relevance >= least)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Convert each hit to a dict of JSON types, see `SearchHit.to_dict`."""
        return [hit.to_dict() for hit in self._hits]

    def to_json(self, *, indent: int | None = None) -> str:
        """Convert the results to a JSON object: ASCII, no NaN; schema in `docs/search-results.schema.json`.

        The keys are query, verdict, relevance_unknown (null where there is a verdict) and hits, an array of what
        `to_dicts` gives.

        Args:
            indent: Spaces of indentation at each level; default: all on one line.
        """
        said = {"verdict": self.verdict, "relevance_unknown": self.relevance_unknown or None}
        return json.dumps({"query": self.query, **said, "hits": self.to_dicts()}, indent=indent, allow_nan=False)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Render the hits as an HTML page: thumbnails, and cards for texts, each with score, name and payload.

        Thumbnails are embedded as `data:` URIs, so the page is one file and stays complete if the images move. It has
        no scripts and no external resources, and does not contain the path of the indexed folder.

        Args:
            path: The file to write the page to, in UTF-8; an existing file is replaced atomically.

        Returns:
            The page.

        Raises:
            ConfigurationError: The file cannot be written, or there are too many hits for one page.
        """
        text = page(cards_of(self._hits), title=self.query, verdict=said_of(self))
        if path is not None:
            file_path = checked_path(path, "to_html")
            try:
                with atomic_write(file_path) as file:
                    file.write(text.encode())
            except (OSError, ValueError) as error:
                reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
                raise ConfigurationError(f"the page cannot be written to {file_path}: {reason.lower()}") from error
        return text

    def contact_sheet(self, *, columns: int | None = None, thumbnail_px: int = 240) -> PIL.Image.Image:
        """Draw the hits as one image: thumbnails, and cards for texts, each with rank, score and name.

        A missing or damaged file is drawn as an empty card with the reason.

        Args:
            columns: Hits in a row; default: by their number.
            thumbnail_px: Side of the square that each image is fitted into, in pixels.

        Returns:
            An RGB image; `.save("hits.png")` keeps it.

        Raises:
            ConfigurationError: `columns` or `thumbnail_px` is out of range, or the sheet would have too many pixels.
            ImportError: Pillow was built without FreeType; the wheels on PyPI have it.
        """
        cards, said = cards_of(self._hits), said_of(self)
        return draw_contact_sheet(cards, title=self.query, verdict=said, columns=columns, thumbnail_px=thumbnail_px)


def _str_or_none(payload: Payload, name: str) -> str | None:
    value = payload.get(name)
    return value if isinstance(value, str) else None


def _why_no_image(hit: SearchHit) -> str:
    """Why a hit has no file."""
    if hit.modality == "text" or (hit.filename is None and hit.text is not None):
        return "a text, not an image; read it from hit.text, if it was stored"
    if hit.filename is None:
        return "not from a file, so the image cannot be read again"
    if not _str_or_none(hit.payload, "root"):
        return "no folder is stored with it ('root' in its payload), so its file cannot be found"
    return "its filename leads out of the indexed folder, so it is not opened"


def _label(hit: SearchHit) -> str:
    """Name of a hit in one line."""
    if hit.filename is not None:
        return printable(hit.filename)
    return prose(hit.text) if hit.text else f"id {hit.id}"


def said_of(results: SearchResults) -> str:
    """What is said of an answer beside the number of its hits: nothing of no hits that are perhaps some."""
    if results.verdict == "nothing":
        return "nothing here looks like that"
    return "perhaps" if results and results.verdict == "unsure" else ""


def heading_of(results: SearchResults) -> str:
    """The first line of the table of results: how many hits, for what query, and unless they match, what of that."""
    said = said_of(results)
    query = f"'{shorten(prose(results.query), 60 - len(said), keep_end=True)}'" + (f": {said}" if said else "")
    if not results:
        return f"no hits for {query}"
    return f"{len(results):,} {'hit' if len(results) == 1 else 'hits'} for {query}"


def rows_of(hits: Sequence[SearchHit]) -> list[str]:
    """The table of hits without its heading, a line for each: rank, score, relevance, group and name in columns."""
    rank_width = len(str(len(hits)))
    has_relevance = any(hit.relevance is not None for hit in hits)
    groups = [shorten(group_text(hit.group), 20) for hit in hits]
    group_width = max(map(columns_of, groups), default=0)
    room = 66 - (7 if has_relevance else 0) - (group_width + 2 if group_width else 0)
    lines = []
    for rank, (hit, group) in enumerate(zip(hits, groups, strict=True), start=1):
        cells = [f"{rank:>{rank_width}}", f"{score_text(hit.score):>6}"]
        if has_relevance:
            cells.append(f"{'' if hit.relevance is None else percent_text(hit.relevance):>5}")
        if group_width:
            cells.append(group + " " * (group_width - columns_of(group)))
        behind = f"  +{len(hit.duplicates):,}" if hit.duplicates else ""
        cells.append(shorten(_label(hit), room - len(behind), keep_end=hit.filename is not None) + behind)
        lines.append("  ".join(cells))
    return lines


def cards_of(hits: Iterable[SearchHit]) -> list[Card]:
    """Cards of hits, ranked from 1."""
    return [_card(rank, hit) for rank, hit in enumerate(hits, start=1)]


def _card(rank: int, hit: SearchHit) -> Card:
    a_text = hit.text is not None and (hit.modality == "text" or hit.path is None)
    return Card(
        rank=rank,
        score=hit.score,
        relevance=hit.relevance,
        group=hit.group,
        name=hit.filename or f"id {hit.id}",
        file=None if hit.modality == "text" else hit._file,  # noqa: SLF001 (of this very file)
        text=hit.text if a_text else None,
        caption=None if a_text else hit.text or _str_or_none(hit.payload, "caption"),
        problem=_why_no_image(hit),
        payload=hit.payload,
        duplicates=tuple(cards_of(hit.duplicates)),
    )
