"""Shared value types: contents, items, records, matches, specifications."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args
from uuid import UUID

import numpy as np
import numpy.typing as npt

from multimodal_search._bounds import is_whole
from multimodal_search._text import brief, is_unicode
from multimodal_search.contents import (
    Content,
    ContentLike,
    Image,
    Mixed,
    Modality,
    Text,
    as_content,
    modality_of,
)
from multimodal_search.errors import ConfigurationError

__all__ = [
    "Content",
    "ContentLike",
    "EmbedderSpec",
    "Filter",
    "FloatArray",
    "Image",
    "Item",
    "Match",
    "Mixed",
    "Modality",
    "Payload",
    "PointId",
    "Record",
    "Role",
    "StoreSchema",
    "StoreState",
    "Text",
    "Usage",
    "as_content",
    "modality_of",
]

FloatArray: TypeAlias = npt.NDArray[np.float32]
"""An array of 32-bit floats; its shape is documented where it is used."""

DUPLICATE_THRESHOLD = 0.99
"""The least cosine of near-duplicates, for embedders that do not specify one."""

Role: TypeAlias = Literal["document", "query"]
"""Whether a content is embedded as a stored document or as a search query."""

PointId: TypeAlias = int | str
"""The id of a stored point: an unsigned 64-bit integer, or a UUID in its canonical text form."""

Payload: TypeAlias = Mapping[str, Any]
"""JSON-like fields stored beside a vector."""

Filter: TypeAlias = Mapping[str, Any] | object
"""A neutral filter (a mapping, see docs/searching.md), or a store's own filter object."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item to index: a content, and the payload of its point.

    Args:
        content: A `Text`, `Image` or `Mixed`, or a shorthand for one (`str` is text, `Path` is an image).
        id: The point's id; default: the index allocates one.
        payload: The user's own fields, JSON-like.

    Examples:
        >>> item = Item(Path("query.jpg"), id=7, payload={"label": "apple"})
        >>> index.add(item).added
        1
    """

    content: Content
    _: KW_ONLY
    id: PointId | UUID | None = None
    payload: Payload = field(default_factory=dict)

    def __init__(
        self,
        content: ContentLike,
        *,
        id: PointId | UUID | None = None,  # noqa: A002
        payload: Payload | None = None,
    ) -> None:
        if payload is not None and not isinstance(payload, Mapping):
            raise TypeError(f"the payload of an Item maps names to values; this one is a {type(payload).__name__}")
        object.__setattr__(self, "content", as_content(content))
        object.__setattr__(self, "id", id)
        object.__setattr__(self, "payload", {} if payload is None else dict(payload))


@dataclass(frozen=True, slots=True)
class Record:
    """One stored point.

    Attributes:
        id: The point's id.
        payload: Its fields.
        vector: Shape `(dimension,)`, float32; None if vectors were not requested. Stores with cosine
            distance may keep and return it at unit length.

    Examples:
        >>> record = Record(7, {"label": "apple"})
        >>> record.payload["label"]
        'apple'
    """

    id: PointId
    payload: Payload = field(default_factory=dict)
    _: KW_ONLY
    vector: FloatArray | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Match:
    """One point that a search found.

    Attributes:
        id: The point's id.
        score: Cosine similarity, -1 to 1; higher is closer.
        payload: The point's fields.
        vector: Shape `(dimension,)`, float32; None if vectors were not requested, as for `Record`.
    """

    id: PointId
    score: float
    payload: Payload = field(default_factory=dict)
    _: KW_ONLY
    vector: FloatArray | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderSpec:
    """What an embedder is and can do.

    Attributes:
        model: Its name, for people.
        fingerprint: Everything that changes vectors: model, revision, size, representation, preprocessing.
            Two embedders with equal fingerprints give equal vectors for equal contents.
        dimension: Length of its vectors.
        modalities: What it can embed.
        languages: ISO 639-1 codes of the languages its texts may have; empty if unknown.
        max_batch_size: Most contents in one call of `embed`.
        max_concurrency: Most calls of `embed` at the same time.
        duplicate_threshold: The least cosine similarity of near-duplicates, above 0, at most 1;
            measured on images that differ, such as photos of which no two are the same.

    Raises:
        ConfigurationError: A value makes no sense.

    Examples:
        >>> spec = EmbedderSpec(model="mine", fingerprint="mine/1", dimension=512, modalities=frozenset({"text"}))
        >>> spec.max_batch_size > 0
        True
    """

    model: str
    fingerprint: str
    dimension: int
    modalities: frozenset[Modality]
    languages: tuple[str, ...] = ()
    max_batch_size: int = 32
    max_concurrency: int = 1
    duplicate_threshold: float = DUPLICATE_THRESHOLD

    def __post_init__(self) -> None:
        def check(setting: str, is_right: bool, wanted: str) -> None:
            if not is_right:
                raise ConfigurationError(f"EmbedderSpec.{setting} {wanted}, not {brief(getattr(self, setting))}")

        for setting in ("model", "fingerprint"):
            value = getattr(self, setting)
            is_text = isinstance(value, str) and bool(value.strip()) and is_unicode(value)
            check(setting, is_text, "must be a text that is not empty")
        for setting in ("dimension", "max_batch_size", "max_concurrency"):
            value = getattr(self, setting)
            check(setting, is_whole(value, least=1), "must be a whole number, at least 1")
            object.__setattr__(self, setting, int(value))
        known = get_args(Modality)
        are_known = isinstance(self.modalities, (set, frozenset, list, tuple)) and all(
            isinstance(each, str) and each in known for each in self.modalities
        )
        check("modalities", are_known and len(self.modalities) > 0, f"must be some of {', '.join(known)}")
        object.__setattr__(self, "modalities", frozenset(self.modalities))
        are_codes = isinstance(self.languages, (list, tuple)) and all(
            isinstance(code, str) and code for code in self.languages
        )
        check("languages", are_codes, "must be codes of languages, such as ('en', 'de')")
        object.__setattr__(self, "languages", tuple(self.languages))
        threshold = self.duplicate_threshold
        is_number = isinstance(threshold, (int, float, np.number)) and not isinstance(threshold, bool)
        check("duplicate_threshold", is_number and 0 < threshold <= 1, "must be a number above 0 and at most 1")
        object.__setattr__(self, "duplicate_threshold", float(threshold))


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an embedder has sent.

    Attributes:
        calls: Requests, repeated ones too.
        bytes_sent: Bytes of their bodies.
    """

    calls: int = 0
    bytes_sent: int = 0

    def __sub__(self, earlier: Usage) -> Usage:
        """What has been sent since an earlier moment."""
        return Usage(calls=self.calls - earlier.calls, bytes_sent=self.bytes_sent - earlier.bytes_sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSchema:
    """What a store holds, kept in the store itself.

    Attributes:
        model: The embedder's name, for people.
        fingerprint: The embedder's fingerprint; vectors of two fingerprints never mix.
        dimension: Length of the vectors.
        version: Of this library's storage format.
        duplicate_threshold: The embedder's, for `duplicates` where it is not at hand; plays no part in comparing.
    """

    model: str
    fingerprint: str
    dimension: int
    version: int = 1
    duplicate_threshold: float = field(default=DUPLICATE_THRESHOLD, compare=False)

    @classmethod
    def of(cls, spec: EmbedderSpec) -> StoreSchema:
        """The schema that an embedder's vectors need."""
        return cls(
            model=spec.model,
            fingerprint=spec.fingerprint,
            dimension=spec.dimension,
            duplicate_threshold=spec.duplicate_threshold,
        )

    def mismatch(self, wanted: StoreSchema, *, holder: str = "the store") -> str:
        """What differs from an embedder's schema, and what to do.

        Args:
            wanted: The embedder's.
            holder: What holds this one.
        """
        if self.version != wanted.version:
            later = self.version > wanted.version
            advice = "update multimodal-search" if later else "use that version, or index again into another store"
            return (
                f"{holder} was written by {'a later' if later else 'an earlier'} version of this library (storage "
                f"format {self.version}, this one knows {wanted.version}): {advice}"
            )
        names = ("model", "dimension", "fingerprint")
        pairs = ((name, getattr(self, name), getattr(wanted, name)) for name in names)
        differing = ", ".join(f"{name} {held!r} instead of {given!r}" for name, held, given in pairs if held != given)
        return (
            f"{holder} holds vectors of {self.model!r} ({self.dimension} dimensions, {self.fingerprint}), and the "
            f"embedder is {wanted.model!r}: {differing}. Their vectors cannot be compared: open it with the embedder "
            "it was made with, or index into another store"
        )

    def to_dict(self) -> dict[str, str | int | float]:
        """As a JSON-like mapping, for stores to keep."""
        return {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "dimension": self.dimension,
            "version": self.version,
            "duplicate_threshold": self.duplicate_threshold,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> StoreSchema:
        """From what `to_dict` gave.

        Raises:
            ConfigurationError: A field is missing or of another type.
        """
        try:
            return cls(
                model=str(fields["model"]),
                fingerprint=str(fields["fingerprint"]),
                dimension=int(fields["dimension"]),
                version=int(fields["version"]),
                duplicate_threshold=float(fields.get("duplicate_threshold", DUPLICATE_THRESHOLD)),
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ConfigurationError(f"not a schema of this library: {brief(fields, 200)}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """What a store knows or has found out about itself.

    Attributes:
        size_bytes: What it takes on the disk; None if it cannot tell.
        changed: When points were last written or deleted, in UTC; None if it cannot tell.
        problems: What is missing or damaged, one sentence each.
        advice: What to do about it, one sentence each.
        bytes_read: Bytes that were read to find out.
    """

    size_bytes: int | None = None
    changed: datetime | None = None
    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    bytes_read: int = 0
