"""`ServiceEmbedder`: what an embedder of a service does, whatever the service speaks."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from multimodal_search._threads import Ahead
from multimodal_search.contents import Content, Text
from multimodal_search.embedders.limiter import CLOSED
from multimodal_search.embedders.service.contents import label_of
from multimodal_search.embedders.service.settings import Pacing, require
from multimodal_search.errors import EmbedderError, EmbedderResponseError, UnsupportedContentError
from multimodal_search.types import EmbedderSpec, FloatArray, Role, Usage
from multimodal_search.vectors import checked_rows

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from multimodal_search.embedders.service.service import EmbeddingService

PROBE = Text("a")
"""What every model of texts can embed: tells a dimension, and settings that are at fault from contents."""


class ServiceEmbedder(ABC):
    """The base class of embedders of services: one deadline a call, answers checked, safe to fork, interrupt and close.

    Args:
        pacing: Time, retries and sizes.
        dimension: Length of the vectors, if it is known.
    """

    def __init__(self, pacing: Pacing, *, dimension: int | None) -> None:
        self._pacing = pacing
        self._dimension = dimension
        self._accepted: set[str] = set()  # the purposes that the service has taken with these settings
        self._closed = False
        self._begin()

    @property
    @abstractmethod
    def spec(self) -> EmbedderSpec:
        """What this embedder is and can do."""

    @abstractmethod
    def prepare(self, content: Content, /) -> Content:
        """Do the work on one content ahead of `embed`: images are read, turned upright, and made small."""

    @property
    @abstractmethod
    def _where(self) -> str:
        """What messages call the service."""

    @property
    @abstractmethod
    def _settings(self) -> str:
        """The settings that a service may refuse, for messages."""

    @abstractmethod
    def _purpose(self, role: Role) -> str:
        """What the service is told of a role."""

    @abstractmethod
    def _connect(self) -> EmbeddingService:
        """Load the client, and open the service."""

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        """Embed contents, all or nothing.

        Args:
            contents: At most `spec.max_batch_size` of `spec.modalities`; a mixture gives one vector.
            role: Whether the vectors are to be stored or to search with, for models that make a difference.

        Returns:
            Shape `(len(contents), spec.dimension)`, float32, of unit length only where the settings say so.

        Raises:
            ContentError: A content cannot be read, or the service refuses one of them; it does not say which.
            EmbedderAuthError: The service refuses the token or key.
            EmbedderQuotaError: The account has no credit left.
            EmbedderUnavailableError: The service is still busy, unreachable or silent after all attempts.
            EmbedderResponseError: It returned something else than a vector for each content.
            EmbedderError: It refuses the settings, or this embedder has been closed.
            ConfigurationError: There are too many contents.
        """
        return self._embed(contents, role, once=False)

    def embed_once(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        """As `embed`, with one attempt, except where the service says that it has too many requests."""
        return self._embed(contents, role, once=True)

    @property
    def model_version(self) -> str | None:
        """What the service called its model in its last answer; None before the first one."""
        self._renew_after_fork()
        return None if self._service is None else self._service.model_version

    @property
    def usage(self) -> Usage:
        """Requests sent, repeated ones too, and the bytes of their bodies."""
        self._renew_after_fork()
        return Usage() if self._service is None else self._service.usage

    def interrupt(self) -> None:
        """End the calls that are under way with an `EmbedderError`; later ones work as before."""
        self._renew_after_fork()
        if self._service is not None:
            self._service.interrupt()

    def close(self) -> None:
        """Drop connections and end every wait: calls under way raise `EmbedderError`. Twice is fine."""
        self._renew_after_fork()
        with self._lock:
            self._closed = True
            if self._service is not None:
                self._service.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(
            f"{name} cannot be pickled or copied, as it may hold a token or key: make one in each process, or pickle "
            "an EmbedderRef"
        )

    def _begin(self) -> None:
        self._service: EmbeddingService | None = None
        self._lock = threading.Lock()
        self._probe_lock = threading.Lock()
        self._ahead = Ahead("multimodal-connect")
        self._pid = os.getpid()

    def _renew_after_fork(self) -> None:
        if self._pid != os.getpid():  # a forked child has none of its parent's threads, and may not use its connections
            self._begin()

    def _connect_ahead(self) -> None:
        """Begin to load the client, beside the reading of the first images."""
        self._renew_after_fork()
        if self._service is None:
            self._ahead.begin(self._connected)

    def _connected(self) -> EmbeddingService:
        self._renew_after_fork()
        with self._lock:
            if self._closed:
                raise EmbedderError(CLOSED)
            if self._service is None:
                self._service = self._connect()
            return self._service

    def _known_dimension(self) -> int:
        """Length of the vectors; where no setting says it, something is embedded once to see it."""
        if self._dimension is None:
            self._renew_after_fork()
            with self._probe_lock:
                if self._dimension is None:
                    self.embed([self._harmless()], role="document")
        if self._dimension is None:  # pragma: no cover (`embed` has set it)
            raise EmbedderResponseError(f"{self._where} has told no dimension")
        return self._dimension

    def _embed(self, contents: Sequence[Content], role: Role, *, once: bool) -> FloatArray:
        if not contents:
            return np.empty((0, self.spec.dimension), dtype=np.float32)
        limit = self._pacing.max_batch_size
        require(
            len(contents) <= limit,
            f"embed takes at most max_batch_size={limit} contents, not {len(contents)}: split them",
        )
        prepared = [self.prepare(content) for content in contents]
        purpose = self._purpose(role)
        self._connected()  # loads the client before the clock starts
        deadline = time.monotonic() + self._pacing.timeout_s
        try:
            return self._vectors(prepared, purpose, self._pacing.timeout_s, once=once)
        except UnsupportedContentError as error:
            refusal = error
        # The same status says that a setting is wrong. A harmless word tells: nobody should halve batches for that.
        if purpose not in self._accepted and refusal.vectors is None:
            try:
                self._vectors([self._harmless()], purpose, deadline - time.monotonic(), once=once)
            except UnsupportedContentError:
                raise self._blamed(refusal, purpose, deadline - time.monotonic()) from None
        subject = label_of(contents[0]) if len(contents) == 1 else f"one of {len(contents)} contents"
        raise UnsupportedContentError(f"{subject}: {refusal}", vectors=refusal.vectors, flaws=refusal.flaws)

    def _blamed(self, refusal: UnsupportedContentError, purpose: str, within_s: float) -> EmbedderError:
        """The error to raise where the service refuses what every model can embed."""
        return EmbedderError(f"{refusal}. It refuses even a single word: check {self._settings}")

    def _harmless(self) -> Content:
        """A prepared content that the model takes for certain."""
        return PROBE

    def _vectors(self, prepared: Sequence[Content], purpose: str, within_s: float, *, once: bool) -> FloatArray:
        from multimodal_search.embedders.service.service import TooLarge

        rows = self._connected().embed(prepared, purpose=purpose, within_s=within_s, once=once)
        refused = {number: row.reason for number, row in enumerate(rows) if isinstance(row, TooLarge)}
        if refused and len(refused) == len(rows):
            raise UnsupportedContentError(refused[0])
        kept = [number for number in range(len(rows)) if number not in refused]
        vectors = self._checked([rows[number] for number in kept], len(prepared) - len(refused))
        self._accepted.add(purpose)
        if refused:
            spread = np.full((len(rows), vectors.shape[1]), np.nan, np.float32)
            spread[kept] = vectors
            raise UnsupportedContentError(
                next(iter(refused.values())),
                vectors=spread,
                flaws={number: f"no vector: {reason}" for number, reason in refused.items()},
            )
        return vectors

    def _checked(self, answer: object, count: int) -> FloatArray:
        try:
            rows = checked_rows(answer, count=count, dimension=self._dimension, who=self._where)
        except EmbedderResponseError as error:
            raise EmbedderResponseError(f"{error}: check that the model can do {self._settings}") from None
        with self._lock:
            if self._dimension is None and not rows.flaws:
                self._dimension = rows.vectors.shape[1]
        for number, flaw in rows.flaws.items():
            raise EmbedderResponseError(
                f"{self._where} returned {flaw} for content {number + 1} of {count}: the service has a fault, tell "
                "its operator",
                vectors=rows.vectors,
                flaws=rows.flaws,
            )
        return rows.vectors
