"""What must hold between the threads of one process."""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from multimodal_search.protocols import VectorStore
from multimodal_search.testing._concurrency import run_at_once
from multimodal_search.testing._points import DIMENSION, axes
from multimodal_search.types import Record


class ThreadsContract:
    """A part of `VectorStoreContract`."""

    def test_what_was_written_is_found_at_once(self, store: VectorStore) -> None:
        """By every method and in every thread: an index writes, and asks at once what is stored."""

        def check(number: int) -> None:
            (match,) = store.search(axes(number % DIMENSION), limit=1, where={"n": number})[0]
            assert (match.id, round(match.score, 3)) == (number % 7, 1)
            assert store.get([number % 7]) == [Record(number % 7, {"n": number})]
            assert store.count({"n": number}) == 1
            assert [record.id for record in store.scan(where={"n": number})] == [number % 7]
            replaced = {"n": number - 7}
            assert store.count(replaced) == 0
            assert store.search(axes(number % DIMENSION), limit=9, where=replaced) == [[]]

        with ThreadPoolExecutor(1) as other:
            for number in range(40):
                store.upsert([Record(number % 7, {"n": number})], axes(number % DIMENSION))
                if number % 2:
                    check(number)
                else:
                    other.submit(check, number).result()
                if number % 5 == 0:
                    store.delete([number % 7])
                    assert store.get([number % 7]) == [None]
                    assert store.search(axes(number % DIMENSION), limit=9, where={"n": number}) == [[]]
                    assert store.count({"n": number}) == 0

    def test_threads_get_their_own_answers(self, store: VectorStore) -> None:
        """What one thread asks must not change what another gets."""
        store.upsert([Record(number, {"n": number}) for number in range(DIMENSION)], axes(*range(DIMENSION)))

        def ask(number: int) -> None:
            for _ in range(10):
                match = store.search(axes(number), limit=1 + number)[0][0]
                assert (match.id, match.payload) == (number, {"n": number})
                assert len(store.search(axes(number, 0), limit=1 + number)[1]) == 1 + number
                assert store.get([number]) == [Record(number, {"n": number})]
                assert [record.id for record in store.scan(where={"n": number})] == [number]
                assert store.count({"n": {"lte": number}}) == number + 1

        run_at_once([partial(ask, number) for number in range(DIMENSION)])

    def test_threads_do_not_disturb_each_other(self, store: VectorStore) -> None:
        """An indexing run writes while a web page searches."""
        writers, batches = 4, 8

        def write(worker: int) -> None:
            for batch in range(batches):
                ids = [worker * 1_000 + batch * 20 + number for number in range(20)]
                payload = {"worker": worker}
                store.upsert([Record(each, payload) for each in ids], axes(*(each % 8 for each in ids)))
                store.delete(ids[:5])
                store.upsert([Record(ids[5], payload)], axes(ids[5] % 8))
                assert [record and record.id for record in store.get(ids)] == [None] * 5 + ids[5:]

        def read() -> None:
            for _ in range(6):
                for page in store.search(axes(0, 1), limit=5):
                    assert all(match.payload["worker"] == int(match.id) // 1_000 for match in page)
                assert store.count({"worker": 1}) <= 20 * batches
                assert all(int(record.id) // 1_000 == 2 for record in store.scan(where={"worker": 2}))

        run_at_once([*(partial(write, worker) for worker in range(writers)), read, read])
        stored = [
            worker * 1_000 + number for worker in range(writers) for number in range(20 * batches) if number % 20 > 4
        ]
        assert [record.id for record in store.scan()] == stored
        assert store.count() == len(stored)
        for axis in range(DIMENSION):
            nearest = store.search(axes(axis), limit=len(stored))[0]
            assert [match.id for match in nearest if match.score > 0.5] == [each for each in stored if each % 8 == axis]
