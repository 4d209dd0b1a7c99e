"""Compare the version of a service's model with the one that made the vectors of an index."""

from __future__ import annotations

import logging
import threading
import warnings

from multimodal_search.embedders.late import LateEmbedder
from multimodal_search.errors import ModelVersionWarning, StoreError
from multimodal_search.protocols import SupportsIndexMetadata, VectorStore

NOTE = "model_version"
"""The note that holds it; no part of the fingerprint, which is known before any answer."""

_log = logging.getLogger(__name__)


class ModelVersions:
    """Keeps the version with an index at the first answer, and compares later ones with it.

    Args:
        embedder: Says the version, if its service does.
        store: Keeps it, if it keeps notes.
    """

    def __init__(self, embedder: LateEmbedder, store: VectorStore) -> None:
        self._embedder = embedder
        self._store = store
        self._lock = threading.Lock()
        self._kept: str | None = None
        self._told: set[str] = set()

    def begin(self) -> None:
        """Start an indexing run: warn again."""
        with self._lock:
            self._told.clear()

    def check(self) -> None:
        """Compare after an answer; asks the store only if the version is new.

        Warns:
            ModelVersionWarning: The index holds vectors of another version.
        """
        made = self._embedder.made
        version = None if made is None else made.model_version
        if version is None or version == self._kept:
            return
        with self._lock:
            if version in self._told or not isinstance(self._store, SupportsIndexMetadata):
                return
            try:
                self._kept = kept = self._keep(self._store, version)
            except StoreError as error:  # the vectors are right, whether or not it can be noted
                _log.warning("the version of the model was not compared with the one of the index: %s", error)
                self._told.add(version)
                return
            if version == kept:
                return
            self._told.add(version)
        model = self._embedder.schema.model
        warnings.warn(
            f"{model} is now of version {version!r}, and the vectors of this index are of version {kept!r}: scores "
            "between the two may mean nothing. If the versions differ in more than their names, make a new index with "
            "this embedder, and index everything into it",
            ModelVersionWarning,
            stacklevel=2,
        )

    def _keep(self, notes: SupportsIndexMetadata, version: str) -> str:
        """The version of the vectors that are stored; this one, if there are none."""
        kept = notes.get_index_metadata(NOTE)
        if kept and (kept == version or self._store.count()):
            return kept
        notes.set_index_metadata(NOTE, version)
        return version
