"""Embedding the reference queries in a thread of its own, while the index is written."""

from __future__ import annotations

import threading
from collections.abc import Callable

from multimodal_search._relevance.reference_bank import ReferenceBank, embed_bank
from multimodal_search._threads import STEP_S
from multimodal_search.embedders.late import LateEmbedder
from multimodal_search.errors import StoreClosedError


class EarlyBank:
    """The library's reference queries, on their way.

    Args:
        embedder: Embeds them, beside what the run of indexing has it embed.
        check: Called several times a second in the thread; what it raises ends the embedding.

    Raises:
        RuntimeError: No thread can be started.
    """

    def __init__(self, embedder: LateEmbedder, check: Callable[[], None]) -> None:
        self._embedder = embedder
        self._check = check
        self._unwanted = threading.Event()
        self._bank: ReferenceBank | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._embed, name="multimodal-reference-queries", daemon=True)
        self._thread.start()

    def wait(self, tell: Callable[[float], None]) -> ReferenceBank:
        """The reference queries, once they are embedded.

        Args:
            tell: Called several times a second meanwhile; what it raises ends the wait.

        Raises:
            EmbedderError: The embedder failed.
        """
        while self._thread.is_alive():
            tell(0.0)
            self._thread.join(STEP_S)  # with a timeout, so that Ctrl-C gets through
        if self._bank is None:
            assert self._error is not None  # noqa: S101 (one of the two is there)
            raise self._error
        return self._bank

    def stop(self) -> None:
        """Embed no more, as nobody waits for it."""
        self._unwanted.set()

    def _embed(self) -> None:
        try:
            self._bank = embed_bank(self._embedder.ready(), tell=lambda share: self._step())
        except BaseException as error:  # noqa: BLE001 (raised in the thread that waits)
            self._error = error

    def _step(self) -> None:
        self._check()
        if self._unwanted.is_set():
            raise StoreClosedError("the run of indexing has ended")
