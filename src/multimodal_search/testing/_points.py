"""The points that contract tests store: of one schema, with vectors along the axes."""

from __future__ import annotations

import numpy as np

from multimodal_search.types import FloatArray, StoreSchema

DIMENSION = 8
CLOSE = 2e-6
"""How far a score may be from NumPy's: some roundings of 32-bit floats."""

SCHEMA = StoreSchema(model="contract", fingerprint="contract-1", dimension=DIMENSION)


def uuid(number: int) -> str:
    """The UUID of this size."""
    return f"00000000-0000-0000-0000-{number:012x}"


def axes(*numbers: int) -> FloatArray:
    """Rows that point along these axes."""
    return np.eye(DIMENSION, dtype=np.float32)[list(numbers)]
