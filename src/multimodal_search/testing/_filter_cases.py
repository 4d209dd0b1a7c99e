"""Known answers for filters: which of some payloads pass."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from typing import Any

PAYLOADS: dict[str, dict[str, Any]] = {
    "dog": {"k": "dog"},
    "cat": {"k": "cat"},
    "Dog": {"k": "Dog"},
    "both": {"k": ["dog", "cat"]},
    "no text": {"k": ""},
    "true": {"k": True},
    "false": {"k": False},
    "0": {"k": 0},
    "1": {"k": 1},
    "1.0": {"k": 1.0},
    "1.5": {"k": 1.5},
    "-1": {"k": -1},
    "1 and 5": {"k": [1, 5]},
    "null": {"k": None},
    "no list": {"k": []},
    "null in a list": {"k": [None]},
    "missing": {},
    "new year": {"k": "2020-01-01"},
    "june in Berlin": {"k": "2020-06-01T12:00:00+02:00"},
    "nested dog": {"k": {"b": "dog"}},
    "nested null": {"k": {"b": None}},
    "list of nested": {"k": [{"b": "dog"}, {"b": "cat"}]},
    "odd names": {"my key": "dog", "a-b": "dog", "a.b": "dog", "clé": "dog", "not": "dog", "x[0]": "dog"},
    "two fields": {"k": "dog", "n": 7},
}
"""Payloads by a name for each."""

_ALL = set(PAYLOADS)
_EXISTS = _ALL - {"null", "no list", "missing", "odd names"}
_DOGS = {"dog", "both", "two fields"}
_NUMBERS = {"0", "1", "1.0", "1.5", "-1", "1 and 5"}

CASES: list[tuple[Mapping[str, Any], set[str]]] = [
    ({}, _ALL),
    # equality, in all its forms
    ({"k": "dog"}, _DOGS),
    ({"k": {"eq": "dog"}}, _DOGS),
    ({"k": {"ne": "dog"}}, _ALL - _DOGS),
    ({"not": {"k": "dog"}}, _ALL - _DOGS),
    ({"k": ""}, {"no text"}),
    ({"k": True}, {"true"}),
    ({"k": False}, {"false"}),
    ({"k": 1}, {"1", "1 and 5"}),
    ({"k": 0}, {"0"}),
    ({"k": 1.0}, {"1", "1.0", "1 and 5"}),
    ({"k": 1.5}, {"1.5"}),
    ({"k": {"ne": True}}, _ALL - {"true"}),
    ({"k": {"ne": 1.5}}, _ALL - {"1.5"}),
    # one of several
    ({"k": ["dog", "cat"]}, _DOGS | {"cat"}),
    ({"k": ("dog",)}, _DOGS),
    ({"k": {"in": ["dog", "bird"]}}, _DOGS),
    ({"k": {"in": ["cat", 0, 1.5, True, None]}}, {"cat", "both", "0", "1.5", "true"} | (_ALL - _EXISTS)),
    ({"k": {"in": [5, 6]}}, {"1 and 5"}),
    ({"k": []}, set()),
    ({"k": {"not_in": []}}, _ALL),
    ({"k": {"not_in": ["dog", "cat"]}}, _ALL - _DOGS - {"cat"}),
    # existence
    ({"k": None}, _ALL - _EXISTS),
    ({"k": {"eq": None}}, _ALL - _EXISTS),
    ({"k": {"exists": False}}, _ALL - _EXISTS),
    ({"k": {"exists": True}}, _EXISTS),
    ({"k": {"ne": None}}, _EXISTS),
    ({"k.b": {"exists": True}}, {"nested dog"}),
    # ranges of numbers, of one element where there are several
    ({"k": {"gte": 1}}, {"1", "1.0", "1.5", "1 and 5"}),
    ({"k": {"gt": 1}}, {"1.5", "1 and 5"}),
    ({"k": {"lt": 0}}, {"-1"}),
    ({"k": {"lte": 0.0}}, {"-1", "0"}),
    ({"k": {"gt": 0, "lt": 1.25}}, {"1", "1.0", "1 and 5"}),
    ({"k": {"gt": 1, "lt": 5}}, {"1.5"}),
    ({"k": {"gte": -1e300, "lte": 1e300}}, _NUMBERS),
    ({"k": {"gte": 0, "ne": 1}}, {"0", "1.0", "1.5"}),
    # ranges of times
    ({"k": {"gte": "2020-01-01"}}, {"new year", "june in Berlin"}),
    ({"k": {"gt": "2020-01-01"}}, {"june in Berlin"}),
    ({"k": {"lt": date(2020, 1, 2)}}, {"new year"}),
    ({"k": {"gte": datetime(2020, 6, 1, 10, tzinfo=timezone.utc)}}, {"june in Berlin"}),
    ({"k": {"gt": datetime(2020, 6, 1, 10)}}, set()),  # without a zone it is UTC
    ({"k": {"lte": datetime(2020, 6, 1, 5, tzinfo=timezone(timedelta(hours=-5)))}}, {"new year", "june in Berlin"}),
    ({"k": {"lt": "2020-06-01T10:00:00Z"}}, {"new year"}),
    # prefixes
    ({"k": {"prefix": "d"}}, _DOGS),
    ({"k": {"prefix": "2020-"}}, {"new year", "june in Berlin"}),
    ({"k": {"prefix": ""}}, _DOGS | {"cat", "Dog", "no text", "new year", "june in Berlin"}),
    # paths
    ({"k.b": "dog"}, {"nested dog"}),
    ({"k[].b": "dog"}, {"list of nested"}),
    ({"k[].b": {"prefix": "c"}}, {"list of nested"}),
    ({"my key": "dog"}, {"odd names"}),
    ({"a-b": "dog"}, {"odd names"}),
    ({"a.b": "dog"}, set()),
    ({'"a.b"': "dog"}, {"odd names"}),
    ({"clé": "dog"}, {"odd names"}),
    ({'"not"': "dog"}, {"odd names"}),
    ({"x[0]": "dog"}, {"odd names"}),
    # combinations
    ({"k": "dog", "n": 7}, {"two fields"}),
    ({"k": "dog", "n": {"exists": False}}, {"dog", "both"}),
    ({"and": [{"k": "dog"}, {"k": "cat"}]}, {"both"}),
    ({"or": [{"k": "cat"}, {"n": 7}]}, {"cat", "both", "two fields"}),
    ({"or": []}, set()),
    ({"and": []}, _ALL),
    ({"not": {}}, set()),
    ({"not": {"or": [{"k": {"exists": True}}, {"my key": "dog"}]}}, {"null", "no list", "missing"}),
    ({"k": {"exists": True}, "not": {"k": ["dog"]}, "or": [{"k": 1}, {"k": "cat"}]}, {"1", "1 and 5", "cat"}),
]
"""Filters, and the names of the payloads that pass."""

SENSELESS: list[tuple[Any, str]] = [
    ({"k": {"equals": 1}}, "equals"),
    ({"k": {}}, "operator"),
    ({"k": {"in": "dog"}}, "list"),
    ({"k": {"in": [["dog"]]}}, "str"),
    ({"k": {"exists": "yes"}}, "True or False"),
    ({"k": {"prefix": 1}}, "str"),
    ({"k": {"gte": "soon"}}, "ISO 8601"),
    ({"k": {"gte": True}}, "number"),
    ({"k": {"gte": 1, "lt": "2020-01-01"}}, "mixes"),
    ({"k": float("nan")}, "finite"),
    ({"k": 2**63}, "2\\^63"),
    ({"k": b"dog"}, "bytes|b'dog'"),
    ({"k": "\ud800"}, "k"),
    ({"": "dog"}, "no field"),
    ({"a..b": "dog"}, "no field"),
    ({'a"b': "dog"}, "double quotes"),
    ({1: "dog"}, "no field"),
    ({"and": {"k": "dog"}}, "list"),
    ({"or": ["dog"]}, "list"),
    ({"not": [{"k": "dog"}]}, "mapping"),
    ("k = 1", "mapping"),
]
"""Filters that mean nothing, and what the error's message says."""
