"""Hubs: points that are near to most queries, whatever is asked for."""

from __future__ import annotations

import numpy as np

from multimodal_search.errors import ConfigurationError
from multimodal_search.types import FloatArray
from multimodal_search.vectors import of_unit_length, table_of_products


def hub_penalty(vectors: FloatArray, bank: FloatArray, k: int = 10) -> FloatArray:
    """What to subtract from the scores of points so that hubs fall back: half their nearness to other queries.

    CSLS (Conneau et al. 2018, Word Translation Without Parallel Data) ranks by 2 cos(q, x) - r(q) - r(x), with r(x) the
    mean cosine of x and its k nearest queries. Of one query, cos(q, x) - r(x) / 2 gives the same order.

    Args:
        vectors: Shape `(n, dimension)`: the points.
        bank: Shape `(m, dimension)`: real queries, such as captions; bare labels do harm. At least one.
        k: How many of them count for each point; all, if there are fewer.

    Returns:
        Shape `(n,)`, float32: r(x) / 2.

    Raises:
        ConfigurationError: `k` is below 1, or the bank is empty.
    """
    if k < 1 or not len(bank):
        raise ConfigurationError(f"hub correction needs a bank of queries and k of at least 1, not {len(bank)} and {k}")
    cosines = table_of_products(of_unit_length(vectors), of_unit_length(bank))
    if k < len(bank):
        cosines = np.partition(cosines, -k, axis=1)[:, -k:]
    halved: FloatArray = (cosines.mean(axis=1, dtype=np.float64) / 2).astype(np.float32)
    return halved
