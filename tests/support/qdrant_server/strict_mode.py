"""Strict mode: which index a condition needs, and the limits of requests."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from uuid import UUID

from qdrant_client import models

from .refusals import RefusalError, strict_mode

EVERY_KIND = (
    "bool",
    "datetime",
    "float",
    "geo",
    "integer",
    "keyword",
    "keyword (with prefix: true)",
    "text",
    "text (with phrase_matching: true)",
    "uuid",
)


def json_path(path: str) -> str:
    """A path in the server's spelling: quotes only where a key needs them."""
    keys, at = [], 0
    while at < len(path):
        if path[at] == '"':
            end = path.index('"', at + 1)
            key, at = path[at + 1 : end], end + 1
        else:
            end = next((place for place in range(at, len(path)) if path[place] in ".["), len(path))
            key, at = path[at:end], end
        plain = key != "" and all(letter.isalnum() or letter in "_-" for letter in key)
        end = path.find(".", at) if path.find(".", at) >= 0 else len(path)
        keys.append((key if plain else f'"{key}"') + path[at:end])
        at = end + 1
    return ".".join(keys)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def kinds_for(condition: models.FieldCondition) -> list[str]:
    """The indexes of which one serves a condition, in the server's order; none if it needs no index."""
    match = condition.match
    if isinstance(match, models.MatchPrefix):
        return ["keyword (with prefix: true)"]
    if isinstance(match, models.MatchPhrase):
        return ["text (with phrase_matching: true)"]
    if isinstance(match, models.MatchText | models.MatchTextAny):
        return ["text"]
    if match is not None:
        if isinstance(match, models.MatchValue):
            values = [match.value]
        else:
            values = list(match.any if isinstance(match, models.MatchAny) else getattr(match, "except_", [""]))
        if not values:
            return []
        if isinstance(values[0], bool):
            return ["bool"]
        if isinstance(values[0], int):
            return ["integer"]
        return ["keyword", "uuid"] if all(map(_is_uuid, values)) else ["keyword"]
    if condition.range is not None:
        return ["datetime"] if isinstance(condition.range, models.DatetimeRange) else ["float", "integer"]
    if condition.geo_bounding_box or condition.geo_polygon or condition.geo_radius:
        return ["geo"]
    return list(EVERY_KIND)  # is_empty, is_null, values_count


def serves(index: Mapping[str, Any], kinds: list[str], condition: models.FieldCondition | None) -> bool:
    """Whether an index with these settings is one of those kinds."""
    kind = index["type"]
    if kind == "integer" and condition is not None:
        if condition.match is not None and index.get("lookup") is False:
            return False
        if condition.range is not None and index.get("range") is False:
            return False
    return (
        kind in kinds
        or (kind == "keyword" and index.get("prefix") is True and "keyword (with prefix: true)" in kinds)
        or (kind == "text" and index.get("phrase_matching") is True and "text (with phrase_matching: true)" in kinds)
    )


def supports_match(index: Mapping[str, Any] | None) -> bool:
    """Whether facets and groups can use an index."""
    if index is None:
        return False
    return index["type"] in {"keyword", "uuid", "bool"} or (
        index["type"] == "integer" and index.get("lookup") is not False
    )


def _parts(wanted: models.Filter) -> Iterator[Any]:
    for parts in (wanted.must, wanted.should, wanted.min_should and wanted.min_should.conditions, wanted.must_not):
        if parts is not None:
            yield from parts if isinstance(parts, list) else [parts]


