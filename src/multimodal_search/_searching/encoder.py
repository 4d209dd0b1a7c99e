"""Encode queries: their parts are embedded together, and the vectors of texts are remembered."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from multimodal_search._relevance.reference_bank import QueryKind
from multimodal_search._text import brief
from multimodal_search.contents import (
    Content,
    Image,
    Mixed,
    QueryPart,
    Text,
    modality_of,
    weighted_parts,
)
from multimodal_search.embedders.late import LateEmbedder
from multimodal_search.errors import QueryError, UnsupportedContentError
from multimodal_search.protocols import VectorStore
from multimodal_search.query import Query, Stored, Vector, as_numbers, as_query_part, described
from multimodal_search.types import FloatArray, PointId, Record, StoreSchema

REMEMBERED = 1024
"""How many texts' vectors are remembered, so that paging through hits embeds its query once."""


_ZERO = 1e-6
_EQUAL = 0.8


@dataclass(frozen=True, slots=True)
class Encoded:
    """Queries as vectors.

    Attributes:
        vectors: Shape `(n, dimension)`, float32.
        kinds: What each query is made of: a text, an image, or a mixture, which is a text plus an image whose weights
            are equal, or nearly so; None for all others.
        new_texts: Texts that were embedded for the first time, or whose vectors are no longer remembered.
    """

    vectors: FloatArray
    kinds: Sequence[QueryKind | None]
    new_texts: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    vector: FloatArray
    kind: QueryKind | None


class QueryEncoder:
    """Turns queries into vectors, with as few calls of the embedder and the store as possible.

    Args:
        embedder: Embeds contents, as queries.
        store: Where `Stored` points are looked up.
        on_answer: Called after each answer of the embedder.
    """

    def __init__(
        self,
        embedder: LateEmbedder,
        store: VectorStore,
        *,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._on_answer = on_answer
        self._remembered: OrderedDict[tuple[str, Content], FloatArray] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, queries: Sequence[Query]) -> Encoded:
        """One vector for each query.

        Each part is scaled to unit length before it is weighted, so that weights mean the same whatever the embedder.

        Raises:
            QueryError: A vector makes no sense, an id is not stored, or the parts of a sum cancel each other out.
            ContentError: A content cannot be read or embedded.
            EmbedderError: The embedder failed.
        """
        if all(map(self._is_plain, queries)):
            return Encoded(np.array(queries, np.float32), [None] * len(queries))
        sums = [list(weighted_parts(as_query_part(query))) for query in queries]
        new_texts: list[str] = []
        found = self._parts((part for parts in sums for _, part in parts), new_texts)
        return Encoded(
            np.array([_total(query, parts, found) for query, parts in zip(queries, sums, strict=True)]),
            [_kind([(weight, found[part].kind) for weight, part in parts]) for parts in sums],
            new_texts,
        )

    def _is_plain(self, query: Query) -> bool:
        """Whether a query is a vector that nothing need be done to: checking more would take as long as searching."""
        return (
            isinstance(query, np.ndarray)
            and query.dtype == np.float32
            and query.shape == (self._embedder.schema.dimension,)
            # Else it is zero, not finite, or huge, which is looked at elsewhere; unlike `@`, this warns of no overflow.
            and bool(0 < np.vdot(query, query) < np.inf)
        )

    def _parts(self, parts: Iterable[QueryPart], new_texts: list[str]) -> Mapping[QueryPart, _Part]:
        found: dict[QueryPart, _Part] = {}
        ids: dict[PointId, Stored] = {}
        contents: dict[Content, Content] = {}  # as they were given, and as they are embedded
        for part in parts:
            match part:
                case Vector(values):
                    found[part] = _Part(_vector(np.array(values, np.float32), self._embedder.schema), None)
                case Stored(point_id):
                    ids[point_id] = part
                case Text() | Image() | Mixed() if part not in found and part not in contents:
                    if (known := self._recall(part)) is not None:
                        found[part] = _Part(known, _kind_of(part))
                    else:
                        contents[part] = self._prepared(part)
                        inside = part.parts if isinstance(part, Mixed) else (part,)
                        new_texts += [each.text for each in inside if isinstance(each, Text)]
        if ids:
            records = self._store.get(list(ids), with_vectors=True)
            found |= {part: _stored(part, record) for part, record in zip(ids.values(), records, strict=True)}
        given = list(contents)
        most = self._embedder.ready().spec.max_batch_size if given else 1
        for start in range(0, len(given), most):
            batch = given[start : start + most]
            rows = self._embedder.ready().embed([contents[part] for part in batch], role="query")
            self._on_answer()
            for part, row in zip(batch, rows, strict=True):
                found[part] = _Part(row, _kind_of(part))
                self._remember(part, row.copy())
        return found

    def _prepared(self, content: Content) -> Content:
        embedder = self._embedder.ready()
        try:
            return embedder.prepare(content)
        except UnsupportedContentError as error:
            if isinstance(content, Mixed) and len(content.parts) > 1 and "mixed" not in embedder.spec.modalities:
                raise UnsupportedContentError(
                    f"{error}: it cannot take several contents as one prompt. Search for their sum instead: "
                    f"{' + '.join(map(repr, content.parts))}"
                ) from None
            raise

    def _recall(self, content: Content) -> FloatArray | None:
        key = (self._embedder.schema.fingerprint, content)
        with self._lock:
            if key in self._remembered:
                self._remembered.move_to_end(key)
            return self._remembered.get(key)

    def _remember(self, content: Content, vector: FloatArray) -> None:
        if not isinstance(content, Text):  # the file of an image may change
            return
        with self._lock:
            self._remembered[self._embedder.schema.fingerprint, content] = vector
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)


