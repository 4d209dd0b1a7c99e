"""Whether another embedder gives the vectors that an index holds, tried on some of its items."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from multimodal_search.contents import Content, Image, Text
from multimodal_search.embedders.guarded import GuardedEmbedder
from multimodal_search.errors import ContentError, SchemaMismatchError
from multimodal_search.protocols import VectorStore
from multimodal_search.results import SearchHit
from multimodal_search.types import FloatArray, StoreSchema

COMPARED = 32
"""How many items are embedded anew."""

MIN_COSINE = 0.999
"""What each must have to its stored vector. Two runtimes of the same weights differ in the sixth place, half precision
in the fourth; another variant of a model, quantised to 8 bits, in the second."""

_LOOKED_AT = 1_000  # items, to find as many as can still be read


def check_equal(store: VectorStore, embedder: GuardedEmbedder, stored: StoreSchema) -> None:
    """Check that an embedder of another fingerprint gives the vectors that are stored.

    Raises:
        SchemaMismatchError: It does not, or no item can be read to compare.
    """
    wanted = StoreSchema.of(embedder.spec)
    why = stored.mismatch(wanted)
    if (stored.dimension, stored.version) != (wanted.dimension, wanted.version):
        raise SchemaMismatchError(why)
    pairs = list(islice(_readable(embedder, store), COMPARED))
    if not pairs:
        raise SchemaMismatchError(
            f"{why}. accept_equal embeds stored items anew to compare, and there is none whose file or text can be read"
        )
    cosines: list[float] = []
    step = embedder.spec.max_batch_size
    for start in range(0, len(pairs), step):
        part = pairs[start : start + step]
        rows = embedder.embed([content for content, _ in part], role="document")
        cosines += [_cosine(row, vector) for row, (_, vector) in zip(rows, part, strict=True)]
    if min(cosines) < MIN_COSINE:
        equal = sum(cosine >= MIN_COSINE for cosine in cosines)
        raise SchemaMismatchError(
            f"{why}. Of {len(cosines)} stored items that were embedded anew, {equal} have a cosine of {MIN_COSINE} to "
            f"their stored vectors, and all must; the lowest is {min(cosines):.4f}"
        )


def _readable(embedder: GuardedEmbedder, store: VectorStore) -> Iterator[tuple[Content, FloatArray]]:
    """Stored items whose contents are there as they were indexed, prepared, and their vectors."""
    for record in islice(store.scan(), _LOOKED_AT):
        content = _content_of(SearchHit(id=record.id, score=1.0, payload=record.payload))
        if content is None:
            continue
        try:
            prepared = embedder.prepare(content)
        except ContentError:
            continue
        (whole,) = store.get([record.id], with_vectors=True)
        if whole is not None and whole.vector is not None:
            yield prepared, whole.vector


def _content_of(hit: SearchHit) -> Content | None:
    if hit.modality == "text":
        return None if hit.text is None else Text(hit.text)
    if hit.modality != "image":
        return None
    try:
        if hit.path is not None and hit.path.is_file():
            status = hit.path.stat()
            if (status.st_size, status.st_mtime_ns) != (hit.payload.get("size"), hit.payload.get("mtime_ns")):
                return None  # it has changed since
        return Image(hit.image())
    except (ContentError, OSError):
        return None


def _cosine(first: FloatArray, second: FloatArray) -> float:
    wide, other = first.astype(np.float64), second.astype(np.float64)
    return float(wide @ other / max(np.linalg.norm(wide) * np.linalg.norm(other), 1e-300))