def conditions_of(wanted: models.Filter, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each condition with the path of its field, nested ones too; "" where it has none."""
    for part in _parts(wanted):
        if isinstance(part, models.Filter):
            yield from conditions_of(part, prefix)
        elif isinstance(part, models.NestedCondition):
            yield from conditions_of(part.nested.filter, f"{prefix}{json_path(part.nested.key)}[].")
        elif isinstance(part, models.FieldCondition):
            yield prefix + json_path(part.key), part
        elif isinstance(part, models.IsEmptyCondition):
            yield prefix + json_path(part.is_empty.key), models.FieldCondition(key=part.is_empty.key, is_empty=True)
        elif isinstance(part, models.IsNullCondition):
            yield prefix + json_path(part.is_null.key), models.FieldCondition(key=part.is_null.key, is_null=True)
        else:
            yield "", part


def _size(condition: Any) -> int:
    if isinstance(condition, models.HasIdCondition):
        return len(condition.has_id)
    match = getattr(condition, "match", None)
    return len(getattr(match, "any", None) or getattr(match, "except_", None) or ())


class StrictMode:
    """The mode and limits of one collection.

    Args:
        config: As in the collection's settings.
        indexes: The settings of each payload index.
    """

    def __init__(self, config: Mapping[str, Any] | None, indexes: Mapping[str, Mapping[str, Any]]) -> None:
        self._config = config if config is not None and config.get("enabled") else {}
        self._indexes = {json_path(field): settings for field, settings in indexes.items()}

    def check_limit(self, value: float | None, setting: str, name: str) -> None:
        limit = self._config.get(setting)
        if limit is not None and value is not None and value > limit:
            raise strict_mode(
                f'Limit exceeded {value} > {limit} for "{name}"', f'Reduce the "{name}" parameter to or below {limit}.'
            )

    def check_exact(self, exact: bool | None) -> None:
        if exact and self._config.get("search_allow_exact") is False:
            raise strict_mode("Exact search disabled!", "Set exact=false.")

    def check_graph(self, links: int) -> None:
        if links == 0 and self._config.get("search_allow_exact") is False:
            raise strict_mode(
                "Request is forbidden because global vector indexing is disabled (hnsw_config.m = 0)",
                "Enable vector indexing or use a prefetch query before rescoring.",
            )

    def check_filter(self, wanted: models.Filter | None, *, updates: bool = False) -> None:
        if wanted is None:
            return
        conditions = list(conditions_of(wanted))
        for path, condition in conditions:
            if self._config and isinstance(getattr(condition, "match", None), models.MatchSubstring):
                raise strict_mode(
                    f'Substring matching is not allowed, used for "{path}": it scans every value of the field, with or '
                    "without an index",
                    "Use a prefix match or a full-text match instead.",
                )
        most = self._config.get("filter_max_conditions")
        if most is not None and len(conditions) > most:
            raise strict_mode(
                f"Filter condition limit reached ({len(conditions)} > {most})",
                "Reduce the amount of conditions of your filter.",
            )
        most, size = self._config.get("condition_max_size"), max((_size(each) for _, each in conditions), default=0)
        if most is not None and size > most:
            raise strict_mode(f"Condition size limit reached ({size} > {most})", "Reduce the size of your condition.")
        if self._config.get(f"unindexed_filtering_{'update' if updates else 'retrieve'}") is not False:
            return
        for path, condition in conditions:
            if path:
                kinds = kinds_for(condition)
                if kinds and (path not in self._indexes or not serves(self._indexes[path], kinds, condition)):
                    raise strict_mode(
                        f'Index required but not found for "{path}" of one of the following types: '
                        f"[{', '.join(kinds)}]",
                        "Create an index for this key or use a different filter.",
                    )

    def check_search(self, params: models.SearchParams | None, wanted: models.Filter | None, limit: int | None) -> None:
        self.check_limit(limit, "max_query_limit", "limit")
        self.check_filter(wanted)
        if params is not None:
            self.check_exact(params.exact)
            if params.quantization is not None:
                self.check_limit(params.quantization.oversampling, "search_max_oversampling", "oversampling")
            self.check_limit(params.hnsw_ef, "search_max_hnsw_ef", "hnsw_ef")

    def check_full_scan(self, wanted: models.Filter | None, m: int | None) -> None:
        """A search that would read every vector, as there is no graph, where exact searches are forbidden."""
        if self._config.get("search_allow_exact") is not False or m != 0:
            return
        paths = {path for path, _ in conditions_of(wanted)} if wanted is not None else set()
        if not any(self._indexes.get(path, {}).get("is_tenant") for path in paths):
            raise strict_mode(
                "Request is forbidden because global vector indexing is disabled (hnsw_config.m = 0)",
                "Use tenant-specific filter, enable global vector indexing or enable strict mode `search_allow_exact` "
                "option",
            )

    def check_groups(self, field: str) -> None:
        path = json_path(field)
        index = self._indexes.get(path)
        if self._config.get("unindexed_filtering_retrieve") is False and not supports_match(index):
            found = "Index required but not" if index is None else f'Index of type "{index["type"]}"'
            raise strict_mode(f'{found} found for "{path}"', "Create an index supporting `match` for this key.")

    def check_new_index(self) -> None:
        most = self._config.get("max_payload_index_count")
        if most is not None and len(self._indexes) >= most:
            raise strict_mode(
                f"Collection already has the maximum number of payload indices ({most})",
                "Please delete an existing index before creating a new one.",
            )

    def rate(self, kind: Literal["read", "write"]) -> int | None:
        rate: int | None = self._config.get(f"{kind}_rate_limit")
        return rate


def cost_of(wanted: models.Filter | None) -> int:
    """Tokens for a filter: its conditions and their values."""
    return 0 if wanted is None else sum(1 + _size(condition) for _, condition in conditions_of(wanted))


class Budget:
    """Tokens that refill within a minute."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._tokens = float(per_minute)
        self._seen = time.monotonic()

    def spend(self, cost: int, kind: Literal["read", "write"]) -> None:
        now = time.monotonic()
        self._tokens = min(self.per_minute, self._tokens + (now - self._seen) * self.per_minute / 60)
        self._seen = now
        started = f"Rate limiting exceeded: {kind.capitalize()} rate limit exceeded: Operation requires {cost} tokens"
        if cost > self.per_minute:
            raise RefusalError(429, f"{started} but the rate limiter has a capacity of {self.per_minute}")
        if cost > self._tokens:
            wait = max(1, math.ceil((cost - self._tokens) * 60 / self.per_minute))
            raise RefusalError(
                429, f"{started} but only {self._tokens:.1f} were available. Retry after {wait}s", retry_after=wait
            )
        self._tokens -= cost
