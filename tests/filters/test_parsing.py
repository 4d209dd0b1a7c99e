"""The neutral filter: how it is read, and what its errors say. What it finds is in the contract of stores."""

from __future__ import annotations

import enum
from datetime import date, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest
import qdrant_edge as edge
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client.local.json_path_parser import parse_json_path

from multimodal_search import MemoryStore, QdrantStore, QueryError, StoreSchema, VectorStore
from multimodal_search._bounds import MAX_CONDITIONS, MAX_PATH_LENGTH, MAX_PATTERN_LENGTH
from multimodal_search.filters.matching import passes
from multimodal_search.filters.nodes import (
    And,
    DatetimeRange,
    Equals,
    Exactly,
    Exists,
    FieldPath,
    Glob,
    In,
    Native,
    Node,
    Not,
    NumberRange,
    Or,
    Prefix,
    parse_time,
    top_level_path,
)
from multimodal_search.filters.parsing import parse_filter

K = FieldPath(("k",))
UTC = timezone.utc


class Label(str, enum.Enum):
    DOG = "dog"


class Year(enum.IntEnum):
    LAST = 2025


@pytest.mark.parametrize(
    ("where", "tree"),
    [
        ({}, And(())),
        ({"k": "dog"}, Equals(K, "dog")),
        ({"k": Label.DOG}, Equals(K, "dog")),
        ({"k": Year.LAST}, Equals(K, 2025)),
        ({"k": True}, Equals(K, True)),
        ({"k": np.bool_(True)}, Equals(K, True)),
        ({"k": np.int64(1)}, Equals(K, 1)),
        ({"k": np.float32(2)}, NumberRange(K, gte=2.0, lte=2.0)),
        ({"k": np.float32(0.5)}, NumberRange(K, gte=0.49999999999999994, lte=0.5000000000000001)),
        ({"k": np.str_("dog")}, Equals(K, "dog")),
        ({"k": None}, Not(Exists(K))),
        ({"k": {"exists": True}}, Exists(K)),
        ({"k": ["dog"]}, In(K, ("dog",))),
        ({"k": ["dog", "dog", 1, 1]}, Or((In(K, ("dog",)), In(K, (1,))))),
        ({"k": [1, True]}, Or((In(K, (1,)), Equals(K, True)))),
        ({"k": {"not_in": [1]}}, Not(In(K, (1,)))),
        ({"k": {"gte": 1, "lt": 2.5}}, NumberRange(K, gte=1.0, lt=2.5)),
        ({"k": {"gte": date(2020, 1, 2)}}, DatetimeRange(K, gte=datetime(2020, 1, 2, tzinfo=UTC))),
        ({"k": {"lt": "2020-01-02"}}, DatetimeRange(K, lt=datetime(2020, 1, 2, tzinfo=UTC))),
        ({"k": {"prefix": "a/"}}, Prefix(K, "a/")),
        ({"k": {"glob": "a/*"}}, Prefix(K, "a/")),
        ({"k": {"glob": "**"}}, Prefix(K, "")),
        ({"k": {"glob": "a/b"}}, Equals(K, "a/b")),
        ({"k": {"glob": "a[*]b[?][[]"}}, Equals(K, "a*b?[")),
        ({"k": {"glob": "x[!]"}}, Equals(K, "x[!]")),
        ({"k": {"glob": "a?"}}, Glob(K, "a?", prefix="a", infix="a")),
        ({"k": {"glob": "*abc*de"}}, Glob(K, "*abc*de", prefix="", infix="abc")),
        ({"k": {"glob": "a[!]x]b[[]c*d"}}, Glob(K, "a[!]x]b[[]c*d", prefix="a", infix="b[c")),
        ({"k": {"prefix": "a", "ne": "ab"}}, And((Prefix(K, "a"), Not(Equals(K, "ab"))))),
        ({"k": "é"}, In(K, ("é", "e\u0301"))),
        ({"k": "e\u0301"}, In(K, ("e\u0301", "é"))),
        ({"k": ["a", "é"]}, In(K, ("a", "é", "e\u0301"))),
        ({"k": {"not_in": ["é"]}}, Not(In(K, ("é", "e\u0301")))),
        ({"k": {"prefix": "é/"}}, Or((Prefix(K, "é/"), Prefix(K, "e\u0301/")))),
        ({"k": {"glob": "e\u0301*"}}, Or((Prefix(K, "é"), Prefix(K, "e\u0301")))),
        ({"k": {"glob": "e\u0301?"}}, Glob(K, "é?", prefix="é", infix="é")),
        ({"k": Exactly("é")}, Equals(K, "é")),
        ({"k": [Exactly("é")]}, In(K, ("é",))),
        ({"k": {"prefix": Exactly("é")}}, Prefix(K, "é")),
        ({"k": "日本"}, Equals(K, "日本")),
        ({"k": 1, "j": 2}, And((Equals(K, 1), Equals(FieldPath(("j",)), 2)))),
        ({"or": [{"k": 1}, {}], "not": {"k": 2}}, And((Or((Equals(K, 1), And(()))), Not(Equals(K, 2))))),
    ],
    ids=str,
)
def test_a_filter_becomes_a_tree(where: dict[str, Any], tree: Node) -> None:
    """Every store translates the tree: what is not in it cannot be found by any of them."""
    parsed = parse_filter(where)
    assert parsed == tree
    assert repr(parsed) == repr(tree)  # 1 == True == 1.0, but they are not the same to a filter


