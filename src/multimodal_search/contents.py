"""Contents, and the arithmetic of queries: parts are weighted with `*`, and combined with `+` and `-`.

A weighted term or a sum is a value: it can be compared, is hashable as far as its parts are, and prints as it was
written. Nothing is computed before it is searched with.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np
import PIL.Image

from multimodal_search._bounds import MAX_DEPTH, MAX_PARTS, check_length
from multimodal_search._files import located
from multimodal_search._secrets import shown_address, without_secrets
from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError, QueryError


class QueryPart:
    """Part of a query: a text, an image, a stored point, a vector, or a combination of these."""

    __slots__ = ()
    __array_ufunc__ = None  # so that NumPy leaves `weight * term` to this class

    def __add__(self, other: object) -> Sum:
        return _sum(self, other) if isinstance(other, QueryPart) else NotImplemented

    def __sub__(self, other: object) -> Sum:
        return _sum(self, -other) if isinstance(other, QueryPart) else NotImplemented

    def __mul__(self, weight: object) -> Weighted:
        if isinstance(weight, bool) or not isinstance(weight, (int, float, np.integer, np.floating)):
            return NotImplemented
        try:
            return Weighted(float(weight), self)
        except OverflowError:
            return Weighted(math.inf, self)

    __rmul__ = __mul__

    def __neg__(self) -> Weighted:
        return self * -1


@dataclass(frozen=True, slots=True, repr=False)
class Weighted(QueryPart):
    """A part with a weight, which may be negative; made with `*` and unary `-`.

    Attributes:
        weight: How much it counts; finite.
        term: What is weighted; never another `Weighted`.

    Raises:
        QueryError: The weight is not finite.
    """

    weight: float
    term: QueryPart

    def __post_init__(self) -> None:
        if isinstance(self.term, Weighted):
            object.__setattr__(self, "weight", self.weight * self.term.weight)
            object.__setattr__(self, "term", self.term.term)
        if not math.isfinite(self.weight):
            raise QueryError(f"the weight of {brief(self.term)} must be a finite number, not {self.weight}")

    def __repr__(self) -> str:
        inner = f"({self.term!r})" if isinstance(self.term, Sum) else repr(self.term)
        if abs(self.weight) == 1:
            return f"-{inner}" if self.weight < 0 else inner
        return f"{self.weight!r}".removesuffix(".0") + f" * {inner}"


@dataclass(frozen=True, slots=True, repr=False)
class Sum(QueryPart):
    """Weighted sum of several parts; made with `+` and `-`.

    Attributes:
        terms: At least two, in the order in which they were written.
    """

    terms: tuple[QueryPart, ...]

    def __repr__(self) -> str:
        text = ""
        for term in self.terms:
            sign = " + "
            if isinstance(term, Weighted) and term.weight < 0 and text:
                sign, term = " - ", -term  # noqa: PLW2901 (shown with the other sign)
            text += (sign if text else "") + (f"({term!r})" if isinstance(term, Sum) else repr(term))
        return text


def _sum(left: QueryPart, right: QueryPart) -> Sum:
    return Sum((*(left.terms if isinstance(left, Sum) else (left,)), right))


def check_parts(term: QueryPart) -> None:
    """See that a term has a size that can be worked with; operators make any, as deeply nested as they are written.

    Raises:
        QueryError: It has too many parts, or they are nested too deeply.
    """
    parts = 0
    waiting = [(term, 0)]
    while waiting:
        each, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise QueryError(f"the query is nested more than {MAX_DEPTH} deep: write its sum without parentheses")
        match each:
            case Weighted(_, inner):
                waiting.append((inner, depth + 1))
            case Sum(terms):
                parts += len(terms)
                check_length(parts, MAX_PARTS, named="the query", of="parts", error=QueryError)
                waiting += [(inner, depth + 1) for inner in terms]


def weighted_parts(term: QueryPart, weight: float = 1.0) -> Iterator[tuple[float, QueryPart]]:
    """Flatten a query into parts that are not combinations, each with the product of the weights above it."""
    match term:
        case Weighted(factor, inner):
            yield from weighted_parts(inner, weight * factor)
        case Sum(terms):
            for inner in terms:
                yield from weighted_parts(inner, weight)
        case _:
            yield weight, term


Modality: TypeAlias = Literal["text", "image", "mixed"]
"""What a content is made of."""


@dataclass(frozen=True, slots=True, repr=False)
class Text(QueryPart):
    """A text to index or to search with.

    Examples:
        >>> Text("beach") + 0.5 * Text("sunset") - Text("people")
        Text('beach') + 0.5 * Text('sunset') - Text('people')
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"Text takes a str, not {type(self.text).__name__}")

    def __repr__(self) -> str:
        return f"Text({self.text!r})"


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An address to fetch an image from, with the bounds of the fetch; made by `Image.from_url`.

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
        return f"RemoteImage({shown_address(self.url)!r})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Image(QueryPart):
    """An image to index or to search with. Nothing is read before it is needed.

    Args:
        source: A path (`~` is the home folder), the bytes of an image file, a PIL image, or a binary file object
            (which is read at once).
        name: What to call the image in payloads and messages; default: the file's own name.

    Examples:
        >>> index.search(Image("photos/red.jpg"), limit=1)[0].filename
        'red.jpg'
    """

    source: Path | bytes | PIL.Image.Image | RemoteImage
    name: str | None

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | memoryview | PIL.Image.Image | BinaryIO | RemoteImage,
        *,
        name: str | None = None,
    ) -> None:
        kept: Path | bytes | PIL.Image.Image | RemoteImage
        if isinstance(source, (str, os.PathLike)):
            kept = located(source)
        elif isinstance(source, (bytes, bytearray, memoryview)):
            kept = bytes(source)
        elif isinstance(source, (PIL.Image.Image, RemoteImage)):
            kept = source
        elif hasattr(source, "read"):
            kept = source.read()
            if not isinstance(kept, bytes):
                raise TypeError(f"Image needs a file opened in binary mode; {source!r} gave {type(kept).__name__}")
        else:
            raise TypeError(
                f"Image takes a path, bytes, a PIL image or a binary file object, not {type(source).__name__}"
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
        """An image behind an http or https address, fetched when it is first needed.

        Args:
            url: The address.
            name: What to call the image; default: the address.
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
        remote = RemoteImage(url, timeout_s=timeout_s, max_size_bytes=max_size_bytes, allow_private=allow_private)
        return cls(remote, name=name)

    @property
    def label(self) -> str:
        """What messages call this image: its name, path or address, or a description of its bytes."""
        if self.name is not None:
            return without_secrets(self.name)
        match self.source:
            case Path():
                return without_secrets(str(self.source))  # of an address that was taken for a path
            case RemoteImage():
                return shown_address(self.source.url)
            case bytes():
                return f"<{len(self.source):,} bytes>"
            case image:
                return f"<PIL {image.mode} {image.width}x{image.height}>"

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
        # A PIL image can change and has no hash: it is equal to itself alone.
        image = isinstance(self.source, PIL.Image.Image)
        return (type(self.source), id(self.source) if image else self.source, self.name)


@dataclass(frozen=True, slots=True, init=False)
class Mixed(QueryPart):
    """Several texts and images that the embedder turns into one vector together, as one prompt.

    Args:
        parts: `Text`s and `Image`s, in the order in which the model reads them; a `str` counts as `Text`.

    Examples:
        >>> Mixed("at night", Image("query.jpg"))
        Mixed(Text('at night'), Image('query.jpg'))
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
"""What stands for a content without being wrapped: `str` is text; `Path`, `bytes` and PIL images are images."""


def as_content(value: object) -> Content:
    """Wrap what stands for a content: `str` becomes `Text`; `Path`, `bytes` and PIL images become `Image`.

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
            raise TypeError(f"expected Text, Image, Mixed, str, Path, bytes or a PIL image, not {type(value).__name__}")


def modality_of(content: Content) -> Modality:
    """Which modality a content has; a `Mixed` of one part counts as that part."""
    match content:
        case Text():
            return "text"
        case Image():
            return "image"
        case Mixed():
            return modality_of(content.parts[0]) if len(content.parts) == 1 else "mixed"
