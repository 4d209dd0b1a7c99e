"""The values that everything else passes around: contents, items, records, matches, specifications."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, get_args
from uuid import UUID

import numpy as np
import numpy.typing as npt
import PIL.Image

from multimodal_search._bounds import is_whole
from multimodal_search._paths import located
from multimodal_search._secrets import shown_address, without_secrets
from multimodal_search._text import brief, is_unicode
from multimodal_search.contents import Term
from multimodal_search.errors import ConfigurationError

FloatArray: TypeAlias = npt.NDArray[np.float32]
"""An array of 32-bit floats; its shape stands where it is used."""

DUPLICATE_THRESHOLD = 0.99
"""The cosine from which on two images are nearly the same, for embedders that say nothing of it."""

Role: TypeAlias = Literal["document", "query"]
"""What a vector is for: to be stored and found, or to find with."""

Modality: TypeAlias = Literal["text", "image", "mixed"]
"""What a content is made of."""

PointId: TypeAlias = int | str
"""The id of a stored point: an unsigned 64-bit integer, or a UUID in its canonical text form."""

Payload: TypeAlias = Mapping[str, Any]
"""JSON-like fields stored beside a vector."""

Filter: TypeAlias = Mapping[str, Any] | object
"""A neutral filter (a mapping, see docs/searching.md), or a store's own filter object."""


