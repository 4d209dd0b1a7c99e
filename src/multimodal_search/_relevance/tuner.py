"""Tune the search of a store, with queries like those that will come."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice

import numpy as np

from multimodal_search._closing import Closing
from multimodal_search._relevance.calibrator import Calibrator
from multimodal_search._relevance.reference_bank import MIN_QUERIES
from multimodal_search.protocols import SupportsTuning, VectorStore
from multimodal_search.types import FloatArray, Record

_log = logging.getLogger(__name__)

_OWN, _AMONG = 200, 20_000  # stored vectors to search with, and the points that they are taken from, evenly


class Tuner:
    """Brings the queries that a store is tuned with: the neutral ones of the calibration, and points of its own.

    Args:
        store: Which is tuned, if it can be.
        calibrator: Has the neutral queries.
        closing: Ends tuning when the index is closed.
    """

    def __init__(self, store: VectorStore, calibrator: Calibrator, closing: Closing) -> None:
        self._store = store
        self._calibrator = calibrator
        self._closing = closing

    def update(self, *, rebuilt: bool, may_embed: bool, tell: Callable[[], None]) -> bool:
        """Tune, if the graph is a new one, or the last figures are of an index of another size.

        Args:
            rebuilt: Whether the graph is new.
            may_embed: Whether the neutral queries may be embedded, if they never were; nothing is tuned without them.
            tell: Called several times a second.

        Returns:
            Whether the store was tuned.

        Raises:
            EmbedderError: The embedder failed.
            StoreError: The store failed.
        """
        store = self._store
        if not isinstance(store, SupportsTuning) or not (rebuilt or store.needs_tuning):
            return False

        def tick() -> None:
            self._closing.check()
            tell()

        bank = self._calibrator.ready_bank(lambda share: tick(), may_embed=may_embed)
        if bank is None:  # stored points alone are found so easily that words would be missed
            return False
        queries = self._own_vectors()
        queries |= {kind: rows for kind, rows in (("text", bank.text), ("image", bank.image)) if len(rows)}
        report = store.tune(queries, on_tick=tick)
        _log.log(logging.WARNING if report.reason else logging.INFO, "%r: %s", store, report)
        return True

    def _own_vectors(self) -> dict[str, FloatArray]:
        """Stored vectors, of images if there are enough of them."""
        records = list(islice(self._store.scan(fields=["modality"]), _AMONG))
        images = [record for record in records if record.payload.get("modality") == "image"]
        kind, chosen = ("image", images) if len(images) >= MIN_QUERIES else ("vector", records)
        rows = [record.vector for record in self._vectors_of(chosen) if record.vector is not None]
        return {kind: np.array(rows, np.float32)} if rows else {}

    def _vectors_of(self, records: list[Record]) -> list[Record]:
        ids = [record.id for record in records[:: max(1, len(records) // _OWN)][:_OWN]]
        return [record for record in self._store.get(ids, with_vectors=True) if record is not None]
