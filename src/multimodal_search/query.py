"""What can be searched with, and how it becomes a vector.

"surfing"                                    text
Path("a.jpg"), bytes, a PIL picture          a picture
Mixed("at night", Image("a.jpg"))            several contents that the embedder takes as one prompt
Stored(7)                                    a stored point
Vector(...), [0.1, ...], a NumPy array       a vector
Text("beach") + 0.5 * Image("a.jpg") - Text("people")
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import numpy as np
import numpy.typing as npt

from multimodal_search._path_text import is_address, is_path_of_image
from multimodal_search._text import brief
from multimodal_search.contents import Term, check_parts, weighed_parts
from multimodal_search.embedders.late import LateEmbedder
from multimodal_search.errors import ConfigurationError, QueryError, UnsupportedContentError
from multimodal_search.ids import HOW_TO_FIND_A_FILE, as_point_id
from multimodal_search.protocols import VectorStore
from multimodal_search.types import (
    Content,
    ContentLike,
    FloatArray,
    Image,
    Mixed,
    Modality,
    PointId,
    Record,
    StoreSchema,
    Text,
    as_content,
    modality_of,
)

REMEMBERED = 1024
"""How many texts' vectors are remembered, so that paging through hits embeds its query once."""

_HUGE = 2.0**1023
_ZERO = 1e-6
_SHOWN = 8


@dataclass(frozen=True, slots=True, init=False)
class Stored(Term):
    """A stored point to search with: what is like it, or with `-`, unlike it.

    Args:
        id: The point's id.

    Raises:
        QueryError: It is no id.
    """

    id: PointId

    def __init__(self, id: PointId | UUID) -> None:  # noqa: A002
        try:
            object.__setattr__(self, "id", as_point_id(id))
        except ConfigurationError:
            raise QueryError(
                f"{brief(id)} is no id of a stored point, which are integers from 0 to 2^64-1 or UUIDs; to search by "
                f"words or by a picture write Text(...) or Image(...); {HOW_TO_FIND_A_FILE}"
            ) from None

    def __repr__(self) -> str:
        return f"Stored({self.id!r})"


@dataclass(frozen=True, slots=True, init=False)
class Vector(Term):
    """A vector to search with, of the embedder's space.

    Args:
        values: Shape `(dimension,)`; kept as 32-bit floats.

    Raises:
        QueryError: These are no finite numbers in a row.
    """

    values: tuple[float, ...]

    def __init__(self, values: Sequence[float] | npt.NDArray[np.floating]) -> None:
        object.__setattr__(self, "values", tuple(_numbers(values).tolist()))

    def __repr__(self) -> str:
        if len(self.values) > _SHOWN:
            return f"Vector(<{len(self.values)} numbers>)"
        return f"Vector([{', '.join(f'{value:.6g}' for value in self.values)}])"


Query: TypeAlias = "ContentLike | Term | Sequence[float] | npt.NDArray[np.floating]"
"""What can be searched with: text (`str`), a picture (`Path`, bytes, PIL), `Mixed`, `Stored`, a vector, or a sum."""


def as_term(query: Query) -> Term:
    """A query as a term, which can be weighed and added.

    Raises:
        QueryError: It is a list or an array that is no vector, a sum of too many parts, or a `str` that is the path of
            an image.
        TypeError: It is nothing that can be searched with.
    """
    if isinstance(query, Term):
        check_parts(query)
        return query
    if isinstance(query, str) and is_path_of_image(query):
        if is_address(query):  # not shown: it may hold a password
            raise QueryError(
                "a str is words, and this one is the address of an image: to search with that write "
                "Image.from_url(...), to search for these words Text(...)"
            )
        raise QueryError(
            f"a str is words, and {brief(query, 200)} is the path of a file: to search with the image write Path(...), "
            "to search for these words Text(...)"
        )
    if isinstance(query, (list, tuple, np.ndarray)):
        return Vector(query)
    try:
        return as_content(query)
    except TypeError:
        raise TypeError(
            "expected something to search with: a str, a Path, bytes, a PIL picture, Text, Image, Mixed, Stored, "
            f"Vector, a list of numbers, or a sum of such, not {type(query).__name__}"
        ) from None


