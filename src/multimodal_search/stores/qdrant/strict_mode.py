"""A collection's strict mode: what its server refuses, read with the collection, and kept to by every request.

Qdrant Cloud refuses filters on fields without a payload index; limits are set by whoever runs a server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimodal_search.errors import QueryError
from multimodal_search.stores.qdrant_shared.payload_indexes import own_path

if TYPE_CHECKING:
    from qdrant_client import models

_MISSING_INDEX = re.compile(
    r'Index required but not found for "(?P<path>.*)"(?: of one of the following types: \[(?P<kinds>[^\]]*)\])?'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StrictMode:
    """The strict mode of one collection; limits are None where there are none.

    Attributes:
        is_on: Whether anything is refused. Matches of texts within texts are then, whatever the settings.
        needs_indexes: Whether filters are refused on fields without a payload index that serves them.
        allows_exact: Whether points may be counted exactly.
        max_query_limit: Most points that one request may ask for.
        search_max_batchsize: Most queries in one request.
        upsert_max_batchsize: Most points that one request may write.
        filter_max_conditions: Most conditions in one filter.
        condition_max_size: Most values, or ids, in one condition.
        max_payload_index_count: Most payload indexes of the collection.
        search_max_hnsw_ef: The largest `hnsw_ef` of a search.
        search_max_oversampling: The largest `oversampling` of a search.
        max_timeout: The longest time in seconds that a request may be given.
    """

    is_on: bool = False
    needs_indexes: bool = False
    allows_exact: bool = True
    max_query_limit: int | None = None
    search_max_batchsize: int | None = None
    upsert_max_batchsize: int | None = None
    filter_max_conditions: int | None = None
    condition_max_size: int | None = None
    max_payload_index_count: int | None = None
    search_max_hnsw_ef: int | None = None
    search_max_oversampling: float | None = None
    max_timeout: int | None = None

    @classmethod
    def of(cls, info: models.CollectionInfo) -> StrictMode:
        """The strict mode of a collection, as the server reports it; off on servers that do not know it."""
        config: Any = getattr(info.config, "strict_mode_config", None)
        if config is None or not config.enabled:
            return cls()
        limits = {name: getattr(config, name, None) for name in _LIMITS}
        return cls(
            is_on=True,
            needs_indexes=config.unindexed_filtering_retrieve is False,
            allows_exact=config.search_allow_exact is not False,
            **{name: limit for name, limit in limits.items() if limit},
        )

    @property
    def limits_filters(self) -> bool:
        """Whether filters may have too many conditions or values."""
        return self.filter_max_conditions is not None or self.condition_max_size is not None

    def points(self, wanted: int) -> int:
        """How many of so many points one request may ask for."""
        return min(wanted, self.max_query_limit or wanted)

    def queries(self, wanted: int) -> int:
        """How many of so many queries one request may hold."""
        return min(wanted, self.search_max_batchsize or wanted)

    def upserts(self, wanted: int) -> int:
        """How many of so many points one request may write."""
        return min(wanted, self.upsert_max_batchsize or wanted)

    def excess(self, condition: models.Filter | None) -> str | None:
        """What a filter has too much of, as the end of a sentence; None if the server takes it."""
        if condition is None or not self.limits_filters:
            return None
        sizes = list(_sizes(condition))
        if self.filter_max_conditions and len(sizes) > self.filter_max_conditions:
            return _too_many(len(sizes), "conditions", "filter_max_conditions", self.filter_max_conditions)
        if self.condition_max_size and max(sizes, default=0) > self.condition_max_size:
            return _too_many(max(sizes), "values in one condition", "condition_max_size", self.condition_max_size)
        return None

    def check(self, condition: models.Filter | None, where: str) -> None:
        """Check that the server takes a filter.

        Args:
            condition: The filter.
            where: What messages call the collection and its server.

        Raises:
            QueryError: It has too many conditions, or one of them too many values.
        """
        if excess := self.excess(condition):
            raise QueryError(f"the filter on {where} has {excess}: search with less at a time")


_LIMITS = (
    "max_query_limit",
    "search_max_batchsize",
    "upsert_max_batchsize",
    "filter_max_conditions",
    "condition_max_size",
    "max_payload_index_count",
    "search_max_hnsw_ef",
    "search_max_oversampling",
    "max_timeout",
)


def missing_index(error: Exception) -> tuple[str, list[str]] | None:
    """The path that a server says has no index for a filter, and the kinds that would do; None of another error."""
    found = _MISSING_INDEX.search(str(error))
    if found is None:
        return None
    return own_path(found["path"]), [kind for kind in (found["kinds"] or "keyword").split(", ") if kind]


def _too_many(count: int, of: str, setting: str, most: int) -> str:
    return f"{count:,} {of}, and its server takes {most:,} at most (`{setting}` of the collection's strict mode)"


def _sizes(condition: Any) -> Iterator[int]:
    """The number of values in each condition of a filter, as the server counts them."""
    from qdrant_client import models

    match condition:
        case models.Filter():
            grouped = [condition.must, condition.should, condition.must_not]
            grouped.append(condition.min_should.conditions if condition.min_should else None)
            for group in grouped:
                for part in group if isinstance(group, list) else [group] if group is not None else []:
                    yield from _sizes(part)
        case models.NestedCondition():
            yield from _sizes(condition.nested.filter)
        case models.HasIdCondition():
            yield len(condition.has_id)
        case models.FieldCondition(match=models.MatchAny(any=values)):
            yield len(values)
        case models.FieldCondition(match=models.MatchExcept() as match):
            yield len(match.except_)
        case _:
            yield 0
