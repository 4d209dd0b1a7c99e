"""The conditions of the engine's filters, for the translation of the neutral filter."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cache
from typing import Any

import numpy as np

from multimodal_search.filters.nodes import DatetimeRange, NumberRange
from multimodal_search.stores.qdrant_edge.engine import engine
from multimodal_search.stores.qdrant_shared.filters import Conditions


def _time_text(moment: datetime) -> str:
    """A time in UTC: the engine cannot parse offsets with seconds, as local times before 1900 have."""
    try:
        return moment.astimezone(timezone.utc).isoformat()
    except OverflowError:  # in the first or last hours that there are
        return moment.replace(tzinfo=timezone.utc).isoformat()


@cache
def conditions() -> Conditions:
    """The constructors of the engine's conditions."""
    edge = engine()

    def on(path: str, **condition: Any) -> Any:
        return edge.FieldCondition(path, **condition)

    def between(path: str, node: NumberRange) -> Any:
        return on(path, range=edge.RangeFloat(gte=node.gte, gt=node.gt, lte=node.lte, lt=node.lt))

    def during(path: str, node: DatetimeRange) -> Any:
        bounds = ((name, getattr(node, name)) for name in ("gte", "gt", "lte", "lt"))
        texts = {name: None if bound is None else _time_text(bound) for name, bound in bounds}
        return on(path, range=edge.RangeDateTime(**texts))

    def equals(path: str, value: str | bool | int) -> Any:
        # The binding takes Python's bools for the integers 0 and 1; it knows NumPy's for what they are.
        return on(path, match=edge.MatchValue(np.bool_(value) if isinstance(value, bool) else value))

    return Conditions(
        native=edge.Filter,
        must=lambda parts: edge.Filter(must=parts),
        should=lambda parts: edge.Filter(should=parts),
        must_not=lambda parts: edge.Filter(must_not=parts),
        equals=equals,
        one_of=lambda path, values: on(path, match=edge.MatchAny(values)),
        between=between,
        during=during,
        starts_with=lambda path, prefix: on(path, match=edge.MatchPrefix(prefix)),
        contains=lambda path, text: on(path, match=edge.MatchSubstring(text)),
        is_empty=edge.IsEmptyCondition,
        has_id=lambda ids: edge.HasIdCondition(set(ids)),
    )