@pytest.mark.parametrize(
    ("text", "steps", "json_path"),
    [
        ("a", ("a",), "a"),
        ("a.b", ("a", "b"), "a.b"),
        ("a[].b", ("a", None, "b"), "a[].b"),
        ("a[][]", ("a", None, None), "a[][]"),
        ("a-b_c9", ("a-b_c9",), "a-b_c9"),
        ("my key.x", ("my key", "x"), '"my key".x'),
        ('"a.b".c', ("a.b", "c"), '"a.b".c'),
        ('"a[]"', ("a[]",), '"a[]"'),
        ("a[0]", ("a[0]",), '"a[0]"'),
        ('""', ("",), '""'),
        ("clé", ("clé",), '"clé"'),
        ("a\n", ("a\n",), '"a\n"'),
        ("[]", ("[]",), '"[]"'),
    ],
)
def test_paths_are_written_as_qdrant_reads_them(text: str, steps: tuple[str | None, ...], json_path: str) -> None:
    """Both readers of Qdrant's path syntax, the engine's and local mode's, must read the same keys."""
    path = FieldPath.parse(text)
    assert path.steps == steps
    assert path.json_path == json_path
    assert edge.IsEmptyCondition(json_path).key.replace('"', "") == json_path.replace('"', "")
    assert [item.key for item in parse_json_path(json_path)] == list(steps)


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "\udce9", 'a"b', '"a', '"a"b', 'a."', 1, None, ("a",)])
def test_what_is_no_path_is_refused(text: Any) -> None:
    with pytest.raises(QueryError, match="is no field"):
        FieldPath.parse(text)


@given(st.text().filter(lambda key: not set(key) & set('"\\')))
def test_any_key_of_a_payload_can_be_asked_for(key: str) -> None:
    """Users name their fields as they like."""
    path = top_level_path(key)
    assert path is not None
    edge.IsEmptyCondition(path)
    assert [item.key for item in parse_json_path(path)] == [key]
    assert passes(Exists(FieldPath.parse(f'"{key}"')), {key: 1})


@pytest.mark.parametrize("key", ['a"b', "a\\b"])
def test_a_key_that_qdrant_has_no_way_to_write_is_refused(key: str) -> None:
    """Its paths know no escapes; `scan` then reads whole payloads, and picks."""
    assert top_level_path(key) is None
    with pytest.raises(ValueError, match="invalid JSON path"):
        edge.IsEmptyCondition(f'"{key}"')
    with pytest.raises(QueryError, match="double quotes or backslashes"):
        parse_filter({key: 1})


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2020-02-29", datetime(2020, 2, 29, tzinfo=UTC)),
        ("2020-02-29T12:30", datetime(2020, 2, 29, 12, 30, tzinfo=UTC)),
        ("2020-02-29 12:30:01", datetime(2020, 2, 29, 12, 30, 1, tzinfo=UTC)),
        ("2020-02-29T12:30:01Z", datetime(2020, 2, 29, 12, 30, 1, tzinfo=UTC)),
        ("2020-02-29T12:30:01z", datetime(2020, 2, 29, 12, 30, 1, tzinfo=UTC)),
        ("2020-02-29 12:30:01 UTC", datetime(2020, 2, 29, 12, 30, 1, tzinfo=UTC)),
        ("2020-02-29T12:30:01.5+02:00", datetime(2020, 2, 29, 10, 30, 1, 500_000, tzinfo=UTC)),
        ("2020-02-29T12:30:01-0330", datetime(2020, 2, 29, 16, 0, 1, tzinfo=UTC)),
        ("2020-02-29T12:30:01+02", datetime(2020, 2, 29, 10, 30, 1, tzinfo=UTC)),
        ("2020-02-29T12:30:01.123456789Z", datetime(2020, 2, 29, 12, 30, 1, 123_456, tzinfo=UTC)),
        ("0001-01-01", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC)),
        ("2021-02-29", None),
        ("2020-13-01", None),
        ("2020", None),
        ("2020-02", None),
        ("20200229", None),
        ("2020-W09-6", None),
        ("12:30", None),
        ("2020-02-29T12", None),
        ("2020-02-29T12:30Z", None),
        ("", None),
        ("dog", None),
    ],
)
def test_times_are_what_the_engine_takes_for_times(text: str, time: datetime | None) -> None:
    """In Python 3.10 and 3.11 `fromisoformat` reads less and more than this: what is a time would hang on that."""
    assert parse_time(text) == time
    if time is None:
        with pytest.raises(ValueError, match="date-time"):
            edge.RangeDateTime(gte=text)
    else:
        edge.RangeDateTime(gte=text)


