"""Compare writing to and searching on a Qdrant server with the bare client, over REST and gRPC, as ratios in one run.

The server is a process that reads each request and answers it at once: what is measured is the work on this side.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc  # type: ignore[import-untyped]  # has no stubs
import httpx
import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages
from qdrant_client.conversions.conversion import RestToGrpc, payload_to_grpc

from _common import Rates, describe_machine, print_ratio, vectors_alike
from multimodal_search import EmbedderSpec, MultimodalIndex, QdrantStore, Record, Role, StoreSchema
from multimodal_search.contents import Content

_HITS = 10
_LATENCY_S = 0.03  # of a server that is far away
_PAYLOAD = {"filename": "2024/05/IMG_0001.jpg", "root": "/data/photos", "modality": "image", "size": 123_456}


def _found(count: int) -> list[dict[str, Any]]:
    return [{"id": each, "version": 1, "score": 0.9 - each / 100, "payload": _PAYLOAD} for each in range(count)]


def _info(dimension: int) -> dict[str, Any]:
    """A collection with a schema, as `QdrantStore.ensure` finds it."""
    schema = StoreSchema(model="m", fingerprint="f", dimension=dimension)
    indexed = {"data_type": "keyword", "params": {"type": "keyword"}, "points": 0}
    return {
        "status": "green",
        "optimizer_status": "ok",
        "indexed_vectors_count": 0,
        "points_count": 0,
        "segments_count": 1,
        "config": {
            "params": {"vectors": {"size": dimension, "distance": "Cosine"}, "shard_number": 1},
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000},
            "optimizer_config": {"deleted_threshold": 0.2, "vacuum_min_vector_number": 1, "default_segment_number": 0,
                                 "flush_interval_sec": 5},
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            "metadata": {"multimodal_search": schema.to_dict()},
        },
        "payload_schema": dict.fromkeys(("filename", "root", "modality", "sha256"), indexed),
    }  # fmt: skip


def _serve_rest(ready: Any, dimension: int, latency_s: float = 0.0) -> None:
    def answer(result: Any) -> bytes:
        content = json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        return head.encode() + content

    answers = {
        b"PUT": answer({"operation_id": 1, "status": "completed"}),
        b"GET": answer(_info(dimension)),
        b"POST": answer([{"points": _found(_HITS + 1)}]),
        b"query": answer({"points": _found(_HITS + 1)}),
        b"points": answer([]),
        b"scroll": answer({"points": []}),
    }

    def talk(connection: socket.socket) -> None:
        with connection, connection.makefile("rb", buffering=1 << 20) as stream:
            while line := stream.readline():
                length = 0
                while (header := stream.readline()) != b"\r\n":
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.partition(b":")[2])
                stream.read(length)
                method, path, _ = line.split(b" ")
                last = path.partition(b"?")[0].rpartition(b"/")[2]
                time.sleep(latency_s)
                connection.sendall(answers[last if method == b"POST" and last in answers else method])

    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        ready.send(listener.getsockname()[1])
        while True:
            threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()


def _serve_grpc(ready: Any, dimension: int) -> None:
    points = [
        messages.ScoredPoint(
            id=messages.PointId(num=each["id"]),
            score=each["score"],
            version=1,
            payload=payload_to_grpc(each["payload"]),
        )
        for each in _found(_HITS + 1)
    ]
    done = messages.UpdateResult(operation_id=1, status=messages.UpdateStatus.Completed)
    info = RestToGrpc.convert_collection_info(models.CollectionInfo.model_validate(_info(dimension)))
    answers = {
        "Get": messages.GetCollectionInfoResponse(result=info),
        "Upsert": messages.PointsOperationResponse(result=done),
        "QueryBatch": messages.QueryBatchResponse(result=[messages.BatchResult(result=points)]),
        "Query": messages.QueryResponse(result=points),
    }
    fixed = {name: answer.SerializeToString() for name, answer in answers.items()}

    class Sink(grpc.GenericRpcHandler):  # type: ignore[misc]  # has no stubs
        def service(self, call: Any) -> Any:
            content = fixed[call.method.rpartition("/")[2]]
            return grpc.unary_unary_rpc_method_handler(lambda request, context: content)

    options = [("grpc.max_receive_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(8), handlers=[Sink()], options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ready.send(port)
    server.wait_for_termination()


@contextmanager
def _process(target: Callable[[Any, int], None], dimension: int) -> Iterator[int]:
    """A server in a process of its own; gives its port."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, dimension), daemon=True)
    process.start()
    there.close()  # so that `recv` ends if the process does
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


