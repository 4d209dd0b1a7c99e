"""Vectors of the reference queries that an index is calibrated with; embedded once and kept with it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from multimodal_search._bounds import is_iterable
from multimodal_search._relevance.reference_texts import REFERENCE_TEXTS
from multimodal_search._threads import side_by_side
from multimodal_search.contents import Content, ContentLike, Text, as_content, modality_of
from multimodal_search.embedders.guarded import GuardedEmbedder
from multimodal_search.errors import ConfigurationError, ContentError, EmbedderError
from multimodal_search.types import FloatArray, StoreSchema
from multimodal_search.vectors import of_unit_length

QueryKind: TypeAlias = Literal["text", "image", "mixture"]
"""What a query is made of, if its scores can be calibrated; a mixture is a text plus an image, in equal parts."""

BANK_NOTE = "reference_bank"
"""The name of the note that a bank is kept under."""

MIN_QUERIES = 20
"""Fewer reference queries say nothing about how high scores get."""

_MAX_QUERIES, _MAX_COMPONENTS = 500, 700_000  # of one kind: a note should stay below a megabyte
_VERSION = 1
_PREPARERS = min(8, (os.cpu_count() or 1) + 2)  # as many threads as a run of indexing loads with


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceBank:
    """Neutral queries as vectors of unit length, for each kind of query.

    Attributes:
        fingerprint: Of the embedder that made the vectors.
        origin: Where the queries come from: `"own"` from the user, `"default-..."` from this version of the library.
        text: Shape `(n, dimension)`; n is 0 where no text can be calibrated with.
        image: Shape `(m, dimension)`; m is 0 without images of the user's: then the index's own images serve.
    """

    fingerprint: str
    origin: str
    text: FloatArray = field(compare=False)
    image: FloatArray = field(compare=False)

    def serves(self, schema: StoreSchema) -> bool:
        """Whether it can still be used: it is this embedder's, and the user's own or the newest default."""
        fits = self.fingerprint == schema.fingerprint and self.text.shape[1] == self.image.shape[1] == schema.dimension
        return fits and self.origin in ("own", _default_origin())

    @property
    def digest(self) -> str:
        """What tells it from other banks."""
        return hashlib.sha256(self.to_note().encode()).hexdigest()[:16]

    def to_note(self) -> str:
        """As a text to keep with the index: a byte for each component, some hundred kilobytes at most."""
        kept = {kind: _packed(getattr(self, kind)) for kind in ("text", "image")}
        return json.dumps({"version": _VERSION, "fingerprint": self.fingerprint, "origin": self.origin, **kept})

    @classmethod
    def from_note(cls, note: str | None) -> ReferenceBank | None:
        """From what `to_note` gave; None if there is nothing, or nothing that can be understood."""
        try:
            fields = json.loads(note or "null")
            if fields["version"] != _VERSION:
                return None
            return cls(
                fingerprint=str(fields["fingerprint"]),
                origin=str(fields["origin"]),
                text=_unpacked(fields["text"]),
                image=_unpacked(fields["image"]),
            )
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
            return None


def embed_bank(
    embedder: GuardedEmbedder,
    queries: Iterable[ContentLike] | None = None,
    *,
    tell: Callable[[float], None] = lambda share: None,
) -> ReferenceBank:
    """Embed reference queries, with as many concurrent calls as the embedder takes.

    An embedder that refuses most of the library's own texts gets no bank of texts: what it does not refuse is what it
    was made for, so those are no neutral queries.

    Args:
        embedder: Embeds them as queries.
        queries: The user's own texts and images, some 100 of each kind; a kind that is not among them keeps its
            default. None takes the library's own texts.
        tell: Called several times a second with the share that is done; what it raises ends the calls under way.

    Raises:
        ConfigurationError: The user's own queries are of another kind, or too few of them can be embedded.
        EmbedderError: The embedder failed.
    """
    if queries is not None and (isinstance(queries, (str, bytes)) or not is_iterable(queries)):
        raise ConfigurationError("reference queries are a list of texts and images, not one of them")
    given = list(dict.fromkeys(as_content(query) for query in (() if queries is None else queries)))
    if queries is not None and not given:
        raise ConfigurationError("there are no reference queries: give some 100, or None for the library's own texts")
    if any(modality_of(content) == "mixed" for content in given):
        raise ConfigurationError("reference queries are texts and images; a Mixed of several parts is neither")
    texts = [content for content in given if modality_of(content) == "text"]
    images = [content for content in given if modality_of(content) == "image"]
    half = 0.5 if images else 1.0
    return ReferenceBank(
        fingerprint=embedder.spec.fingerprint,
        origin="own" if given else _default_origin(),
        text=_text_rows(embedder, texts, lambda share: tell(half * share)),
        image=_own_rows(embedder, images, lambda share: tell(half + half * share)) if images else _none(embedder),
    )


def _own_rows(embedder: GuardedEmbedder, contents: Sequence[Content], tell: Callable[[float], None]) -> FloatArray:
    vectors = _embedded(embedder, contents, tell)
    if len(vectors) < MIN_QUERIES:
        raise ConfigurationError(
            f"a calibration needs at least {MIN_QUERIES} reference queries of a kind, better 100: of the "
            f"{len(contents)} given {modality_of(contents[0])}s {embedder.spec.model} can embed {len(vectors)}"
        )
    return vectors


def _text_rows(embedder: GuardedEmbedder, own: Sequence[Content], tell: Callable[[float], None]) -> FloatArray:
    if own:
        return _own_rows(embedder, own, tell)
    if "text" not in embedder.spec.modalities:
        return _none(embedder)
    vectors = _embedded(embedder, [Text(text) for text in REFERENCE_TEXTS], tell)
    return vectors if len(vectors) > len(REFERENCE_TEXTS) / 2 else _none(embedder)


def _default_origin() -> str:
    return "default-" + hashlib.sha256("\n".join(REFERENCE_TEXTS).encode()).hexdigest()[:8]


def _none(embedder: GuardedEmbedder) -> FloatArray:
    return np.empty((0, embedder.spec.dimension), np.float32)


def _embedded(embedder: GuardedEmbedder, contents: Sequence[Content], tell: Callable[[float], None]) -> FloatArray:
    """Of unit length; without those that the embedder refuses."""
    most = min(_MAX_QUERIES, max(50, _MAX_COMPONENTS // embedder.spec.dimension))
    if len(contents) > most:
        contents = [contents[at * len(contents) // most] for at in range(most)]  # all parts of a list: it may be sorted
    prepared = side_by_side(
        lambda content: _prepared(embedder, content),
        contents,
        threads=_PREPARERS,
        name="multimodal-prepare",
        step=lambda done: tell(0.0),
    )
    ready = [content for content in prepared if content is not None]
    batch = embedder.spec.max_batch_size
    batches = [ready[start : start + batch] for start in range(0, len(ready), batch)]
    try:
        rows = side_by_side(
            lambda some: _rows(embedder, some),
            batches,
            threads=embedder.spec.max_concurrency,
            name="multimodal-embed",
            step=lambda done: tell(done / max(1, len(batches))),
        )
    except EmbedderError:
        raise
    except BaseException:  # Ctrl-C, or the index is closed
        embedder.interrupt()
        raise
    vectors = of_unit_length(np.concatenate([_none(embedder), *rows]))
    return vectors[vectors.any(axis=1)]


def _prepared(embedder: GuardedEmbedder, content: Content) -> Content | None:
    try:
        return embedder.prepare(content)
    except ContentError:
        return None


def _rows(embedder: GuardedEmbedder, contents: Sequence[Content]) -> FloatArray:
    """One batch; a refused one is halved, so that each content fails alone."""
    try:
        return embedder.embed(contents, role="query")
    except ContentError:
        if len(contents) == 1:
            return _none(embedder)
        middle = len(contents) // 2
        return np.concatenate([_rows(embedder, contents[:middle]), _rows(embedder, contents[middle:])])


def _packed(rows: FloatArray) -> dict[str, Any]:
    """Each row as 8-bit integers of its own scale, which moves a cosine by some thousandths at most."""
    largest = np.abs(rows).max(axis=1, initial=0, keepdims=True)
    whole = np.rint(rows / np.where(largest > 0, largest, 1) * 127).astype(np.int8)
    return {"shape": list(rows.shape), "int8": base64.b64encode(whole.tobytes()).decode("ascii")}


def _unpacked(packed: dict[str, Any]) -> FloatArray:
    count, dimension = map(int, packed["shape"])
    if count < 0 or dimension < 1:
        raise ValueError(packed["shape"])
    data = base64.b64decode(packed["int8"], validate=True)
    return of_unit_length(np.frombuffer(data, np.int8).astype(np.float32).reshape(count, dimension))
