"""Every exception this library raises.

    MultimodalSearchError
    ├── ConfigurationError (ValueError)            a setting is missing or makes no sense
    │   └── MissingExtraError (ImportError)        an optional package is not installed
    ├── ContentError (ValueError)                  one item is at fault, and only that item
    │   ├── UnreadableContentError                 missing, truncated, a pixel bomb
    │   │   └── NotAnImageError                    a file of another kind, such as a video
    │   └── UnsupportedContentError                readable, but not for this embedder
    ├── QueryError (ValueError)                    a query or a filter makes no sense
    ├── EmbedderError (RuntimeError)               the embedding service or model failed
    │   ├── EmbedderAuthError (PermissionError)    the credentials were refused
    │   ├── EmbedderQuotaError                     the account is empty
    │   ├── EmbedderUnavailableError (ConnectionError)   passing trouble: busy, unreachable, timed out
    │   └── EmbedderResponseError                  it answered, but not with the vectors asked for
    ├── StoreError (RuntimeError)                  the vector store failed
    │   ├── StoreUnavailableError (ConnectionError)      passing trouble: unreachable, busy, a part of it away
    │   ├── StoreRefusedError                      it takes no such request: too large, or malformed
    │   ├── StoreLockedError                       another process holds the in-process store
    │   ├── StoreClosedError                       used after `close()`
    │   └── SchemaMismatchError (ValueError)       the store holds another embedder's vectors
    └── IndexingError (RuntimeError)               a run had to stop; carries the partial `report`

    IndexingInterrupted (KeyboardInterrupt)        Ctrl-C during a run; carries the partial `report`
    UnknownLanguageWarning (UserWarning)           a query in a language that the embedder does not know
    ModelVersionWarning (UserWarning)              the service has another version of the model than the index

Catch `MultimodalSearchError` for all but the last three. Messages name the file, id or setting, and what to do next;
they never contain a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from multimodal_search._secrets import without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from multimodal_search.report import IndexReport


class _Portable:
    """An exception that shows no secret of an address, and can be pickled and copied with what it carries.

    Python's own way of pickling calls the class with `args` alone, which have no keyword arguments among them.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_secrets(each) if isinstance(each, str) else each for each in args))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), getattr(self, "args", ()), vars(self))


def _rebuilt(kind: type[BaseException], args: tuple[object, ...], attributes: dict[str, object]) -> BaseException:
    # Of several builtin bases, the one with a layout of its own has to make it.
    error: BaseException = (OSError if issubclass(kind, OSError) else kind).__new__(kind, *args)
    error.args = args
    vars(error).update(attributes)
    return error


class MultimodalSearchError(_Portable, Exception):
    """The root of every exception that this library raises on purpose."""


class ConfigurationError(MultimodalSearchError, ValueError):
    """A setting is missing or makes no sense."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional package is not installed; the message holds the pip command."""


class ContentError(MultimodalSearchError, ValueError):
    """One item cannot be indexed or searched with; other items are not affected."""


class UnreadableContentError(ContentError):
    """The content cannot be read: missing, truncated, not an image, too many pixels, a refused address."""


class NotAnImageError(UnreadableContentError):
    """The file is no image; its first bytes say what it is instead.

    Attributes:
        kind: What it is, in one word or two: `"video"`, `"audio"`, `"document"`, `"sidecar"`, `"text"`, ...
    """

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class _PartialAnswer(_Portable):
    """Some contents of a call have no vector, and those of the others are known."""

    def __init__(
        self, message: str, *, vectors: npt.NDArray[np.float32] | None = None, flaws: Mapping[int, str] | None = None
    ) -> None:
        super().__init__(message)
        self.vectors = vectors
        self.flaws = flaws or {}


class UnsupportedContentError(_PartialAnswer, ContentError):
    """The content can be read, but this embedder cannot embed it.

    Attributes:
        vectors: Those of the other contents, if they are known: float32, the rows of refused ones filled with NaN.
        flaws: Why there is no vector in each of those rows, by its number.
    """


