"""`QdrantEdgeStore`: Qdrant's engine in this process, on a folder; one process at a time."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from multimodal_search._files import checked_path
from multimodal_search._payload import check_stored
from multimodal_search._text import brief
from multimodal_search.errors import ContentError, StoreError
from multimodal_search.filters.parsing import parse_filter
from multimodal_search.report import TuningReport
from multimodal_search.stores.arguments import check_schema, checked_ids, checked_name, checked_text, rows_to_store
from multimodal_search.stores.keywords import WORDS, own_payload, with_words
from multimodal_search.stores.qdrant_edge.checksums import (
    deletion_entry,
    kept_as_they_are,
    payload_bytes,
    point_entry,
    vector_of,
)
from multimodal_search.stores.qdrant_edge.conditions import conditions
from multimodal_search.stores.qdrant_edge.engine import INDEX_FROM, engine, without_words
from multimodal_search.stores.qdrant_edge.folder import EdgeFolder, closed, open_folder
from multimodal_search.stores.qdrant_edge.notes import get_index_metadata, set_index_metadata
from multimodal_search.stores.qdrant_edge.opening import stored_schema
from multimodal_search.stores.qdrant_edge.text_index import FolderWords, text_request
from multimodal_search.stores.qdrant_edge.tuning import (
    candidates_of,
    keep_tuning,
    needs_tuning,
    next_graph,
    read_tuning,
    tuned_folder,
)
from multimodal_search.stores.qdrant_edge.verify import status_of, verify
from multimodal_search.stores.qdrant_shared.filters import Translation
from multimodal_search.stores.qdrant_shared.keyword_search import KeywordSearch
from multimodal_search.stores.qdrant_shared.payload_indexes import any_value
from multimodal_search.stores.qdrant_shared.reading import CHUNK, EngineFilter, Fetch, last_of_each
from multimodal_search.stores.ranking import point_id
from multimodal_search.stores.tuning import EXACT, Aim, checked_target
from multimodal_search.types import Filter, FloatArray, PointId, Record, StoreSchema, StoreState

if TYPE_CHECKING:
    from qdrant_edge import Filter as EdgeFilter
    from qdrant_edge import Record as EdgeRecord
    from qdrant_edge import ScoredPoint

# The engine holds the interpreter's lock during a call, so that no other thread moves: calls are kept short.
_WRITE = 500
_WRITE_BYTES = 4 * 2**20  # of a write, unless a single point has more: the space that it needs is looked for first
_QUERIES = 16


class QdrantEdgeStore(KeywordSearch):
    """Vector store in a folder, on Qdrant's engine in this process.

    What `upsert` and `delete` acknowledged survives a kill of the process; a power failure can lose the last moments.
    One process at a time can open a folder; several stores in it share the folder. It is created by `ensure` if it does
    not exist, and can be moved or copied while no process has it open. Up to 10,000 points are searched exactly; for
    more, `optimize` builds an HNSW graph, in a child process, and `tune` sees to its recall. `where` also takes a
    `qdrant_edge.Filter`, on its own or within a filter.

    Args:
        path: The folder.
        index_payload: Whether filters on the user's own fields get payload indexes, from 10,000 points on: each is
            created at the first filter that names its field, in a fraction of a second.
        recall_target: The recall@10 that `tune` is to reach, above 0 and up to 1, with up to 2,048 candidates, and a
            graph that takes ten times as long to build as the engine's own. Default: .99, with up to 384 candidates.

    Raises:
        ConfigurationError: `recall_target` is no such number.
        MissingExtraError: The extra `edge` is not installed.

    Examples:
        >>> with MultimodalIndex(ColorEmbedder(), QdrantEdgeStore("photos.index")) as index:
        ...     print(index.add_images("photos").added)
        3
    """

    def __init__(
        self, path: str | os.PathLike[str], *, index_payload: bool = True, recall_target: float | None = None
    ) -> None:
        self._edge = engine()
        self._recall_target = None if recall_target is None else checked_target(recall_target)
        self._path = checked_path(path, "QdrantEdgeStore")
        self._index_payload = index_payload
        self._open: EdgeFolder | None = None
        self._closed = False
        self._opening = threading.Lock()

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def folder(self) -> Path:
        """The folder, which indexing leaves out of walks."""
        return self._path

    def ensure(self, schema: StoreSchema, /) -> StoreSchema:
        """Open the folder, or create it for `schema`; returns its stored schema.

        Raises:
            StoreLockedError: Another process has it open.
            StoreError: It holds something else, or is damaged.
        """
        check_schema(schema)
        with self._opening:
            if self._closed:
                raise closed(self._path)
            if self._open is None:
                self._open = open_folder(self._path, schema)
                read_tuning(self._open)
        folder = self._folder()
        FolderWords(folder).keywords  # noqa: B018 (kept in a new folder)
        return folder.schema

    def stored_schema(self) -> StoreSchema | None:
        """The stored schema; None if the folder does not exist, or has no index.

        Raises:
            StoreError: It holds something else, or is damaged.
        """
        with self._opening:
            if self._closed:
                raise closed(self._path)
            return stored_schema(self._path) if self._open is None else self._open.schema

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        """Insert or replace records."""
        folder = self._folder()
        rows = rows_to_store(records, vectors, folder.schema)
        last = last_of_each(records)
        row_bytes, fields = 4 * folder.schema.dimension, self.get_keyword_fields()
        waiting, size = list[tuple[PointId, int, dict[str, Any], bytes | None]](), 0
        for key, number in last.items():
            record = records[number]
            check_stored(record.payload, key)
            payload = payload_bytes(record.payload)
            bytes_needed = row_bytes + len(payload or b"")
            if waiting and (len(waiting) == _WRITE or size + bytes_needed > _WRITE_BYTES):
                self._write_points(folder, rows, waiting, size)
                waiting, size = [], 0
            stored = with_words(record.payload, fields, key)
            waiting.append((key, number, stored, payload))
            size += bytes_needed + len(stored[WORDS])
        if waiting:
            self._write_points(folder, rows, waiting, size)

    def delete(self, ids: Sequence[PointId], /) -> None:
        """Delete points; ids that are not stored are ignored."""
        folder = self._folder()
        wanted = checked_ids(ids)
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            operation = self._edge.UpdateOperation.delete_points(chunk)
            folder.write(methodcaller("update", operation), b"".join(map(deletion_entry, chunk)))

    def count(self, where: Filter | None = None) -> int:
        """Count the points that pass, exactly."""
        folder = self._folder()
        request = self._edge.CountRequest(exact=True, filter=self._translate(where).condition)
        return folder.run(lambda shard: shard.count(request))

    def get_index_metadata(self, name: str, /) -> str | None:
        """Get a text of the index metadata; None if there is none of this name."""
        return get_index_metadata(self._folder(), checked_name(name))

    def set_index_metadata(self, name: str, text: str, /) -> None:
        """Store a text of the index metadata under a name, in a file of the folder."""
        set_index_metadata(self._folder(), checked_name(name), checked_text(name, text))

    @property
    def needs_optimize(self) -> bool:
        """Whether 10,000 points or more are not in the HNSW graph, or were replaced or deleted since it was built."""
        folder = self._folder()
        info = folder.run(lambda shard: shard.info())
        # The engine counts replaced and deleted vectors among the indexed ones; what was written tells the rest.
        changed = max(info.points_count - info.indexed_vectors_count, folder.written)
        return info.points_count >= INDEX_FROM and changed >= INDEX_FROM

    def optimize(self, *, on_tick: Callable[[], None] | None = None) -> bool:
        """Build the HNSW graph, in a child process; about 20 s for 118,000 points of 128 dimensions on two cores.

        From 50,000 points on, and where the last graph has not reached the target of `tune`, it is a denser one, which
        takes three times as long.

        Raises:
            StoreError: It failed; the data is as before.
        """
        folder = self._folder()
        return folder.optimize(on_tick, next_graph(folder, whatever_it_takes=self._recall_target is not None))

    @property
    def tuning(self) -> TuningReport | None:
        """The recall that searches reach, as `tune` has measured it; None if it was never called."""
        return self._folder().tuning

    @property
    def needs_tuning(self) -> bool:
        """Whether there is a graph whose recall is not known, or was measured with half or twice as many points."""
        return needs_tuning(self._folder())

    def status(self) -> StoreState:
        """The size of the index, and what was missing when it was opened; quick."""
        return status_of(self._folder())

    def verify(self, *, on_tick: Callable[[int], None] | None = None) -> StoreState:
        """Compare every byte with checksums from when it was written; some seconds for 118,000 points."""
        return verify(self._folder(), self.count, on_tick or (lambda points: None))

    def close(self) -> None:
        """Flush, and release the folder for other processes."""
        with self._opening:
            folder, self._open, self._closed = self._open, None, True
        if folder is not None:
            folder.release()

    def __repr__(self) -> str:
        return f"QdrantEdgeStore({str(self._path)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a QdrantEdgeStore cannot be pickled or copied: its folder belongs to one process")

    def _folder(self) -> EdgeFolder:
        folder = self._open
        if folder is None:
            raise closed(self._path) if self._closed else StoreError("call ensure(schema) before anything else")
        return folder

    def _ready(self) -> StoreSchema:
        return self._folder().schema

    def _write_points(
        self,
        folder: EdgeFolder,
        rows: FloatArray,
        points: Sequence[tuple[PointId, int, dict[str, Any], bytes | None]],
        size: int,
    ) -> None:
        vectors = rows[[number for _, number, _, _ in points]]
        made, entries = [], []
        kept = kept_as_they_are(vectors)
        for vector, has_vector, (key, _, stored, payload) in zip(vectors, kept, points, strict=True):
            point = _point(self._edge, key, vector, stored)
            made.append(point)
            text = payload
            if text is None:
                text = payload_bytes(own_payload(point.payload))
            entries.append(point_entry(key, vector, text or b"", has_vector=has_vector))
        operation = self._edge.UpdateOperation.upsert_points(made)
        folder.write(methodcaller("update", operation), b"".join(entries), size=size)

    def _translate(self, where: Filter | None) -> EngineFilter:
        if where is None or isinstance(where, self._edge.Filter):
            return EngineFilter(where)
        node = parse_filter(where, native=self._edge.Filter)

        def fetch_candidates(filters: list[EdgeFilter], field: str) -> Iterator[Record]:
            return self._walk(filters[0], [field])

        folder = self._folder()
        translation = Translation(
            words=conditions(), kinds=folder.indexes.kinds, fetch_candidates=fetch_candidates, most_ids=sys.maxsize
        )
        if self._index_payload:
            for at, kind in folder.indexes.lacking(node).items():
                folder.index_payload(at, kind, translation.filter_of(any_value(at, kind)))
        return EngineFilter(translation.filter_of(node), translation.ids)

    def _nearest(self, queries: Sequence[list[float]], engine_filter: EngineFilter) -> Fetch:
        folder, edge, condition = self._folder(), self._edge, engine_filter.condition
        # ACORN also walks through neighbours that do not pass: without it, a filter that one point in five passes
        # makes holes in the graph, and 118,000 points give 73 to 77 of 100 nearest ones, with it 99.97.
        acorn = None if condition is None else edge.AcornSearchParams(enable=True, max_selectivity=1.0)

        def fetch(numbers: Sequence[int], count: int, with_payload: bool) -> list[list[ScoredPoint]]:
            keep = engine_filter.candidates
            keep = candidates_of(folder, count - 1, engine_filter) if keep is None else keep
            parameters = None
            if keep is not None or acorn is not None:
                parameters = edge.SearchParams(hnsw_ef=keep or None, exact=keep == EXACT, acorn=acorn)
            requests = [
                edge.QueryRequest(
                    query=edge.Query.Nearest(queries[number]),
                    limit=count,
                    with_payload=without_words() if with_payload else False,
                    filter=condition,
                    params=parameters,
                )
                for number in numbers
            ]
            found: list[list[ScoredPoint]] = []
            for start in range(0, len(requests), _QUERIES):
                batch = edge.QueryBatchRequest(requests[start : start + _QUERIES])
                found += folder.run(methodcaller("query_batch", batch))
            return found

        return fetch

    @property
    def _words(self) -> FolderWords:
        return FolderWords(self._folder())

    def _tuned(self, queries: Mapping[str, FloatArray], aim: Aim, on_tick: Callable[[], None]) -> TuningReport:
        return tuned_folder(self._folder(), self._scores, queries, aim, on_tick)

    def _keep_tuning(self, report: TuningReport) -> None:
        keep_tuning(self._folder(), report)

    def _query_text(self, words: str, limit: int, engine_filter: EngineFilter, with_payload: bool) -> list[ScoredPoint]:
        shown = without_words() if with_payload else False
        request = text_request(words, limit=limit, engine_filter=engine_filter.condition, with_payload=shown)
        return self._folder().run(methodcaller("query", request))

    def _retrieve(self, ids: Sequence[PointId], with_vectors: bool) -> list[EdgeRecord]:
        points: list[EdgeRecord] = self._folder().run(methodcaller("retrieve", ids, without_words(), with_vectors))
        return points

    def _vector_of(self, point: EdgeRecord) -> FloatArray:
        vector = vector_of(point)
        if vector is None:
            raise StoreError(
                f"the point {point_id(point)} in {self._path} has lost its vector: its files are damaged. Run verify "
                "to see what else is, and index it again"
            )
        return vector

    def _scroll(
        self, condition: Any, position: Any, limit: int, selector: bool | list[str]
    ) -> tuple[list[EdgeRecord], Any]:
        shown = without_words() if selector is True else selector
        request = self._edge.ScrollRequest(offset=position, limit=limit, filter=condition, with_payload=shown)
        page: tuple[list[EdgeRecord], Any] = self._folder().run(methodcaller("scroll", request))
        return page


def _point(edge: Any, key: PointId, vector: FloatArray, payload: dict[str, Any]) -> Any:
    try:
        return edge.Point(key, vector.data, payload)  # its memory: a list takes three times as long
    except (TypeError, ValueError) as error:
        raise ContentError(
            f"the payload of {key!r} holds a value that JSON or UTF-8 cannot represent: "
            f"{brief(own_payload(payload), 200)}"
        ) from error
