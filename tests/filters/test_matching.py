"""Which payloads pass, decided in Python: the stores' contract says the same of every engine."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest

from multimodal_search import QueryError
from multimodal_search.filters.matching import elements, passes, passing_values
from multimodal_search.filters.nodes import And, Equals, FieldPath, Native, Not, NumberRange, Or, parse_time
from multimodal_search.filters.parsing import parse_filter
from multimodal_search.testing._filter_cases import CASES, PAYLOADS

K = FieldPath(("k",))


@pytest.mark.parametrize(("where", "passing"), CASES, ids=range(len(CASES)))
def test_the_payloads_that_pass(where: dict[str, Any], passing: set[str]) -> None:
    """The contract's known answers, without a store between."""
    node = parse_filter(where)
    assert {name for name, payload in PAYLOADS.items() if passes(node, payload)} == passing


@pytest.mark.parametrize(
    ("where", "payload", "expected"),
    [
        ({"k": {"exists": True}}, {"k": [[]]}, True),
        ({"k": {"exists": True}}, {"k": [None]}, True),
        ({"k[]": {"exists": True}}, {"k": [None, 1]}, True),
        ({"k[]": {"exists": True}}, {"k": [None, []]}, False),
        ({"k[]": {"exists": True}}, {"k": []}, False),
        ({"k": [1, 2]}, {"k": 2}, True),
        ({"k": [1, 2]}, {"k": 2.0}, True),
        ({"k": [1, 2]}, {"k": True}, False),
        ({"k": ["a", "b"]}, {"k": "b"}, True),
        ({"k": 1}, {"k": True}, False),
        ({"k": 1}, {"k": 1.0}, True),
        ({"k": 1}, {"k": 1.0000000000000002}, False),
        ({"k": 1.0}, {"k": 1.0000000000000002}, False),
        ({"k": 0.1}, {"k": math.nextafter(0.1, 1)}, True),
        ({"k": 0.1}, {"k": math.nextafter(0.1, 0)}, True),
        ({"k": 0.1}, {"k": 0.1 + 3e-17}, False),
        ({"k": [0.1, "a"]}, {"k": math.nextafter(0.1, 1)}, True),
        ({"k": {"ne": 0.1}}, {"k": math.nextafter(0.1, 1)}, False),
        ({"k": {"gte": 0.1}}, {"k": math.nextafter(0.1, 0)}, False),
        ({"k": 1e300}, {"k": math.nextafter(1e300, 0)}, True),
        ({"k": -sys.float_info.max}, {"k": -sys.float_info.max}, True),
        ({"k": 2**53 + 1}, {"k": 2**53}, False),
        ({"k": 2**53}, {"k": 2.0**53}, False),  # where floats are as far apart as integers, or farther
        ({"k": 2**53 - 1}, {"k": 2.0**53 - 1}, True),
        ({"k": True}, {"k": 1}, False),
        ({"k": {"gte": 0}}, {"k": True}, False),
        ({"k": {"gte": 0}}, {"k": "1"}, False),
        ({"k": {"gte": 2**53 + 1}}, {"k": 2**53}, True),  # the same in 64-bit floats
        ({"k": {"gte": "2020-01-01"}}, {"k": 2021}, False),
        ({"k": {"lt": "2021-01-01"}}, {"k": "soon"}, False),
        ({"k": {"prefix": ""}}, {"k": 1}, False),
        ({"k": {"glob": "?"}}, {"k": 1}, False),
        ({"k[]": 1}, {"k": [[1], 2]}, True),
        ({"k": 1}, {"k": [[1], 2]}, False),
    ],
    ids=str,
)
def test_the_edges_of_what_passes(where: dict[str, Any], payload: dict[str, Any], expected: bool) -> None:
    assert passes(parse_filter(where), payload) is expected


@pytest.mark.parametrize(
    ("bounds", "passing"),
    [
        ({"gte": 1.0}, [1, 2]),
        ({"gt": 1.0}, [2]),
        ({"lte": 1.0}, [0, 1]),
        ({"lt": 1.0}, [0]),
        ({"gte": 0.5, "gt": 1.0}, [2]),
        ({"lte": 1.5, "lt": 1.0}, [0]),
        ({"gt": 0.0, "lt": 2.0}, [1]),
        ({"gte": 1.0, "lte": 1.0}, [1]),
    ],
    ids=str,
)
def test_all_bounds_of_a_range_hold(bounds: dict[str, float], passing: list[int]) -> None:
    node = NumberRange(K, **bounds)
    assert [value for value in range(3) if passes(node, {"k": value})] == passing
    assert passing_values(node, {"k": [0, 1, 2, "1", None]}) == passing


def test_the_values_that_make_a_payload_pass() -> None:
    """Those that a hit shows as the reason; of another type or place, none."""
    assert passing_values(Equals(K, "a"), {"k": ["a", "b", "a"]}) == ["a", "a"]
    assert passing_values(Equals(K, "a"), {"k": "a"}) == ["a"]
    assert passing_values(Equals(K, "a"), {"j": "a"}) == []


def test_lists_are_taken_apart_once() -> None:
    assert list(elements(K, {"k": [1, [2, 3]]})) == [1, [2, 3]]
    assert list(elements(K, {"k": "ab"})) == ["ab"]


def test_no_parts_and_nested_parts() -> None:
    yes, no = And(()), Or(())
    assert (passes(yes, {}), passes(no, {}), passes(Not(yes), {}), passes(Not(no), {})) == (True, False, False, True)
    assert (passes(And((yes, no)), {}), passes(Or((no, yes)), {})) == (False, True)


def test_another_stores_filter_cannot_be_matched() -> None:
    with pytest.raises(QueryError, match="outside of that store"):
        passes(Native(object()), {"k": 1})


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        (" 2020-02-29", "2020-02-29T00:00:00+00:00"),
        ("2020-02-29T01:02:03.1", "2020-02-29T01:02:03.100000+00:00"),
        ("2020-02-29T01:02:03.1234567", "2020-02-29T01:02:03.123456+00:00"),
        ("2020-02-29T01:02:03-00:30", "2020-02-29T01:02:03-00:30"),
        ("2020-02-29T01:02:03 +05:45", "2020-02-29T01:02:03+05:45"),
        ("2020-02-29T01:02:03 UTC", "2020-02-29T01:02:03+00:00"),
        ("2020-02-29T01:02:03+00:00", "2020-02-29T01:02:03+00:00"),
    ],
)
def test_times_keep_their_zone(text: str, iso: str) -> None:
    time = parse_time(text)
    assert time is not None
    assert time.isoformat() == iso