class QueryError(MultimodalSearchError, ValueError):
    """A query or a filter makes no sense."""


class EmbedderError(MultimodalSearchError, RuntimeError):
    """The embedding service or model failed, in a way that is no single item's fault."""


class EmbedderAuthError(EmbedderError, PermissionError):
    """The service refused the credentials."""


class EmbedderQuotaError(EmbedderError):
    """The account has no credit left."""


class EmbedderUnavailableError(EmbedderError, ConnectionError):
    """The service is busy, unreachable or too slow; trying again later may help.

    Attributes:
        retry_after_s: Seconds the service asked to wait, or None if it did not say.
        trouble: `"overload"` if the service has too many calls, `"unreachable"` if there was no connection: neither
            is the fault of a content. `"time-out"` if no answer came for as long as the embedder waits; else `"other"`.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        trouble: Literal["overload", "unreachable", "time-out", "other"] = "other",
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.trouble = trouble


class EmbedderResponseError(_PartialAnswer, EmbedderError):
    """The service answered, but not with the vectors it was asked for.

    Attributes:
        vectors: The answer, if only some of its rows are wrong: float32, those rows filled with NaN; else None.
        flaws: What is wrong with each of those rows, by its number.
    """


class StoreError(MultimodalSearchError, RuntimeError):
    """The vector store failed."""


class StoreUnavailableError(StoreError, ConnectionError):
    """The vector store cannot be reached, is busy, or is in trouble that passes; trying again later may help.

    Attributes:
        retry_after_s: Seconds the store asked to wait, or None if it did not say.
        trouble: `"overload"` if the store has too many calls, `"unreachable"` if there was no connection,
            `"internal"` if it says that a part of it fails, as a shard of a cluster: none of these is the fault of a
            record. `"time-out"` if no answer came in time; else `"other"`, as a connection that was cut.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        trouble: Literal["overload", "unreachable", "internal", "time-out", "other"] = "other",
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.trouble = trouble


class StoreRefusedError(StoreError):
    """The vector store works, and refuses a request for its size or content.

    Attributes:
        too_large: Whether it is its size.
    """

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


class StoreLockedError(StoreError):
    """Another process, or another handle of this one, holds the in-process store.

    Attributes:
        holder: Who holds it, for messages, as `"process 42 on host, since 2026-01-31T12:00:00+00:00"`; None if unknown.
    """

    def __init__(self, message: str, *, holder: str | None = None) -> None:
        super().__init__(message)
        self.holder = holder


class StoreClosedError(StoreError):
    """The store was used after `close()`."""


class SchemaMismatchError(StoreError, ValueError):
    """The store holds vectors of another embedder."""


class IndexingError(MultimodalSearchError, RuntimeError):
    """An indexing run had to stop early; what `report` counts as added is stored.

    Attributes:
        report: What was done until then.
    """

    def __init__(self, message: str, *, report: IndexReport) -> None:
        super().__init__(message)
        self.report = report


class IndexingInterrupted(_Portable, KeyboardInterrupt):
    """Ctrl-C stopped an indexing run; what `report` counts as added is stored.

    Like its base class it is not an `Exception`: `except Exception` does not catch it.

    Attributes:
        report: What was done until then.
    """

    def __init__(self, message: str, *, report: IndexReport) -> None:
        super().__init__(message)
        self.report = report


class UnknownLanguageWarning(UserWarning):
    """A query looks like a language that the embedder does not know, so that its results may be poor.

    A warning, not an error: it goes through `warnings`, once for each language and index.

    Attributes:
        advice: End of the message: how to silence the warning in Python.
    """

    def __init__(self, finding: str, *, advice: str = "") -> None:
        super().__init__(finding)
        self.advice = advice

    @property
    def finding(self) -> str:
        """The message without the advice."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.finding} {self.advice}".rstrip()


class ModelVersionWarning(UserWarning):
    """The embedding service says another version of its model than the one that made the vectors of an index.

    A warning, not an error: it goes through `warnings`, once per indexing run, and once for the searches of an index.
    """
