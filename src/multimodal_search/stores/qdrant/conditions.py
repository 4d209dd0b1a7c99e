"""The conditions of qdrant-client's filters, for the translation of the neutral filter."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from multimodal_search.filters.nodes import DatetimeRange, NumberRange
from multimodal_search.stores.qdrant_shared.filters import Conditions


@cache
def conditions() -> Conditions:
    """The constructors of qdrant-client's conditions."""
    from qdrant_client import models

    def on(path: str, **condition: Any) -> Any:
        return models.FieldCondition(key=path, **condition)

    def between(path: str, node: NumberRange) -> Any:
        least, most = node.gte, node.lte
        if node.is_equality and least is not None and most is not None:
            # As JSON, these bounds may arrive one unit in the last place off, too.
            least, most = math.nextafter(least, -math.inf), math.nextafter(most, math.inf)
        return on(path, range=models.Range(gte=least, gt=node.gt, lte=most, lt=node.lt))

    def during(path: str, node: DatetimeRange) -> Any:
        return on(path, range=models.DatetimeRange(gte=node.gte, gt=node.gt, lte=node.lte, lt=node.lt))

    return Conditions(
        native=models.Filter,
        must=lambda parts: models.Filter(must=parts),
        should=lambda parts: models.Filter(should=parts),
        must_not=lambda parts: models.Filter(must_not=parts),
        equals=lambda path, value: on(path, match=models.MatchValue(value=value)),
        one_of=lambda path, values: on(path, match=models.MatchAny(any=values)),
        between=between,
        during=during,
        starts_with=lambda path, prefix: on(path, match=models.MatchPrefix(prefix=prefix)),
        contains=lambda path, text: on(path, match=models.MatchSubstring(substring=text)),
        is_empty=lambda path: models.IsEmptyCondition(is_empty=models.PayloadField(key=path)),
        has_id=lambda ids: models.HasIdCondition(has_id=list(ids)),
    )