def test_times_with_zones_compare_at_the_ends_of_time() -> None:
    """The first and last moments have no equal in UTC, where Python would overflow."""
    first = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
    node = parse_filter({"k": {"gte": first, "lte": datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))}})
    assert passes(node, {"k": "0001-01-01T00:00:00Z"})
    assert passes(node, {"k": "9999-12-31T23:59:59Z"})


@given(st.text("a*?[]!-^", max_size=8), st.text("a*?[]!-^", max_size=5))
def test_a_glob_means_what_fnmatch_says(pattern: str, text: str) -> None:
    """However it is split into what an engine can look for, and what is decided here."""
    node = parse_filter({"k": {"glob": pattern}})
    expected = fnmatchcase(text, pattern)
    assert passes(node, {"k": text}) == expected
    if isinstance(node, Glob) and expected:
        assert text.startswith(node.prefix)
        assert node.infix in text


def test_a_stores_own_filter_may_stand_where_a_neutral_one_may() -> None:
    """A library on top can add a condition of its own to whatever its caller gave."""
    own = edge.Filter(must=[edge.IsEmptyCondition("a")])
    native = Native(own)
    assert parse_filter(own, native=edge.Filter) == native
    assert parse_filter({"and": [own, {"k": 1}]}, native=edge.Filter) == And((native, Equals(K, 1)))
    assert parse_filter({"not": {"or": [own]}}, native=edge.Filter) == Not(Or((native,)))


@pytest.mark.parametrize("store", [MemoryStore(), QdrantStore("photos", location=":memory:")], ids=repr)
def test_another_stores_filter_is_refused_wherever_it_stands(store: VectorStore) -> None:
    """Passed on, it would fail deep inside an SDK, or mean nothing."""
    own = edge.Filter(must=[edge.IsEmptyCondition("a")])
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=2))
    for where in (own, {"and": [own]}, {"or": [{"a": 1}, own]}, {"not": own}, {"not": {"and": [own]}}):
        with pytest.raises(QueryError, match=r"a mapping.*not .*Filter"):
            store.count(where)
    with pytest.raises(QueryError, match=r"'k'.*not .*Filter"):
        store.count({"k": own})
    store.close()


def test_errors_name_the_field_the_operator_and_what_is_allowed() -> None:
    with pytest.raises(QueryError) as caught:
        parse_filter({"exif": {"camera": "X100"}})
    assert str(caught.value) == (
        "the filter on the field 'exif' has no operator 'camera'; allowed are eq, ne, in, not_in, exists, prefix, "
        "glob, gte, gt, lte, lt (a key inside the field is written 'exif.key')"
    )
    with pytest.raises(QueryError, match=r"the filter on the field 'year': 'gte' takes a number, .* not 'twenty'"):
        parse_filter({"year": {"gte": "twenty"}})
    with pytest.raises(QueryError, match=r"'or' in a filter takes a list of filters.* '\"or\"', in double quotes"):
        parse_filter({"or": "gold"})


def test_a_filter_that_is_wrong_deep_inside_is_refused() -> None:
    with pytest.raises(QueryError, match="'lessthan'"):
        parse_filter({"or": [{"a": 1}, {"not": {"and": [{"b": {"lessthan": 3}}]}}]})


OPERATORS = "eq, ne, in, not_in, exists, prefix, glob, gte, gt, lte, lt"
WRITTEN = "(a key inside the field is written 'k.key')"
QUOTED = "a payload field of that name is written '\"{}\"', in double quotes"