@dataclass(frozen=True, slots=True, repr=False)
class Text(Term):
    """A text to index or to search with."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"Text takes a str, not {type(self.text).__name__}")

    def __repr__(self) -> str:
        return f"Text({self.text!r})"


@dataclass(frozen=True, slots=True)
class RemotePicture:
    """An address to fetch a picture from, with the bounds of the fetch; made by `Image.from_url`.

    Attributes:
        url: An http or https address.
        timeout_s: Seconds that the whole fetch may take.
        max_size_bytes: Bytes that the answer may have.
        allow_private: Whether addresses of private, loopback and link-local networks may be contacted.
    """

    url: str
    _: KW_ONLY
    timeout_s: float = 30.0
    max_size_bytes: int = 50_000_000
    allow_private: bool = False

    def __repr__(self) -> str:
        return f"RemotePicture({shown_address(self.url)!r})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Image(Term):
    """A picture to index or to search with. Nothing is read before it is needed.

    Args:
        source: A path (`~` is the home folder), the bytes of a picture file, a PIL picture, or a binary file object
            (which is read at once).
        name: What to call the picture in payloads and messages; default: the file's own name.
    """

    source: Path | bytes | PIL.Image.Image | RemotePicture
    name: str | None

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | memoryview | PIL.Image.Image | BinaryIO | RemotePicture,
        *,
        name: str | None = None,
    ) -> None:
        kept: Path | bytes | PIL.Image.Image | RemotePicture
        if isinstance(source, (str, os.PathLike)):
            kept = located(source)
        elif isinstance(source, (bytes, bytearray, memoryview)):
            kept = bytes(source)
        elif isinstance(source, (PIL.Image.Image, RemotePicture)):
            kept = source
        elif hasattr(source, "read"):
            kept = source.read()
            if not isinstance(kept, bytes):
                raise TypeError(f"Image needs a file opened in binary mode; {source!r} gave {type(kept).__name__}")
        else:
            raise TypeError(
                f"Image takes a path, bytes, a PIL picture or a binary file object, not {type(source).__name__}"
            )
        if name is not None and not isinstance(name, str):
            raise TypeError(f"the name of an Image is a str, not {type(name).__name__}")
        object.__setattr__(self, "source", kept)
        object.__setattr__(self, "name", name)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        name: str | None = None,
        timeout_s: float = 30.0,
        max_size_bytes: int = 50_000_000,
        allow_private: bool = False,
    ) -> Image:
        """A picture behind an http or https address, fetched when it is first needed.

        Args:
            url: The address.
            name: What to call the picture; default: the address.
            timeout_s: Seconds that the whole fetch may take.
            max_size_bytes: Bytes that the answer may have.
            allow_private: Whether addresses of private, loopback and link-local networks may be contacted.

        Raises:
            ConfigurationError: `url` is no http or https address, or a bound makes no sense.
        """
        if not isinstance(url, str):
            raise TypeError(f"Image.from_url takes an address as str, not {type(url).__name__}")
        if not url.lower().startswith(("http://", "https://")):
            raise ConfigurationError(
                f"Image.from_url takes an http:// or https:// address, not {brief(shown_address(url))}"
            )
        for setting, value, most in (("timeout_s", timeout_s, 1e6), ("max_size_bytes", max_size_bytes, 1e12)):
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= most:
                raise ConfigurationError(f"{setting} is a number above 0, up to {most:,.0f}, not {brief(value)}")
        remote = RemotePicture(url, timeout_s=timeout_s, max_size_bytes=max_size_bytes, allow_private=allow_private)
        return cls(remote, name=name)

    @property
    def label(self) -> str:
        """What messages call this picture: its name, path or address, or a description of its bytes."""
        if self.name is not None:
            return without_secrets(self.name)
        match self.source:
            case Path():
                return without_secrets(str(self.source))  # of an address that was taken for a path
            case RemotePicture():
                return shown_address(self.source.url)
            case bytes():
                return f"<{len(self.source):,} bytes>"
            case picture:
                return f"<PIL {picture.mode} {picture.width}x{picture.height}>"

    def __repr__(self) -> str:
        named = self.name is None and isinstance(self.source, Path)
        return f"Image({self.label!r})" if named else f"Image({self.label})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Image):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        # A PIL picture can change and has no hash: it is equal to itself alone.
        picture = isinstance(self.source, PIL.Image.Image)
        return (type(self.source), id(self.source) if picture else self.source, self.name)


@dataclass(frozen=True, slots=True, init=False)
class Mixed(Term):
    """Several texts and pictures that the embedder turns into one vector together, as one prompt.

    Args:
        parts: `Text`s and `Image`s, in the order in which the model reads them; a `str` counts as `Text`.
    """

    parts: tuple[Text | Image, ...]

    def __init__(self, *parts: Text | Image | str) -> None:
        kept = tuple(Text(part) if isinstance(part, str) else part for part in parts)
        for part in kept:
            if not isinstance(part, (Text, Image)):
                raise TypeError(f"Mixed takes Text and Image, not {type(part).__name__}")
        object.__setattr__(self, "parts", kept)

    def __repr__(self) -> str:
        return f"Mixed({', '.join(map(repr, self.parts))})"


Content: TypeAlias = Text | Image | Mixed
"""Anything an embedder can be given."""

ContentLike: TypeAlias = Content | str | Path | bytes | PIL.Image.Image
"""What stands for a content without being wrapped: `str` is text; `Path`, `bytes` and PIL pictures are pictures."""


def as_content(value: object) -> Content:
    """Wrap what stands for a content: `str` becomes `Text`; `Path`, `bytes` and PIL pictures become `Image`.

    Raises:
        TypeError: `value` stands for no content.
    """
    match value:
        case Text() | Image() | Mixed():
            return value
        case str():
            return Text(value)
        case bytes() | bytearray() | memoryview() | PIL.Image.Image() | os.PathLike():
            return Image(value)
        case _:
            raise TypeError(
                f"expected Text, Image, Mixed, str, Path, bytes or a PIL picture, not {type(value).__name__}"
            )


def modality_of(content: Content) -> Modality:
    """Which modality a content has; a `Mixed` of one part counts as that part."""
    match content:
        case Text():
            return "text"
        case Image():
            return "image"
        case Mixed():
            return modality_of(content.parts[0]) if len(content.parts) == 1 else "mixed"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to index: a content, and what to keep beside its vector.

    Args:
        content: A `Text`, `Image` or `Mixed`, or what stands for one (`str` is text, `Path` is a picture).
        id: The point's id; default: the index allocates one.
        payload: The user's own fields, JSON-like.
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
        vector: Shape `(dimension,)`, float32; None where vectors were not asked for. Stores with cosine
            distance may keep and return it at unit length.
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
    """

    id: PointId
    score: float
    payload: Payload = field(default_factory=dict)


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
        max_batch: Most contents in one call of `embed`.
        max_concurrency: Most calls of `embed` at the same time.
        duplicate_threshold: The cosine similarity from which on two images are nearly the same, above 0, at most 1;
            measured on images that differ, such as photos of which no two are the same.

    Raises:
        ConfigurationError: A value makes no sense.
    """

    model: str
    fingerprint: str
    dimension: int
    modalities: frozenset[Modality]
    languages: tuple[str, ...] = ()
    max_batch: int = 32
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
        for setting in ("dimension", "max_batch", "max_concurrency"):
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
