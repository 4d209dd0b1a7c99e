"""Check of a payload index: whether filters on a field count what the payloads hold."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from operator import methodcaller
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from multimodal_search.errors import StoreClosedError, StoreError
from multimodal_search.filters.matching import elements, passes
from multimodal_search.filters.nodes import Exists, FieldPath, parse_time
from multimodal_search.stores.qdrant_edge.engine import engine
from multimodal_search.stores.qdrant_edge.folder import EdgeFolder
from multimodal_search.types import Filter

NO_INDEX: Final = ""
"""In place of a kind, for a field without an index: filters read all payloads."""

_RANGES = 64  # that a field's numbers are counted in; of 118,000 points that takes 20 ms
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class FieldCheck:
    """The values of one field in all payloads, to compare with what the engine counts.

    Args:
        at: The field.
        kind: The kind of its payload index, or `NO_INDEX`.
    """

    def __init__(self, at: FieldPath, kind: str) -> None:
        self._at = at
        self._kind = kind
        self._points = 0
        self._filled = 0
        self._values: Counter[str | bool] = Counter()  # points that have each
        self._numbers: list[float] = []
        self._owners: list[int] = []  # of the numbers

    def add(self, payload: Mapping[str, Any]) -> None:
        """Add the payload of the next point."""
        self._points += 1
        if not passes(Exists(self._at), payload):
            return
        self._filled += 1
        values = list(elements(self._at, payload))
        match self._kind:
            case "keyword":
                self._values.update({value for value in values if isinstance(value, str)})
            case "bool":
                self._values.update({value for value in values if isinstance(value, bool)})
            case "float":
                self._add_numbers([float(value) for value in values if type(value) in (int, float)])
            case "datetime":
                times = [parse_time(value) for value in values if isinstance(value, str)]
                self._add_numbers([(time - _EPOCH) // timedelta(microseconds=1) for time in times if time is not None])

    def problem(self, folder: EdgeFolder, count: Callable[[Filter], int]) -> str | None:
        """The problem with filters on the field; None if there is none.

        Args:
            folder: The index.
            count: How many points pass a filter.

        Raises:
            StoreClosedError: It is closed.
        """
        edge = engine()
        there = edge.Filter(must_not=[edge.IsEmptyCondition(self._at.json_path)])  # also of the words of points
        try:
            is_right = count(there) == self._filled and self._counts_right(folder, count)
        except StoreClosedError:
            raise
        except StoreError as error:
            what = f"filters on {self._at}" if self._kind else "filters on fields without a payload index"
            return f"{what} fail: {error}"
        if is_right:
            return None
        return f"the payload index of '{self._at}' is damaged: filters on it do not find what is stored"

    def _add_numbers(self, numbers: list[float]) -> None:
        self._numbers += numbers
        self._owners += [self._points] * len(numbers)

    def _counts_right(self, folder: EdgeFolder, count: Callable[[Filter], int]) -> bool:
        field = str(self._at)
        match self._kind:
            case "keyword":
                request = engine().FacetRequest(field, limit=len(self._values) + 1, exact=True)
                hits = folder.run(methodcaller("facet", request)).hits
                return {hit.value: hit.count for hit in hits if hit.count} == self._values
            case "bool":
                return all(count({field: value}) == self._values[value] for value in (True, False))
            case "float" | "datetime" if self._numbers:
                edges, expected = self._ranges()
                bounds = [self._bound(edge) for edge in edges]
                found = [count({field: {"gte": low, "lt": high}}) for low, high in itertools.pairwise(bounds)]
                found.append(count({field: {"gte": bounds[-1]}}))
                return found == expected and count({field: {"lt": bounds[0]}}) == 0
        return True

    def _ranges(self) -> tuple[npt.NDArray[Any], list[int]]:
        """The lower edges of ranges with about equally many numbers, and how many points have a number in each."""
        numbers = np.array(self._numbers)
        edges = np.unique(np.sort(numbers)[np.linspace(0, len(numbers) - 1, _RANGES).astype(int)])
        places = np.searchsorted(edges, numbers, side="right") - 1
        once = np.unique(np.array(self._owners) * len(edges) + places)
        return edges, np.bincount(once % len(edges), minlength=len(edges)).tolist()

    def _bound(self, edge: Any) -> float | datetime:
        return float(edge) if self._kind == "float" else _EPOCH + timedelta(microseconds=int(edge))
