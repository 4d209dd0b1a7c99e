"""The contract of `SupportsIndexMetadata`, as tests, to be mixed in beside the one of `VectorStore`.

class TestMyStore(IndexMetadataContract, VectorStoreContract):
    ...
"""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest

from multimodal_search.errors import ConfigurationError, StoreClosedError
from multimodal_search.protocols import SupportsIndexMetadata, VectorStore
from multimodal_search.testing._child import run_and_kill
from multimodal_search.testing._durability import BEGIN
from multimodal_search.testing._points import SCHEMA, axes
from multimodal_search.types import Record

_WRITE = (
    BEGIN
    + """
store = opened()
store.set_index_metadata("terms", "one")
store.set_index_metadata("terms", "two" * 10_000)
"""
)

LONG = "Zeile ü\n" * 45_000
"""Some 400 kB."""


class IndexMetadataContract:
    """Mix it into a subclass of `VectorStoreContract`."""

    persistent: ClassVar[bool]

    def test_metadata_is_read_as_it_was_written(self, store: VectorStore) -> None:
        """To the character, whatever it holds, and the last one stands."""
        metadata = keeping(store)
        assert metadata.get_index_metadata("terms") is None
        for text in ("{}", "", "Ünï¢ødé 日本 \U0001f3c4 \x00 \r\n \r \n 'quotes\" \\", LONG, "short again"):
            metadata.set_index_metadata("terms", text)
            assert metadata.get_index_metadata("terms") == text

    def test_metadata_does_not_change_other_metadata_or_points(self, store: VectorStore) -> None:
        """Metadata are no points: nothing counts or finds them."""
        metadata = keeping(store)
        store.upsert([Record(0, {"a": 1})], axes(0))
        metadata.set_index_metadata("terms", "one")
        metadata.set_index_metadata("terms_2", "two")
        metadata.set_index_metadata("0", "three")
        assert [metadata.get_index_metadata(name) for name in ("terms", "terms_2", "0", "terms_3")] == [
            "one",
            "two",
            "three",
            None,
        ]
        assert list(store.scan()) == [Record(0, {"a": 1})]
        assert store.count() == 1
        assert store.ensure(SCHEMA) == SCHEMA
        store.delete([0])
        assert metadata.get_index_metadata("terms") == "one"

    def test_names_and_texts_that_make_no_sense_are_refused(self, store: VectorStore) -> None:
        """A name may become that of a file."""
        metadata = keeping(store)
        for name in ("", "Terms", "a-b", "a.b", "../schema", "a/b", "ü", "a b", "a\n", "a" * 101, None):
            with pytest.raises(ConfigurationError):
                metadata.get_index_metadata(name)  # type: ignore[arg-type]  # on purpose
            with pytest.raises(ConfigurationError):
                metadata.set_index_metadata(name, "text")  # type: ignore[arg-type]  # on purpose
        for text in (b"text", None, "\ud800"):
            with pytest.raises(ConfigurationError):
                metadata.set_index_metadata("terms", text)  # type: ignore[arg-type]  # on purpose
        assert metadata.get_index_metadata("terms") is None

    def test_metadata_is_there_after_opening_anew(self, open_store: Callable[[], VectorStore]) -> None:
        """What an index must remember outlives the program, as its points do."""
        if not self.persistent:
            pytest.skip("this store is not persistent")
        store = open_store()
        store.ensure(SCHEMA)
        keeping(store).set_index_metadata("terms", LONG)
        store.close()
        store = open_store()
        assert store.ensure(SCHEMA) == SCHEMA
        assert keeping(store).get_index_metadata("terms") == LONG
        store.close()

    def test_metadata_survives_a_kill(self, open_store: Callable[[], VectorStore], in_child: str) -> None:
        """As points do; and a text that replaces another is there whole."""
        run_and_kill(_WRITE, in_child)
        store = open_store()
        assert store.ensure(SCHEMA) == SCHEMA
        assert keeping(store).get_index_metadata("terms") == "two" * 10_000
        store.close()

    def test_metadata_after_close_says_so(self, store: VectorStore) -> None:
        """As everything else does."""
        store.close()
        with pytest.raises(StoreClosedError):
            keeping(store).get_index_metadata("terms")
        with pytest.raises(StoreClosedError):
            keeping(store).set_index_metadata("terms", "text")


def keeping(store: VectorStore) -> SupportsIndexMetadata:
    """The store, which must be one that keeps metadata."""
    assert isinstance(store, SupportsIndexMetadata)
    return store
