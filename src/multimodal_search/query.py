"""What can be searched with, and how it becomes a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from multimodal_search._embedding import CheckedEmbedder
from multimodal_search.errors import QueryError
from multimodal_search.types import Content, ContentLike, EmbedderSpec, FloatArray, Image, Text, as_content

_HUGE = 2.0**1023

Query: TypeAlias = "ContentLike | Sequence[float] | npt.NDArray[np.floating]"
"""What can be searched with: text (`str`), a picture (`Path`, bytes, PIL), `Mixed`, or a vector."""


def vectors_of(queries: Sequence[Query], embedder: CheckedEmbedder) -> FloatArray:
    """One vector for each query, shape `(len(queries), dimension)`; contents are embedded in as few calls as possible.

    Raises:
        QueryError: A vector makes no sense.
        ContentError: A content cannot be read or embedded.
        EmbedderError: The embedder failed.
    """
    spec = embedder.spec
    vectors = np.empty((len(queries), spec.dimension), dtype=np.float32)
    contents: list[tuple[int, Content]] = []
    for row, query in enumerate(queries):
        given = _as_vector(query, spec)
        if given is None:
            contents.append((row, embedder.prepare(as_content(query))))
        else:
            vectors[row] = given
    for start in range(0, len(contents), spec.max_batch):
        batch = contents[start : start + spec.max_batch]
        vectors[[row for row, _ in batch]] = embedder.embed([content for _, content in batch], role="query")
    return vectors


def described(query: Query) -> str:
    """A query as a short text for people."""
    match query:
        case str():
            return query
        case Text():
            return query.text
        case list() | tuple() | np.ndarray():
            return f"<vector of {len(query)}>"
        case _:
            content = as_content(query)
            return content.label if isinstance(content, Image) else repr(content)


def _is_number(value: object) -> bool:
    if isinstance(value, (int, float)):
        return not isinstance(value, bool) and not abs(value) >= _HUGE
    return isinstance(value, (np.integer, np.floating))


def _as_vector(query: Query, spec: EmbedderSpec) -> FloatArray | None:
    """A query that is a vector already."""
    if not isinstance(query, (list, tuple, np.ndarray)):
        return None
    given = np.asarray(query) if isinstance(query, np.ndarray) or all(map(_is_number, query)) else None
    if given is None or given.dtype.kind not in "fiu":
        raise QueryError(f"a query vector holds numbers only, not {query!r:.80}")
    with np.errstate(over="ignore"):
        vector = given.astype(np.float32)
    if vector.shape != (spec.dimension,):
        raise QueryError(f"a query vector of {spec.model} has shape ({spec.dimension},), not {vector.shape}")
    if not np.isfinite(vector).all():
        raise QueryError("the query vector holds NaN or infinity")
    return vector