def described(query: Query) -> str:
    """A query as a short text for people."""
    match query:
        case str():
            return query
        case Text():
            return query.text
        case list() | tuple() | np.ndarray():
            return f"<vector of {len(query)}>"
    term = as_term(query)
    return term.label if isinstance(term, Image) else repr(term)


def words_of(query: Query) -> str:
    """The words that a query asks for: of its texts, those that do not count against a hit; empty if there are none."""
    texts: list[str] = []
    for weight, part in weighed_parts(as_term(query)):
        inner = part.parts if isinstance(part, Mixed) else (part,)
        texts += [each.text for each in inner if isinstance(each, Text) and weight > 0]
    return " ".join(texts)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Queries as vectors.

    Attributes:
        vectors: Shape `(n, dimension)`, float32.
        kinds: What each query is made of, if it is a single content, or a stored picture; None for all others.
    """

    vectors: FloatArray
    kinds: Sequence[Modality | None]


@dataclass(frozen=True, slots=True)
class _Part:
    vector: FloatArray
    kind: Modality | None


class QueryEncoder:
    """Turns queries into vectors, with as few calls of the embedder and the store as possible.

    Args:
        embedder: Embeds contents, as queries.
        store: Where `Stored` points are looked up.
        on_text: Called with each text before it is embedded for the first time.
        on_answer: Called after each answer of the embedder.
    """

    def __init__(
        self,
        embedder: LateEmbedder,
        store: VectorStore,
        *,
        on_text: Callable[[str], None] = lambda text: None,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._on_text = on_text
        self._on_answer = on_answer
        self._remembered: OrderedDict[tuple[str, Content], FloatArray] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, queries: Sequence[Query]) -> Encoded:
        """One vector for each query.

        Each part is scaled to unit length before it is weighed, so that weights mean the same whatever the embedder.

        Raises:
            QueryError: A vector makes no sense, an id is not stored, or the parts of a sum cancel each other out.
            ContentError: A content cannot be read or embedded.
            EmbedderError: The embedder failed.
        """
        if all(map(self._is_plain, queries)):
            return Encoded(np.array(queries, np.float32), [None] * len(queries))
        sums = [list(weighed_parts(as_term(query))) for query in queries]
        found = self._parts(part for parts in sums for _, part in parts)
        return Encoded(
            np.array([_total(query, parts, found) for query, parts in zip(queries, sums, strict=True)]),
            [found[parts[0][1]].kind if len(parts) == 1 and parts[0][0] > 0 else None for parts in sums],
        )

    def _is_plain(self, query: Query) -> bool:
        """Whether a query is a vector that nothing need be done to: checking more would take as long as searching."""
        return (
            isinstance(query, np.ndarray)
            and query.dtype == np.float32
            and query.shape == (self._embedder.schema.dimension,)
            # Else it is zero, not finite, or huge, which is looked at elsewhere; unlike `@`, this warns of no overflow.
            and bool(0 < np.vdot(query, query) < np.inf)
        )

    def _parts(self, parts: Iterable[Term]) -> Mapping[Term, _Part]:
        found: dict[Term, _Part] = {}
        ids: dict[PointId, Stored] = {}
        contents: dict[Content, Content] = {}  # as they were given, and as they are embedded
        for part in parts:
            match part:
                case Vector(values):
                    found[part] = _Part(_vector(np.array(values, np.float32), self._embedder.schema), None)
                case Stored(point_id):
                    ids[point_id] = part
                case Text() | Image() | Mixed() if part not in found and part not in contents:
                    if (known := self._recall(part)) is not None:
                        found[part] = _Part(known, modality_of(part))
                    else:
                        contents[part] = self._prepared(part)
        if ids:
            records = self._store.get(list(ids), with_vectors=True)
            found |= {part: _stored(part, record) for part, record in zip(ids.values(), records, strict=True)}
        given = list(contents)
        most = self._embedder.ready().spec.max_batch if given else 1
        for start in range(0, len(given), most):
            batch = given[start : start + most]
            rows = self._embedder.ready().embed([contents[part] for part in batch], role="query")
            self._on_answer()
            for part, row in zip(batch, rows, strict=True):
                found[part] = _Part(row, modality_of(part))
                self._remember(part, row.copy())
        return found

    def _prepared(self, content: Content) -> Content:
        for part in content.parts if isinstance(content, Mixed) else (content,):
            if isinstance(part, Text):
                self._on_text(part.text)
        embedder = self._embedder.ready()
        try:
            return embedder.prepare(content)
        except UnsupportedContentError as error:
            if isinstance(content, Mixed) and len(content.parts) > 1 and "mixed" not in embedder.spec.modalities:
                raise UnsupportedContentError(
                    f"{error}: it cannot take several contents as one prompt. Search for their sum instead: "
                    f"{' + '.join(map(repr, content.parts))}"
                ) from None
            raise

    def _recall(self, content: Content) -> FloatArray | None:
        key = (self._embedder.schema.fingerprint, content)
        with self._lock:
            if key in self._remembered:
                self._remembered.move_to_end(key)
            return self._remembered.get(key)

    def _remember(self, content: Content, vector: FloatArray) -> None:
        if not isinstance(content, Text):  # the file of a picture may change
            return
        with self._lock:
            self._remembered[self._embedder.schema.fingerprint, content] = vector
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)


def _total(query: Query, parts: Sequence[tuple[float, Term]], found: Mapping[Term, _Part]) -> FloatArray:
    """The weighted sum of a query's parts."""
    if len(parts) == 1 and parts[0][0] > 0:
        vector = found[parts[0][1]].vector
        if not vector.any():
            raise QueryError(f"the vector of {brief(described(query))} is zero: it has no direction to search in")
        return vector
    total = np.zeros(len(found[parts[0][1]].vector))
    largest = max(abs(weight) for weight, _ in parts)
    if not np.isfinite(largest):
        raise QueryError(f"the weights of the query are too large: {brief(query, 200)}")
    for weight, part in parts:
        wide = found[part].vector.astype(np.float64)
        length = np.sqrt(wide @ wide)
        total += (weight / (largest or 1)) * wide / (length or 1)
    length = np.sqrt(total @ total)
    if length <= _ZERO * sum(abs(weight) / (largest or 1) for weight, _ in parts):
        raise QueryError(f"the parts of the query cancel each other out, so nothing is left of {brief(query, 200)}")
    return (total / length).astype(np.float32)


