"""A store that is called directly with values of wrong types answers with a sentence, and goes on working."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multimodal_search import (
    ConfigurationError,
    ContentError,
    MemoryStore,
    MultimodalSearchError,
    QdrantEdgeStore,
    QdrantStore,
    QueryError,
    Record,
    StoreError,
    StoreSchema,
)
from multimodal_search.stores.local_socket import connect_store, serve_store

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny/2", dimension=2)
ROW = np.array([[1, 0]], np.float32)

MAKE: dict[str, Callable[[Path], Any]] = {
    "memory": lambda _: MemoryStore(),
    "edge": QdrantEdgeStore,
    "local mode": lambda _: QdrantStore("photos", location=":memory:"),
}


@pytest.fixture(params=[*MAKE, "served"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "served":
        with serve_store(MemoryStore(), tmp_path), contextlib.closing(connect_store(tmp_path)) as store:
            yield store
        return
    store = MAKE[request.param](tmp_path / "index")
    yield store
    store.close()


@pytest.fixture
def store(new: Any) -> Any:
    new.ensure(SCHEMA)
    new.upsert([Record(1, {"a": "red car"})], ROW)
    return new


WRONG: dict[str, tuple[Callable[[Any], object], type[MultimodalSearchError], str]] = {
    "get a number": (lambda store: store.get(1), ConfigurationError, "a list of them, not as 1"),
    "get None": (lambda store: store.get(None), ConfigurationError, "not as None"),
    "get a text": (lambda store: store.get("12"), ConfigurationError, "not as '12'"),
    "get bytes": (lambda store: store.get(b"\x01"), ConfigurationError, "a list of them"),
    "get no ids": (lambda store: store.get([None]), ConfigurationError, "an id is an integer"),
    "delete a number": (lambda store: store.delete(1), ConfigurationError, "a list of them, not as 1"),
    "delete a text": (lambda store: store.delete("12"), ConfigurationError, "not as '12'"),
    "scan one field": (lambda store: store.scan(fields="a"), QueryError, "fields are a list of names"),
    "scan no fields": (lambda store: store.scan(fields=1), QueryError, "not 1"),
    "scan no names": (lambda store: store.scan(fields=[1]), QueryError, r"not \[1\]"),
    "scan where": (lambda store: store.scan(where=1), QueryError, "a filter is a mapping"),
    "count where": (lambda store: store.count(1), QueryError, "a filter is a mapping"),
    "words": (lambda store: store.search_text(1, limit=1), QueryError, "are a str, not int"),
    "no fields": (lambda store: store.set_keyword_fields(None), ConfigurationError, "not None"),
    "one field": (lambda store: store.set_keyword_fields("a"), ConfigurationError, "not 'a'"),
    **{
        f"{name} {value!r}": (call, QueryError, f"^{name} must be a whole number, at least .*, not {value!r}")
        for value in ("3", None, 1.5, True, float("nan"), 2**70, -1)
        for name, call in {
            "limit": lambda store, value=value: store.search(ROW, limit=value),
            "offset": lambda store, value=value: store.search(ROW, limit=1, offset=value),
        }.items()
    },
    **{
        f"text limit {value!r}": (
            lambda store, value=value: store.search_text("a", limit=value),
            QueryError,
            f"^limit must be a whole number, at least 1 .*, not {value!r}",
        )
        for value in ("3", None, 1.5, True, float("nan"), 2**70, 0)
    },
    "search None": (lambda store: store.search(None, limit=1), QueryError, r"shape \(n, 2\)"),
    "search ragged rows": (lambda store: store.search([[1], [1, 2]], limit=1), QueryError, r"shape \(n, 2\)"),
    "upsert None": (lambda store: store.upsert(None, ROW), ConfigurationError, "a list of Record, not None"),
    "upsert an iterator": (lambda store: store.upsert(iter([Record(2)]), ROW), ConfigurationError, "a list of Record"),
    "upsert no records": (lambda store: store.upsert([2], ROW), ConfigurationError, r"not \[2\]"),
    "upsert no vectors": (lambda store: store.upsert([Record(2)], None), StoreError, r"shape \(1, 2\)"),
    "upsert ragged rows": (
        lambda store: store.upsert([Record(2), Record(3)], [[1], [1, 2]]),
        StoreError,
        r"shape \(2, 2\)",
    ),
    "a payload that is a list": (lambda store: store.upsert([Record(2, [1])], ROW), ContentError, r"of 2 .*\[1\]"),
    "no payload": (lambda store: store.upsert([Record(2, None)], ROW), ContentError, "of 2 .*None"),  # type: ignore[arg-type]
    "a name that is a number": (lambda store: store.upsert([Record(2, {1: 2})], ROW), ContentError, "of 2 .*no str"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_value_of_a_wrong_type_is_answered_by_a_sentence(store: Any, case: str) -> None:
    """At the call, also where records come lazily, and alike in every store: what breaks deep inside says nothing."""
    call, error, said = WRONG[case]
    with pytest.raises(error, match=said):
        call(store)
    assert store.count() == 1
    store.upsert([Record(2)], ROW)
    assert [match.id for match in store.search(ROW, limit=np.int64(5))[0]] == [1, 2]


@pytest.mark.parametrize("schema", [None, "tiny", {"dimension": 2}])
def test_a_store_is_opened_with_a_schema(new: Any, schema: object) -> None:
    with pytest.raises(ConfigurationError, match="ensure takes a StoreSchema"):
        new.ensure(schema)
    new.ensure(SCHEMA)
    assert new.count() == 0


def test_what_can_be_iterated_will_do(store: Any) -> None:
    """Tuples, sets, arrays and generators of ids have always been taken."""
    for ids in ((1,), {1}, np.array([1]), (each for each in [1])):
        assert [record.id for record in store.get(ids)] == [1]
    assert [dict(record.payload) for record in store.scan(fields=("a",))] == [{"a": "red car"}]