def _kind_of(content: Content) -> QueryKind | None:
    modality = modality_of(content)
    return None if modality == "mixed" else modality  # a model's own mixtures lie where no neutral query does


def _kind(parts: Sequence[tuple[float, QueryKind | None]]) -> QueryKind | None:
    """The kind of a sum of parts, each with its weight."""
    weights = [weight for weight, _ in parts]
    if min(weights) <= 0:
        return None
    if len(parts) == 1:
        return parts[0][1]
    is_mixture = sorted(str(kind) for _, kind in parts) == ["image", "text"] and min(weights) >= _EQUAL * max(weights)
    return "mixture" if is_mixture else None


def _total(query: Query, parts: Sequence[tuple[float, QueryPart]], found: Mapping[QueryPart, _Part]) -> FloatArray:
    """The weighted sum of a query's parts."""
    if len(parts) == 1 and parts[0][0] > 0:
        vector = found[parts[0][1]].vector
        if not vector.any():
            raise QueryError(f"the vector of {brief(described(query))} is zero: it has no direction to search in")
        return vector
    total = np.zeros(len(found[parts[0][1]].vector))
    largest = max(abs(weight) for weight, _ in parts)
    if not np.isfinite(largest):
        raise QueryError(f"the weights of the query are too large: {brief(query, 200)}")
    for weight, part in parts:
        wide = found[part].vector.astype(np.float64)
        length = np.sqrt(wide @ wide)
        total += (weight / (largest or 1)) * wide / (length or 1)
    length = np.sqrt(total @ total)
    if length <= _ZERO * sum(abs(weight) / (largest or 1) for weight, _ in parts):
        raise QueryError(f"the parts of the query cancel each other out, so nothing is left of {brief(query, 200)}")
    return (total / length).astype(np.float32)


def _stored(part: Stored, record: Record | None) -> _Part:
    if record is None or record.vector is None:
        raise QueryError(f"no point with the id {part.id!r} is stored, so it cannot be searched with")
    return _Part(record.vector, "image" if record.payload.get("modality") == "image" else None)


def _vector(values: Sequence[float] | npt.NDArray[np.floating], schema: StoreSchema) -> FloatArray:
    vector = as_numbers(values)
    if len(vector) != schema.dimension:
        raise QueryError(f"a query vector of {schema.model} has shape ({schema.dimension},), not {vector.shape}")
    return vector
