"""What comes back: hits of a search, and the report of an indexing run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args, overload

import PIL.Image

from multimodal_search._bounds import is_iterable
from multimodal_search._files import atomic_write, checked_path
from multimodal_search._payload import json_safe
from multimodal_search._rendering.card import Card, group_text, percent_text
from multimodal_search._rendering.contact_sheet import draw_contact_sheet
from multimodal_search._rendering.html import fragment, page
from multimodal_search._text import columns_of, printable, prose, score_text, shorten
from multimodal_search.contents import Image, Modality
from multimodal_search.errors import ConfigurationError, QueryError, UnreadableContentError
from multimodal_search.media.archives.members import is_archive, member_name, read_member
from multimodal_search.media.images import load_rgb
from multimodal_search.report import Failure, IndexReport
from multimodal_search.types import Payload, PointId

__all__ = ["Failure", "IndexReport", "SearchHit", "SearchResults"]

CONFIDENT = 0.97
"""The relevance from which on a hit stands out."""

_ROWS_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchHit:
    """One point that a search found.

    Attributes:
        id: The point's id.
        score: Cosine similarity of point and query, -1 to 1; higher is closer. Of a search by words alone, its BM25 as
            a share of the best match's, above 0 to 1.
        payload: The fields stored with it.
        relevance: Percentile of the score among neutral queries in this index, 0 to 1: the share of neutral queries of
            the same kind whose best score is lower. None if that is not known.
        group: The value of the field that the search was grouped by; None if it was not, or the payload has none.
        duplicates: Nearly the same images, which were found as well and stand behind this one.
    """

    id: PointId
    score: float
    payload: Payload = field(default_factory=dict, hash=False)
    relevance: float | None = None
    group: str | int | float | bool | None = None
    duplicates: tuple[SearchHit, ...] = ()

    @property
    def filename(self) -> str | None:
        """The path below the indexed folder, with forward slashes; None if the payload has none."""
        return _str_or_none(self.payload, "filename")

    @property
    def path(self) -> Path | None:
        """Where the file was when it was indexed; it may have moved since.

        None where the payload names no file, or one outside its own root folder: payloads may come from others, and
        `../../etc/passwd` must lead nowhere.
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
        """What was embedded; None if the payload does not say, as in a collection of another program."""
        value = _str_or_none(self.payload, "modality")
        return cast("Modality", value) if value in get_args(Modality) else None

    @property
    def text(self) -> str | None:
        """The text that was indexed; None if it is not in the payload."""
        return _str_or_none(self.payload, "text")

    def image(self) -> PIL.Image.Image:
        """Read the image's file: upright, RGB, full size.

        Raises:
            UnreadableContentError: The hit is no image from a file, or the file is gone or broken.
        """
        path = self.path
        if (archive := self._archive) is not None and self.filename is not None:
            return load_rgb(Image(read_member(archive, self.filename), name=member_name(archive, self.filename)))
        if path is None:
            named = "" if self.filename is None else f" ({printable(self.filename)})"
            raise UnreadableContentError(f"hit {self.id}{named}: {_why_no_image(self)}")
        try:
            return load_rgb(Image(path))
        except UnreadableContentError as error:
            if not isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
                raise
            raise UnreadableContentError(
                f"{printable(str(path))}: the file is gone; it was moved or deleted after it was indexed. "
                "Put it back, or index its folder again"
            ) from error

    @property
    def _archive(self) -> Path | None:
        """The archive that the image is inside of, if it is inside one."""
        root = _str_or_none(self.payload, "root")
        return Path(root) if root and self.filename and is_archive(Path(root)) else None

    def to_dict(self) -> dict[str, Any]:
        """As a plain dict of what JSON knows, with the same keys for every hit.

        They are id, score, relevance, filename, path, modality, text, group, duplicates (a list of such dicts) and
        payload;
        null stands for what is not known. `docs/search-results.schema.json` describes them.
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
    """The hits of one search, best first; a sequence that shows itself.

    Args:
        hits: By falling score.
        query: What was searched for, as a short text for people.
        relevance_unknown: Why the hits have no relevance, if they have none.
    """

    query: str
    relevance_unknown: str
    _hits: tuple[SearchHit, ...]

    def __init__(self, hits: Iterable[SearchHit], query: str, *, relevance_unknown: str = "") -> None:
        if not isinstance(query, str) or not is_iterable(hits):
            raise TypeError(f"SearchResults takes hits and a str, not {type(hits).__name__} and {type(query).__name__}")
        object.__setattr__(self, "query", query)
        object.__setattr__(self, "relevance_unknown", relevance_unknown)
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
            return SearchResults(self._hits[index], self.query, relevance_unknown=self.relevance_unknown)
        return self._hits[index]

    def __repr__(self) -> str:
        return self._table(_ROWS_SHOWN)

    def __str__(self) -> str:
        return self._table(len(self))

    def _repr_html_(self) -> str:
        """The hits as a notebook shows them: up to 20, with small thumbnails inside."""
        try:
            return fragment(cards_of(self._hits[:_ROWS_SHOWN]), title=self.query, count=len(self))
        except Exception as error:  # noqa: BLE001 - a notebook would show a traceback in the place of the hits
            return f"<p>{len(self):,} hits that cannot be shown ({type(error).__name__})</p>"

    def _table(self, most_rows: int) -> str:
        query = f"'{shorten(prose(self.query), 60, keep_end=True)}'"
        if not self._hits:
            return f"no hits for {query}"
        shown = self._hits[:most_rows]
        rank_width = len(str(len(shown)))
        has_relevance = any(hit.relevance is not None for hit in shown)
        groups = [shorten(group_text(hit.group), 20) for hit in shown]
        group_width = max(map(columns_of, groups))
        room = 66 - (7 if has_relevance else 0) - (group_width + 2 if group_width else 0)
        lines = [f"{len(self):,} {'hit' if len(self) == 1 else 'hits'} for {query}"]
        for rank, (hit, group) in enumerate(zip(shown, groups, strict=True), start=1):
            cells = [f"{rank:>{rank_width}}", f"{score_text(hit.score):>6}"]
            if has_relevance:
                cells.append(f"{'' if hit.relevance is None else percent_text(hit.relevance):>5}")
            if group_width:
                cells.append(group + " " * (group_width - columns_of(group)))
            behind = f"  +{len(hit.duplicates):,}" if hit.duplicates else ""
            cells.append(shorten(_label(hit), room - len(behind), keep_end=hit.filename is not None) + behind)
            lines.append("  ".join(cells))
        if len(self) > len(shown):
            lines.append(f"... and {len(self) - len(shown):,} more")
        return "\n".join(lines)

    @property
    def confident(self) -> SearchResults:
        """The hits that stand out: those with a relevance of at least 0.97. None is an answer: nothing looks like that.

        Raises:
            QueryError: The relevance of the hits is not known; the message says what to do.
        """
        if self.relevance_unknown or (self._hits and all(hit.relevance is None for hit in self._hits)):
            raise QueryError(
                "the relevance of these hits is not known, so none can be said to stand out: "
                + (self.relevance_unknown or "see docs/searching.md, and index.calibrate()")
            )
        return SearchResults([hit for hit in self._hits if (hit.relevance or 0) >= CONFIDENT], self.query)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Each hit as a plain dict of what JSON knows, see `SearchHit.to_dict`."""
        return [hit.to_dict() for hit in self._hits]

    def to_json(self, *, indent: int | None = None) -> str:
        """The hits as a JSON array of objects, in ASCII, without NaN; `docs/search-results.schema.json` describes it.

        Args:
            indent: Blanks at each level, for people to read; default: all on one line.
        """
        return json.dumps(self.to_dicts(), indent=indent, allow_nan=False)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """A page of the hits for a browser: thumbnails, and cards for texts, each with its score, name and payload.

        The thumbnails are inside the page, so that it can be sent to others as it is, and is the same when the files
        have moved. It loads nothing and runs nothing. The folder that was indexed is not named in it.

        Args:
            path: The file to write it to, in UTF-8. One that is there is replaced when the page is complete.

        Returns:
            The page.

        Raises:
            ConfigurationError: The file cannot be written, or the page would be huge.
        """
        text = page(cards_of(self._hits), title=self.query)
        if path is not None:
            member_name = checked_path(path, "to_html")
            try:
                with atomic_write(member_name) as file:
                    file.write(text.encode())
            except (OSError, ValueError) as error:
                reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
                raise ConfigurationError(f"the page cannot be written to {member_name}: {reason.lower()}") from error
        return text

    def contact_sheet(self, *, columns: int | None = None, thumbnail_px: int = 240) -> PIL.Image.Image:
        """An image of the hits: thumbnails, and cards for texts, each with its rank, score and name.

        A file that is gone or broken is drawn as that, with the reason.

        Args:
            columns: Hits in a row; default: as suits their number.
            thumbnail_px: The side, in pixels, of the square that each image is fitted into.

        Returns:
            An RGB image; `.save("hits.png")` keeps it.

        Raises:
            ConfigurationError: `columns` or `thumbnail_px` makes no sense, or the sheet would be huge.
            ImportError: Pillow was built without FreeType; the wheels on PyPI have it.
        """
        return draw_contact_sheet(cards_of(self._hits), title=self.query, columns=columns, thumbnail_px=thumbnail_px)


