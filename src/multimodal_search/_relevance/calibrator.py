"""Keep an index calibrated: embed the reference queries once, and search with them again when points have changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from multimodal_search._closing import Closing
from multimodal_search._relevance.calibration import CALIBRATION_NOTE, Calibration, calibrate, can_calibrate
from multimodal_search._relevance.reference_bank import BANK_NOTE, MIN_QUERIES, QueryKind, ReferenceBank, embed_bank
from multimodal_search._threads import at_once
from multimodal_search.contents import ContentLike, Modality
from multimodal_search.embedders.late import LateEmbedder
from multimodal_search.errors import StoreClosedError, StoreUnavailableError
from multimodal_search.protocols import SupportsIndexMetadata, VectorStore

_log = logging.getLogger(__name__)

T = TypeVar("T")

_TOO_FEW = (
    f"the index has fewer than {MIN_QUERIES} items whose payload says the same `modality`, which is 'text', 'image' or "
    "'mixed'"
)
_NO_MODALITY = "the payload of the best hit does not say its `modality`, which is 'text', 'image' or 'mixed'"


class Calibrator:
    """The calibration of one index and its reference queries, both kept in the index metadata if the store has that.

    Safe to use from many threads.

    Args:
        embedder: Embeds reference queries.
        store: Whose scores are calibrated.
        closing: Ends calibrating when the index is closed.
    """

    def __init__(self, embedder: LateEmbedder, store: VectorStore, closing: Closing | None = None) -> None:
        self._embedder = embedder
        self._store = store
        self._closing = Closing() if closing is None else closing
        self._calibrating = threading.Lock()  # so that the last one to begin is the last one to write
        self._bank = _Kept(self._read_bank)
        self._calibration = _Kept(lambda: Calibration.from_note(self._note(CALIBRATION_NOTE)))

    @property
    def calibration(self) -> Calibration | None:
        """The calibration; None before the first one.

        Raises:
            StoreError: The store failed.
        """
        return self._calibration.get()

    @property
    def bank(self) -> ReferenceBank | None:
        """The reference queries; None before they are embedded with this embedder.

        Raises:
            StoreError: The store failed.
        """
        return self._bank.get()

    @property
    def unknown(self) -> str:
        """Why no hit of any query has a relevance; empty if some have.

        Raises:
            StoreError: The store failed.
        """
        calibration = self.calibration
        if calibration is None:
            return (
                f"the index is not calibrated, which runs of indexing do from {MIN_QUERIES} items on "
                "(index.calibrate() does it now)"
            )
        return "" if calibration.tables else _TOO_FEW

    def why_unknown(self, kind: QueryKind | None) -> str:
        """Why hits of a query of some kind have no relevance; empty if they have.

        Raises:
            StoreError: The store failed.
        """
        if kind is None:
            return (
                "it is known where the query is a single text or image, or a text plus an image of equal weight, and "
                "not for vectors and other sums and mixtures"
            )
        calibration = self.calibration
        if calibration is None or not calibration.tables:
            return self.unknown
        if not any(table_kind == kind for table_kind, _ in calibration.tables):
            model = self._embedder.schema.model
            if kind != "image" and self.bank is not None and not len(self.bank.text):
                return f"{model!r} refuses most neutral texts, so that its searches by words have scores only"
            return _TOO_FEW
        return ""

    def why_unknown_of(self, modality: Modality | None) -> str:
        """Why a hit has no relevance, where others have."""
        return _NO_MODALITY if modality is None else f"the index has fewer than {MIN_QUERIES} items of {modality!r}"

    def ready_bank(self, tell: Callable[[float], None], *, may_embed: bool) -> ReferenceBank | None:
        """The reference queries; the library's own are embedded, and kept, where there are none and that is allowed.

        Raises:
            EmbedderError: The embedder failed.
            StoreError: The store failed.
        """
        with self._calibrating:
            bank = self._bank.get()
            if bank is None and may_embed and self._embedder.is_given:
                embedded = embed_bank(self._embedder.ready(), None, tell=self._closing.telling(tell))
                bank = ReferenceBank.from_note(embedded.to_note()) or embedded
                self._write(BANK_NOTE, bank.to_note())
                self._bank.set(bank)
            return bank

    def calibrate(self, queries: Iterable[ContentLike] | None) -> None:
        """Embed reference queries, the user's own or the library's, and calibrate with them.

        The library's own are not embedded while there are too few points of any one modality to calibrate.

        Raises:
            ConfigurationError: The user's own ones cannot be used.
            EmbedderError: The embedder failed.
            StoreError: The store failed.
        """
        with self._closing.call(), self._calibrating:
            self._embedder.ready()  # which refuses where there is none
            self._calibrate(queries, self._closing.telling(lambda share: None))

    def update(self, *, replaced: int, tell: Callable[[float], None]) -> None:
        """Calibrate, if there are enough points and many have changed since the last calibration.

        Args:
            replaced: Points with other vectors than before, which counting does not tell.
            tell: Called before anything that takes time, and then with the share that is done, several times a second.

        Raises:
            EmbedderError: The embedder failed.
            StoreError: The store failed.
        """
        step = self._closing.telling(tell)
        with self._calibrating:
            # At the same time: of a server each takes long.
            reads: list[Callable[[], Any]] = [self._store.count, self._calibration.get, self._bank.get]
            count, calibration, bank = at_once(reads, name="multimodal-calibrate")
            if count < MIN_QUERIES:
                if calibration is not None:  # it tells of points that are gone
                    self._keep(None)
            elif bank is None:
                # Without tables, it is known that too few points name a modality.
                is_due = calibration is None or calibration.tables or calibration.has_drifted(count, replaced=replaced)
                if is_due and self._embedder.is_given:
                    self._calibrate(None, step)
            elif calibration is None or calibration.is_stale(count, bank, replaced=replaced):
                self._keep(calibrate(self._store, bank, tell=step))

    def _calibrate(self, queries: Iterable[ContentLike] | None, step: Callable[[float], None]) -> None:
        if queries is None and not can_calibrate(self._store):
            if (bank := self._bank.get()) is not None and bank.origin == "own":
                self._write(BANK_NOTE, "")
                self._bank.set(None)
            self._keep(Calibration(bank="", count=self._store.count(), tables={}))
            return
        embedded = embed_bank(self._embedder.ready(), queries, tell=lambda share: step(share / 2))
        bank = ReferenceBank.from_note(embedded.to_note()) or embedded  # as it will be read: rounded
        calibration = calibrate(self._store, bank, tell=lambda share: step(0.5 + share / 2))
        self._write(BANK_NOTE, bank.to_note())
        self._bank.set(bank)
        self._keep(calibration)

    def _keep(self, calibration: Calibration | None) -> None:
        self._write(CALIBRATION_NOTE, "" if calibration is None else calibration.to_note())
        self._calibration.set(calibration)
        if calibration is not None and not calibration.tables:
            _log.warning("hits have no relevance: %s", _TOO_FEW)

    def _read_bank(self) -> ReferenceBank | None:
        bank = ReferenceBank.from_note(self._note(BANK_NOTE))
        return bank if bank is not None and bank.serves(self._embedder.schema) else None

    def _note(self, name: str) -> str | None:
        """A note; None where there is none, or none that can be read."""
        if not isinstance(self._store, SupportsIndexMetadata):
            return None
        try:
            return self._store.get_index_metadata(name)
        except (StoreClosedError, StoreUnavailableError):
            raise
        except Exception as error:  # noqa: BLE001 (a note that nobody can read must not keep anybody from searching)
            _log.warning("hits have no relevance until the index is calibrated again: %s", error)
            return None

    def _write(self, name: str, text: str) -> None:
        if isinstance(self._store, SupportsIndexMetadata):
            self._store.set_index_metadata(name, text)


class _Kept(Generic[T]):
    """A value that is read when it is first asked for, once.

    Args:
        read: Reads it.
    """

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._value: T
        self._is_known = False

    def get(self) -> T:
        """The value."""
        with self._lock:
            if not self._is_known:
                self._value, self._is_known = self._read(), True
            return self._value

    def set(self, value: T) -> None:
        """Put another in its place."""
        with self._lock:
            self._value, self._is_known = value, True
