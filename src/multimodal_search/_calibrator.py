"""Keeps an index calibrated: embeds the reference queries once, asks again when the points have changed, remembers."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from multimodal_search._calibration import CALIBRATION_NOTE, Calibration, calibrate
from multimodal_search._embedding import CheckedEmbedder
from multimodal_search._reference_bank import BANK_NOTE, LEAST_QUERIES, ReferenceBank, embed_bank
from multimodal_search.protocols import SupportsNotes, VectorStore
from multimodal_search.types import ContentLike


class Calibrator:
    """The calibration of one index, and the reference queries behind it; both are kept as notes where the store can.

    Safe to use from many threads.

    Args:
        embedder: Embeds reference queries.
        store: Whose scores are calibrated.
    """

    def __init__(self, embedder: CheckedEmbedder, store: VectorStore) -> None:
        self._embedder = embedder
        self._store = store
        self._lock = threading.Lock()
        self._is_read = False
        self._bank: ReferenceBank | None = None
        self._calibration: Calibration | None = None

    @property
    def calibration(self) -> Calibration | None:
        """What scores mean in this index; None as long as nobody has asked.

        Raises:
            StoreError: The store failed.
        """
        if not self._is_read:
            self._read()
        return self._calibration

    @property
    def bank(self) -> ReferenceBank | None:
        """The reference queries; None as long as there are none of this embedder.

        Raises:
            StoreError: The store failed.
        """
        if not self._is_read:
            self._read()
        return self._bank

    def calibrate(self, queries: Iterable[ContentLike] | None) -> None:
        """Embed reference queries, the user's own or the library's, and calibrate with them.

        Raises:
            ConfigurationError: The user's own ones cannot be used.
            EmbedderError: The embedder failed.
            StoreError: The store failed.
        """
        embedded = embed_bank(self._embedder, queries)
        bank = ReferenceBank.from_note(embedded.to_note()) or embedded  # as it will be read: rounded
        calibration = calibrate(self._store, bank)
        with self._lock:
            self._write(BANK_NOTE, bank.to_note())
            self._write(CALIBRATION_NOTE, calibration.to_note())
            self._bank, self._calibration, self._is_read = bank, calibration, True

    def update(self, *, replaced: int, may_embed: bool) -> None:
        """Calibrate, if there is enough to calibrate and it has changed by much, or never was.

        Args:
            replaced: Points with other vectors than before, which counting does not tell.
            may_embed: Whether reference queries may be embedded; if not, and there are none, nothing happens.

        Raises:
            EmbedderError: The embedder failed.
            StoreError: The store failed.
        """
        count = self._store.count()
        calibration, bank = self.calibration, self.bank
        if count < LEAST_QUERIES:
            return
        if bank is not None and calibration is not None and not calibration.is_stale(count, bank, replaced=replaced):
            return
        if bank is None:
            if may_embed:
                self.calibrate(None)
            return
        calibration = calibrate(self._store, bank)
        with self._lock:
            self._write(CALIBRATION_NOTE, calibration.to_note())
            self._calibration = calibration

    def _read(self) -> None:
        with self._lock:
            if self._is_read:
                return
            if isinstance(self._store, SupportsNotes):
                bank = ReferenceBank.from_note(self._store.read_note(BANK_NOTE))
                if bank is not None and bank.serves(self._embedder.spec):
                    self._bank = bank
                self._calibration = Calibration.from_note(self._store.read_note(CALIBRATION_NOTE))
            self._is_read = True

    def _write(self, name: str, text: str) -> None:
        if isinstance(self._store, SupportsNotes):
            self._store.write_note(name, text)