def _p50(call: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def compare(client: QdrantClient, rows: Any, *, rounds: int, name: str) -> None:
    """Print the ratios of one protocol."""
    payloads = [_PAYLOAD | {"number": number} for number in range(len(rows))]
    records = [Record(number, payload) for number, payload in enumerate(payloads)]
    store = QdrantStore("photos", client=client)
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=rows.shape[1]))
    rates = Rates(("upload_collection", "QdrantStore"))
    searches: list[float] = []
    at_once: list[float] = []
    for _ in range(rounds):
        with rates.measured("upload_collection", len(rows)):
            client.upload_collection("photos", rows, payloads, range(len(rows)), parallel=1, wait=True)
        with rates.measured("QdrantStore", len(rows)):
            for start in range(0, len(rows), 512):  # as indexing writes
                store.upsert(records[start : start + 512], rows[start : start + 512])
        vector = rows[0].tolist()

        def bare(vector: list[float] = vector) -> models.QueryResponse:
            return client.query_points("photos", vector, limit=_HITS)

        def ours() -> object:
            return store.search(rows[:1], limit=_HITS)

        bare(), ours()
        searches.append(_p50(ours, 100) / _p50(bare, 100))
        taken = []
        for call in (ours, bare):
            with ThreadPoolExecutor(100) as pool:
                began = time.perf_counter()
                list(pool.map(lambda _, call=call: call(), range(500)))  # type: ignore[misc]  # bound by the default
                taken.append(time.perf_counter() - began)
        at_once.append(taken[0] / taken[1])
    print(f"{name}, {len(rows):,} vectors of {rows.shape[1]}:")
    rates.print("points")
    print_ratio(
        "  written a second, of upload_collection(parallel=1)", rates.ratios("QdrantStore", "upload_collection")
    )
    print_ratio("  time of a search (p50), of the bare client's", searches)
    print_ratio("  time of searches from 100 threads, of the bare client's", at_once)
    store.close()


class _Drawn:
    """An embedder that takes no time."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self.spec = EmbedderSpec(
            model="m", fingerprint="f", dimension=rows.shape[1], modalities=frozenset({"text"}), max_batch_size=64,
            max_concurrency=8,
        )  # fmt: skip

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> Any:
        return self._rows[: len(contents)]


def compare_writers(url: str, rows: Any, *, rounds: int) -> None:
    """Print what several writers gain at a server that is far away."""
    rates = Rates(("1 writer", "4 writers"))
    texts = [f"text {number}" for number in range(len(rows))]
    for _ in range(rounds):
        for count, way in ((1, "1 writer"), (4, "4 writers")):
            store = QdrantStore("photos", url=url, write_concurrency=count)
            with MultimodalIndex(_Drawn(rows), store, auto_calibrate=False) as index, rates.measured(way, len(rows)):
                index.add_texts(texts, progress=False)
    print(f"indexed over REST, {1e3 * _LATENCY_S:.0f} ms away, {len(rows):,} texts:")
    rates.print("texts")
    print_ratio("  indexed a second by 4 writers, of 1", rates.ratios("4 writers", "1 writer"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=5_000, help="vectors (default: %(default)s)")
    parser.add_argument("--dimension", type=int, default=512, help="their length (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = np.ascontiguousarray(vectors_alike(options.count, options.dimension))
    print(describe_machine("qdrant-client", "grpcio", "protobuf"))
    with _process(_serve_rest, options.dimension) as rest, _process(_serve_grpc, options.dimension) as port:
        for name, prefers in (("REST", False), ("gRPC", True)):
            client = QdrantClient(
                url=f"http://127.0.0.1:{rest}", grpc_port=port, prefer_grpc=prefers, timeout=60,
                check_compatibility=False, limits=httpx.Limits(),  # else threads close each other's to this machine
            )  # fmt: skip
            compare(client, rows, rounds=options.rounds, name=name)
            client.close()
    with _process(partial(_serve_rest, latency_s=_LATENCY_S), options.dimension) as far:
        compare_writers(f"http://127.0.0.1:{far}", rows, rounds=options.rounds)


if __name__ == "__main__":
    main()