@pytest.mark.parametrize(
    ("where", "native", "message"),
    [
        (7, None, "a filter is a mapping, not int"),
        (MemoryStore, None, "a filter is a mapping, not type"),
        (K, None, "a filter is a mapping, not multimodal_search.filters.nodes.FieldPath"),
        ([], FieldPath, "a filter is a mapping or the store's own multimodal_search.filters.nodes.FieldPath, not list"),
        ({"not": 7}, None, "'not' in a filter takes one filter (a mapping), not 7"),
        ({"not": 7}, set, "'not' in a filter takes one filter (a mapping or the store's own set), not 7"),
        (
            {"and": "xy"},
            None,
            "'and' in a filter takes a list of filters (each a mapping), not 'xy'; " + QUOTED.format("and"),
        ),
        (
            {"and": {}},
            None,
            "'and' in a filter takes a list of filters (each a mapping), not {}; " + QUOTED.format("and"),
        ),
        (
            {"or": [{}, 7]},
            set,
            "'or' in a filter takes a list of filters (each a mapping or the store's own set), not [{}, 7]; "
            + QUOTED.format("or"),
        ),
        (
            {"k": {}},
            None,
            f"the filter on the field 'k' names no operator; allowed are {OPERATORS} {WRITTEN}",
        ),
        (
            {"k": {"gte": 1, "lt": "2020-01-01"}},
            None,
            "the filter on the field 'k' mixes numbers and times: gte against lt",
        ),
    ],
)
def test_an_error_says_what_a_filter_is(where: Any, native: type | None, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_filter(where, native=native)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("operator", "operand", "wanted"),
    [
        *[(name, b"x", "str, bool, None, finite floats") for name in ("eq", "ne", "prefix", "glob")],
        *[(name, [b"x"], "str, bool, None, finite floats") for name in ("in", "not_in")],
        *[(name, "dog", "a list, not 'dog'") for name in ("in", "not_in")],
        ("exists", 1, "True or False, not 1"),
        ("prefix", 1, "a str, not 1"),
        ("glob", 1, "a str, not 1"),
        *[(name, True, "a number, a date, a datetime or an ISO 8601 text") for name in ("gte", "gt", "lte", "lt")],
        *[(name, None, "a number, a date, a datetime or an ISO 8601 text") for name in ("gte", "gt", "lte", "lt")],
        *[(name, float("nan"), "str, bool, None, finite floats") for name in ("gte", "gt", "lte", "lt")],
    ],
    ids=str,
)
def test_an_error_names_the_operator(operator: str, operand: Any, wanted: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_filter({"k": {operator: operand}})
    assert f"the filter on the field 'k': '{operator}' takes {wanted}" in str(caught.value)


def test_a_value_that_stands_for_itself_is_refused_as_equal_to_something() -> None:
    with pytest.raises(QueryError, match="'k': 'eq' takes"):
        parse_filter({"k": b"x"})
    with pytest.raises(QueryError, match="'k': 'in' takes"):
        parse_filter({"k": [b"x"]})


@pytest.mark.parametrize("number", [-(2**63), 2**63 - 1, np.int64(-(2**63)), np.uint64(2**63 - 1)])
def test_integers_are_those_of_64_bits(number: int) -> None:
    assert parse_filter({"k": number}) == Equals(K, int(number))
    for beyond in (-(2**63) - 1, 2**63, np.uint64(2**63)):
        with pytest.raises(QueryError, match=r"integers from -2\^63 to 2\^63-1"):
            parse_filter({"k": beyond})
    with pytest.raises(QueryError, match="finite floats"):
        parse_filter({"k": float("inf")})


def test_a_filter_has_bounds() -> None:
    """It may come over a network; a pattern of many stars would keep a processor busy for minutes."""
    with pytest.raises(QueryError, match=r"the glob .* on the field 'k' .*characters"):
        parse_filter({"k": {"glob": "?" * (MAX_PATTERN_LENGTH + 1)}})
    parse_filter({"k": {"glob": "?" * MAX_PATTERN_LENGTH}})
    with pytest.raises(QueryError, match=r"the field .*characters"):
        parse_filter({"k" * (MAX_PATH_LENGTH + 1): 1})
    assert FieldPath.parse("k" * MAX_PATH_LENGTH).steps == ("k" * MAX_PATH_LENGTH,)
    many = {"or": [{"k": number} for number in range(MAX_CONDITIONS)]}
    with pytest.raises(QueryError, match=r"^the filter "):
        parse_filter(many)


SENSELESS: list[tuple[Any, str]] = [
    ({"k": {"equals": 1}}, "equals"),
    ({"k": {}}, "operator"),
    ({"k": {"in": "dog"}}, "list"),
    ({"k": {"in": [["dog"]]}}, "str"),
    ({"k": {"exists": "yes"}}, "True or False"),
    ({"k": {"prefix": 1}}, "str"),
    ({"k": {"glob": 1}}, "'glob' takes a str"),
    ({"k": {"glob": None}}, "str"),
    ({"k": {"glob": ["*.jpg", "*.png"]}}, "str"),
    ({"k": {"glob": b"*.jpg"}}, "str"),
    ({"and": [{"k": "dog"}, object()]}, "list of filters"),
    ({"not": object()}, "mapping"),
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


@pytest.mark.parametrize(("where", "said"), SENSELESS, ids=range(len(SENSELESS)))
def test_a_filter_without_sense_says_what_is_wrong(where: Any, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        parse_filter(where)
