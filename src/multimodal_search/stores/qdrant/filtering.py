"""Filters of a server's collection: translated, with the indexes that they need, and again where the server refuses."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from multimodal_search.errors import StoreRefusedError
from multimodal_search.filters.nodes import And, In, Node, Or
from multimodal_search.filters.parsing import parse_filter
from multimodal_search.ids import id_order
from multimodal_search.stores.qdrant.candidates import Candidates
from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.conditions import conditions
from multimodal_search.stores.qdrant.index_creation import CollectionIndexes
from multimodal_search.stores.qdrant.strict_mode import missing_index
from multimodal_search.stores.qdrant_shared.filters import Translation
from multimodal_search.stores.qdrant_shared.reading import EngineFilter
from multimodal_search.types import Filter, Record

if TYPE_CHECKING:
    from qdrant_client import models

MAX_IDS = 500_000
"""Most ids that one request lists: 20 MB of JSON."""

T = TypeVar("T")

Walk: TypeAlias = "Callable[[models.Filter, Sequence[str]], Iterator[Record]]"


class Filtering:
    """The filters of one collection.

    Args:
        connection: How to reach it.
        indexes: Its payload indexes.
        walk: Reads these payload fields of the records that pass a filter.
        candidates: Keeps the records that were read.
        shard_keys_of: The keys of all shards that can hold points that pass a filter; None for all shards.
    """

    def __init__(
        self,
        connection: Connection,
        indexes: CollectionIndexes,
        walk: Walk,
        candidates: Candidates,
        shard_keys_of: Callable[[Node], tuple[str | int, ...] | None],
    ) -> None:
        self._connection = connection
        self._indexes = indexes
        self._walk = walk
        self._candidates = candidates
        self._shard_keys_of = shard_keys_of

    def translate(self, where: Filter | None) -> EngineFilter:
        """The client's own filter.

        Raises:
            QueryError: The filter makes no sense, or the server takes no such filter.
            StoreError: It needs an index that the server refuses to make.
        """
        from qdrant_client import models

        if where is None or isinstance(where, models.Filter):
            translated = EngineFilter(where)
        else:
            node = parse_filter(where, native=models.Filter)
            if not self._connection.is_local:
                self._indexes.provide(node, lambda node: self._translation().filter_of(node))
            translation = self._translation()
            condition = translation.filter_of(node)  # which counts the ids
            translated = EngineFilter(condition, translation.ids, self._shard_keys_of(node))
        self._indexes.strict.check(translated.condition, str(self._connection))
        return translated

    def parts(self, where: Filter | None) -> list[Filter | None]:
        """Filters that together let pass what one does: several where one would be beyond the server's limits."""
        from qdrant_client import models

        if where is None or isinstance(where, models.Filter) or not self._indexes.strict.limits_filters:
            return [where]
        node = parse_filter(where, native=models.Filter)
        self._indexes.provide(node, lambda node: self._translation().filter_of(node))
        return list(self._parts(node))

    def _parts(self, node: Node) -> Iterator[models.Filter]:
        condition = self._translation().filter_of(node)
        halves = _halves(node) if self._indexes.strict.excess(condition) else None
        if halves is None:
            yield condition
        else:
            for half in halves:
                yield from self._parts(half)

    def asked(self, where: Filter | None, call: Callable[[EngineFilter], T]) -> T:
        """The answer to a call with the client's own filter; called again if the server asks for another index."""
        return self.mended(lambda: call(self.translate(where)))

    def mended(self, call: Callable[[], T], until: dict[str, float] | None = None) -> T:
        """The answer to a call; called again if the server asks for another index, or has other limits than before.

        Args:
            call: May raise `StoreRefusedError`, and means the same when it is made twice.
            until: As for `CollectionIndexes.mend`.
        """
        until = {} if until is None else until
        while True:
            try:
                return call()
            except StoreRefusedError as error:
                self._mend(error, until)

    def scanned(self, scan: Callable[[], Iterator[Record]]) -> Iterator[Record]:
        """The records of a scan; begun again if the server asks for another index, before the first of them."""
        until: dict[str, float] = {}
        records = self.mended(scan, until)

        def walk() -> Iterator[Record]:
            nonlocal records
            while True:
                try:
                    first = next(records, None)
                    break
                except StoreRefusedError as error:
                    self._mend(error, until)
                    records = self.mended(scan, until)
            if first is not None:
                yield first
                yield from records

        return walk()

    def _mend(self, error: StoreRefusedError, until: dict[str, float]) -> None:
        if self._connection.is_local or error.too_large or not self._indexes.mend(error, until):
            raise error

    def _translation(self) -> Translation:
        strict = self._indexes.strict
        return Translation(
            words=conditions(),
            kinds=self._indexes.kinds,
            fetch_candidates=lambda filters, field: self._candidates.of(
                filters[0], field, lambda: self._fetch_candidates(filters, field)
            ),
            most_ids=MAX_IDS,
            is_strict=strict.needs_indexes,
            prefixed=self._indexes.prefixed,
            has_substrings=not strict.is_on,
            most_listed=strict.condition_max_size,
        )

    def _fetch_candidates(self, filters: Sequence[models.Filter], field: str) -> Iterator[Record]:
        """The records that pass the first filter that the server knows: older ones know no prefixes or substrings."""
        for number, condition in enumerate(filters, 1):
            records = self._walk(condition, [field])
            try:
                first = next(records, None)
            except StoreRefusedError as error:
                if number == len(filters) or error.too_large or missing_index(error):
                    raise
                continue
            if first is not None:
                yield first
                yield from records
            return


def distinct(scans: Sequence[Iterator[Record]]) -> Iterator[Record]:
    """The records of several scans, each once, in the order of ids."""
    last = None
    for record in heapq.merge(*scans, key=lambda record: id_order(record.id)):
        if record.id != last:
            last = record.id
            yield record


def _halves(node: Node) -> tuple[Node, Node] | None:
    """Two filters of which one or both pass where this one does; None if it has no long list of values."""
    match node:
        case In(at, values) if len(values) > 1:
            middle = len(values) // 2
            return In(at, values[:middle]), In(at, values[middle:])
        case Or(parts) if len(parts) > 1:
            middle = len(parts) // 2
            return Or(parts[:middle]), Or(parts[middle:])
        case And(parts) if parts:
            longest = max(parts, key=_length)
            halves = _halves(longest)
            others = tuple(part for part in parts if part is not longest)
            return None if halves is None else (And((*others, halves[0])), And((*others, halves[1])))
    return None


def _length(node: Node) -> int:
    match node:
        case In(_, values):
            return len(values)
        case Or(parts):
            return sum(map(_length, parts))
        case And(parts):
            return max(map(_length, parts), default=1)
    return 1
