"""A sample of an index's images, as neutral queries by image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice

import numpy as np
import numpy.typing as npt

from multimodal_search.protocols import VectorStore
from multimodal_search.types import Filter, FloatArray, PointId
from multimodal_search.vectors import of_unit_length, table_of_products

SIZE = 1024
"""Images of a sample."""

_MAX_READ = 1_000_000
_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Reference queries.

    Attributes:
        vectors: Shape `(n, dimension)`, float32, of unit length.
        weights: Shape `(n,)`: how much each counts.
        ids: Of each, if it is a point of the index; else empty.
    """

    vectors: FloatArray
    weights: npt.NDArray[np.float64]
    ids: Sequence[PointId] = ()

    @classmethod
    def of_others(cls, vectors: FloatArray) -> Sample:
        """Queries that are not in the index; each counts the same."""
        return cls(vectors=vectors, weights=np.ones(len(vectors)))

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice) -> Sample:
        return Sample(vectors=self.vectors[rows], weights=self.weights[rows], ids=self.ids[rows])


def sample_of(store: VectorStore, where: Filter | None) -> Sample:
    """Up to 1,024 images of an index, drawn by the hash of their ids: from all of them, whatever their order.

    Of an index that has grown, most are the same again. Of more than a million, the first million by id are drawn from.

    Args:
        store: Where they are.
        where: Which points are images.

    Raises:
        StoreError: The store failed.
    """
    found = islice(store.scan(where=where, fields=()), _MAX_READ)
    drawn = nsmallest(SIZE, (record.id for record in found), key=_hash)
    kept = [
        (record.id, record.vector)
        for record in store.get(drawn, with_vectors=True)
        if record is not None and record.vector is not None and record.vector.any()  # it has one: for type checkers
    ]
    vectors = of_unit_length(np.array([vector for _, vector in kept], np.float32)) if kept else np.empty((0, 1), "f4")
    return Sample(vectors=vectors, weights=_weights(vectors), ids=[point_id for point_id, _ in kept])


def _hash(point_id: PointId) -> bytes:
    return hashlib.blake2b(str(point_id).encode(), digest_size=8).digest()


def _weights(vectors: FloatArray) -> npt.NDArray[np.float64]:
    """How much each image counts: the less, the more there are like it.

    A folder of a thousand dresses would else say how near to each other all images are. The density around an image is
    its mean squared cosine to the others, above 0, from the centre of all, which is found in the same way.
    """
    weights = np.ones(len(vectors))
    for _ in range(_ROUNDS if len(vectors) else 0):
        centre = weights @ vectors / weights.sum()
        rows = of_unit_length((vectors - centre).astype(np.float32))
        weights = 1 / np.maximum(
            (np.maximum(table_of_products(rows, rows), 0.0) ** 2).mean(axis=1, dtype=np.float64), 1e-9
        )
    return weights
