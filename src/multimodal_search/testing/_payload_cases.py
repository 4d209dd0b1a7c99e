"""Payloads: awkward ones, and random ones with filters over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multimodal_search._extras import require

require("hypothesis", extra="testing", purpose="the contract of stores in multimodal_search.testing")
from hypothesis import strategies as st  # noqa: E402 (after the check that it is there)

_KEYS = st.sampled_from(["a", "b c", "n", "d.e"])
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(-3, 3).map(lambda n: n / 2),
    st.sampled_from(["", "x", "xy"]),
)
_VALUES = st.one_of(_SCALARS, st.lists(_SCALARS, max_size=3))
RANDOM_PAYLOADS = st.dictionaries(st.sampled_from(["a", "b c", "n"]), _VALUES, max_size=3)
"""Payloads of a few fields and values, so that many are alike."""

_CONDITIONS = st.one_of(
    _SCALARS,
    st.lists(_SCALARS, max_size=3),
    st.fixed_dictionaries({"gte": st.integers(-3, 3)}, optional={"lt": st.floats(-3, 3)}),
    st.fixed_dictionaries({"prefix": st.sampled_from(["", "x"])}),
    st.fixed_dictionaries({"glob": st.sampled_from(["*", "?", "x?", "*y", "[!x]*", "x"])}),
    st.fixed_dictionaries({"not_in": st.lists(_SCALARS, max_size=3)}),
    st.fixed_dictionaries({"exists": st.booleans(), "ne": _SCALARS}),
)
RANDOM_FILTERS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(_KEYS, _CONDITIONS, max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"or": st.lists(inner, max_size=2)}),
        st.fixed_dictionaries({"and": st.lists(inner, max_size=2)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=4,
)
"""Filters over the same fields, and some that no payload has."""

AWKWARD: list[dict[str, Any]] = [
    {},
    {"text": "Ünï¢ødé 日本 \U0001f3c4 \u200d \x00 \n 'quotes\" \\"},
    {"null": None, "yes": True, "no": False, "zero": 0},
    {"largest": 2**63 - 1, "smallest": -(2**63), "odd": 2**53 + 1, "time_ns": 1_700_000_000_123_456_789},
    {"nested": {"list": [1, [2, [3, {"deep": [None, {}]}]]], "empty": {}, "none": []}},
    {"one": 1, "float": 1.0, "half": 0.5, "tenth": 0.1, "huge": 1e308, "minus": -2.25},
    {"": 1, "a.b": 2, "a b": 3, 'q"uote': 4, "back\\slash": 5, "a[0]": 6, "ключ": 7},
    {"composed": "\u00e9", "decomposed": "e\u0301", "ligature": "\ufb01", "blanks": "  two  "},
    {"long": "x" * 100_000},
]
"""Payloads that something on the way might change."""


def types_of(value: Any) -> Any:
    """The types of a JSON value and of all values inside it."""
    if isinstance(value, Mapping):
        return {key: types_of(below) for key, below in value.items()}
    return [types_of(below) for below in value] if isinstance(value, list) else type(value)
