"""Pages of a store's matches, checked; and several calls of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from multimodal_search._threads import at_once
from multimodal_search.errors import StoreError
from multimodal_search.protocols import SupportsTuning, SupportsVectorsInSearch, VectorStore
from multimodal_search.types import Filter, FloatArray, Match

T = TypeVar("T")


def search_pages(
    store: VectorStore, vectors: FloatArray, *, limit: int, offset: int, where: Filter | None, exact: bool = False
) -> Sequence[Sequence[Match]]:
    """One page of matches for each vector.

    Args:
        store: Where to search.
        vectors: What to search with.
        limit: Most matches of each.
        offset: Matches to skip.
        where: A filter.
        exact: Whether to compare every point, in a store that is not exact anyway.

    Raises:
        StoreError: The store failed, or answered with something else.
    """
    search = store.search_exactly if exact and isinstance(store, SupportsTuning) else store.search
    return checked_pages(store, search(vectors, limit=limit, offset=offset, where=where), len(vectors))


def checked_pages(store: VectorStore, pages: Sequence[Sequence[Match]], searches: int) -> Sequence[Sequence[Match]]:
    """The pages that a store answered so many searches with.

    Raises:
        StoreError: It answered with something else.
    """
    if not isinstance(pages, (list, tuple)) or len(pages) != searches:
        said = f"{len(pages)} pages" if isinstance(pages, (list, tuple)) else type(pages).__name__
        raise StoreError(f"{store!r} answered {searches} searches with {said}, not a list for each")
    return pages


def answers(store: VectorStore, calls: Sequence[Callable[[], T]]) -> Sequence[T]:
    """What calls of a store return: made at once where each takes long, as on a server."""
    is_remote = isinstance(store, SupportsVectorsInSearch)
    return at_once(calls, name="multimodal-search") if is_remote else [call() for call in calls]