def _stored(part: Stored, record: Record | None) -> _Part:
    if record is None or record.vector is None:
        raise QueryError(f"no point with the id {part.id!r} is stored, so it cannot be searched with")
    return _Part(record.vector, "image" if record.payload.get("modality") == "image" else None)


def _is_number(value: object) -> bool:
    if isinstance(value, (int, float)):
        return not isinstance(value, bool) and not abs(value) >= _HUGE
    return isinstance(value, (np.integer, np.floating))


def _numbers(values: Sequence[float] | npt.NDArray[np.floating]) -> FloatArray:
    """A row of finite 32-bit floats."""
    if not isinstance(values, (list, tuple, np.ndarray)):
        raise TypeError(f"a vector is a list of numbers or a NumPy array, not {type(values).__name__}")
    given = np.asarray(values) if isinstance(values, np.ndarray) or all(map(_is_number, values)) else None
    if given is None or given.dtype.kind not in "fiu":
        raise QueryError(f"a query vector holds numbers only, not {brief(values)}; several queries are for search_many")
    if given.ndim != 1 or not len(given):
        raise QueryError(f"a query vector is one row of numbers, not an array of shape {given.shape}")
    with np.errstate(over="ignore"):
        vector = given.astype(np.float32)
    if not np.isfinite(vector).all():
        raise QueryError("the query vector holds NaN or infinity")
    return vector


def _vector(values: Sequence[float] | npt.NDArray[np.floating], schema: StoreSchema) -> FloatArray:
    vector = _numbers(values)
    if len(vector) != schema.dimension:
        raise QueryError(f"a query vector of {schema.model} has shape ({schema.dimension},), not {vector.shape}")
    return vector
