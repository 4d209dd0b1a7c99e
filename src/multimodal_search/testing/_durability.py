"""What must hold across processes: nothing that was written is lost, and two processes do not damage each other."""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

import json
from collections.abc import Callable
from typing import ClassVar

import pytest

from multimodal_search.protocols import VectorStore
from multimodal_search.testing._child import output_of, run_and_kill
from multimodal_search.testing._points import CLOSE, SCHEMA, axes, uuid
from multimodal_search.types import PointId, Record, StoreSchema

KEEPS_NOTHING = "this store is not persistent"

BEGIN = """
import json, sys
from multimodal_search.errors import StoreLockedError
from multimodal_search.testing._points import SCHEMA, axes
from multimodal_search.types import Record

def opened():
    names = {}
    exec(sys.argv[1], names)
    names["store"].ensure(SCHEMA)
    return names["store"]
"""
"""How a program begins that gets the code of `in_child`."""

_WRITE = (
    BEGIN
    + """
store = opened()
store.upsert([Record(n, {"v": 1}) for n in (1, 2, 3)], axes(1, 2, 3))
if sys.argv[2] == "replaced":
    store.upsert([Record(2, {"v": 2})], axes(4))
if sys.argv[2] == "deleted":
    store.delete([2])
"""
)

_SHARE = (
    BEGIN
    + """
try:
    store = opened()
except StoreLockedError:
    print(json.dumps(None))
else:
    seen = [record.id for record in store.scan()]
    store.upsert([Record(2)], axes(1))
    store.close()
    print(json.dumps(seen))
"""
)


class DurabilityContract:
    """A part of `VectorStoreContract`."""

    persistent: ClassVar[bool]

    def test_what_was_stored_is_there_after_opening_anew(self, open_store: Callable[[], VectorStore]) -> None:
        """An index outlives the program that made it, and still knows whose vectors it holds."""
        if not self.persistent:
            pytest.skip(KEEPS_NOTHING)
        store = open_store()
        store.ensure(SCHEMA)
        store.upsert([Record(1, {"a": "é"}), Record(uuid(2)), Record(3)], axes(0, 1, 2))
        store.delete([3])
        store.close()
        store = open_store()
        other = StoreSchema(model="other", fingerprint="other-1", dimension=SCHEMA.dimension)
        assert store.ensure(other) == SCHEMA
        assert list(store.scan()) == [Record(1, {"a": "é"}), Record(uuid(2))]
        assert [match.id for match in store.search(axes(1), limit=1)[0]] == [uuid(2)]
        store.close()

    @pytest.mark.parametrize("written", ["inserted", "replaced", "deleted"])
    def test_what_was_written_survives_a_kill(
        self, open_store: Callable[[], VectorStore], in_child: str, written: str
    ) -> None:
        """A run that is killed, by the system for one, loses nothing that `upsert` and `delete` returned from."""
        run_and_kill(_WRITE, in_child, written)
        store = open_store()
        assert store.ensure(SCHEMA) == SCHEMA
        expected: dict[PointId, tuple[int, int]] = {1: (1, 1), 2: (1, 2), 3: (1, 3)}  # value and axis
        if written == "replaced":
            expected[2] = (2, 4)
        elif written == "deleted":
            del expected[2]
        assert list(store.scan()) == [Record(point_id, {"v": value}) for point_id, (value, _) in expected.items()]
        for point_id, (value, axis) in expected.items():
            assert store.count({"v": value}) == len([each for each, _ in expected.values() if each == value])
            match = store.search(axes(axis), limit=1)[0][0]
            assert (match.id, match.payload) == (point_id, {"v": value})
            assert match.score == pytest.approx(1, abs=CLOSE)
        store.upsert([Record(4)], axes(0))
        assert store.count() == len(expected) + 1
        store.close()

    def test_another_process_is_refused_or_sees_everything(
        self, open_store: Callable[[], VectorStore], in_child: str
    ) -> None:
        """Two processes that each write what they know would lose the other's points: `StoreLockedError` is an answer.

        A store that is shared by nature, as a server's, shows each process what the other has written instead.
        """
        store = open_store()
        store.ensure(SCHEMA)
        store.upsert([Record(1)], axes(0))
        seen = json.loads(output_of(_SHARE, in_child))
        stored: list[PointId] = [1] if seen is None else [1, 2]
        assert seen in (None, [1])
        assert [record.id for record in store.scan()] == stored
        assert [match.id for match in store.search(axes(1), limit=2)[0]] == stored[::-1]
        store.upsert([Record(3)], axes(2))
        store.close()
        assert json.loads(output_of(_SHARE, in_child)) == [*stored, 3], "once it is closed, another may open it"
        store = open_store()
        store.ensure(SCHEMA)
        assert [record.id for record in store.scan()] == [1, 2, 3]
        store.close()

    @pytest.fixture
    def in_child(self) -> str:
        """Python code that opens the storage of this test in another process, as a variable `store`."""
        if not self.persistent:
            pytest.skip(KEEPS_NOTHING)
        raise NotImplementedError(
            "bring a fixture `in_child` that gives Python code, such as\n"
            "    from my_package import MyStore; store = MyStore('...')\n"
            "for the storage that `open_store` opens; or set `persistent = False` if your store keeps nothing"
        )