def _str_or_none(payload: Payload, name: str) -> str | None:
    value = payload.get(name)
    return value if isinstance(value, str) else None


def _why_no_image(hit: SearchHit) -> str:
    """Why a hit has no path, and what to do about it."""
    if hit.modality == "text" or (hit.filename is None and hit.text is not None):
        return "a text, not an image; its words are in hit.text, where they were stored"
    if hit.filename is None:
        return "not from a file, so there is nothing to read the image from"
    if not _str_or_none(hit.payload, "root"):
        return "no folder is stored with it ('root' in its payload), so its file cannot be found"
    return "its name leads out of the folder that was indexed, so it is not opened"


def _label(hit: SearchHit) -> str:
    """What to call a hit in one line."""
    if hit.filename is not None:
        return printable(hit.filename)
    return prose(hit.text) if hit.text else f"id {hit.id}"


def cards_of(hits: Iterable[SearchHit]) -> list[Card]:
    """Hits as they are shown, ranked from 1."""
    return [_card(rank, hit) for rank, hit in enumerate(hits, start=1)]


def _card(rank: int, hit: SearchHit) -> Card:
    a_text = hit.text is not None and (hit.modality == "text" or hit.path is None)
    return Card(
        rank=rank,
        score=hit.score,
        relevance=hit.relevance,
        group=hit.group,
        name=hit.filename or f"id {hit.id}",
        path=None if hit.modality == "text" else hit.path,
        archive=hit._archive,  # noqa: SLF001 (of this very file)
        text=hit.text if a_text else None,
        caption=None if a_text else hit.text or _str_or_none(hit.payload, "caption"),
        problem=_why_no_image(hit),
        payload=hit.payload,
        duplicates=tuple(cards_of(hit.duplicates)),
    )
