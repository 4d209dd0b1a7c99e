"""The settings of one collection, and how `GET` tells them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from qdrant_client import models

from .strict_mode import Budget, StrictMode, json_path

_HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0, "on_disk": False}
_OPTIMIZERS = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "max_segment_size": None,
    "memmap_threshold": None,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
    "max_optimization_threads": None,
    "prevent_unoptimized": None,
}
_WAL = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}
_HAS_PRINCIPAL = {"integer", "float", "datetime"}


def given(model: Any) -> dict[str, Any]:
    """What a request says, without what it leaves open."""
    plain: dict[str, Any] = {} if model is None else model.model_dump(mode="json", exclude_none=True)
    return plain


@dataclass
class Collection:
    """One collection: everything but its points and payload indexes.

    Attributes:
        shard_keys: The ids of the points of each shard key.
        operations: How many writes there were.
        indexed_vectors: How many are said to be in the HNSW graph; searches are exact all the same.
    """

    params: dict[str, Any]
    hnsw: dict[str, Any]
    optimizers: dict[str, Any]
    wal: dict[str, Any]
    quantization: Any
    strict_mode: dict[str, Any] | None
    metadata: dict[str, Any] | None
    shard_keys: dict[str | int, set[Any]] = field(default_factory=dict)
    operations: int = 0
    indexed_vectors: int = 0
    _budgets: dict[str, Budget] = field(default_factory=dict)

    @classmethod
    def created(
        cls, request: models.CreateCollection, *, shards: int, strict_mode: Mapping[str, Any] | None
    ) -> Collection:
        vectors = request.vectors
        named = isinstance(vectors, dict)
        plain = {name: given(each) for name, each in vectors.items()} if named else given(vectors)
        params = {
            "vectors": plain,
            "shard_number": request.shard_number or shards,
            "replication_factor": request.replication_factor or 1,
            "write_consistency_factor": request.write_consistency_factor or 1,
            "on_disk_payload": True if request.on_disk_payload is None else request.on_disk_payload,
        }
        if request.sharding_method is not None:
            params["sharding_method"] = request.sharding_method.value
        mode = dict(strict_mode or {}) | given(request.strict_mode_config)
        return cls(
            params=params,
            hnsw=_HNSW | given(request.hnsw_config),
            optimizers=_OPTIMIZERS | given(request.optimizers_config),
            wal=_WAL | given(request.wal_config),
            quantization=given(request.quantization_config) or None,
            strict_mode=mode or None,
            metadata=dict(request.metadata) if request.metadata else None,
        )

    def update(self, request: models.UpdateCollection, *, keeps_metadata: bool) -> None:
        self.hnsw |= given(request.hnsw_config)
        self.optimizers |= given(request.optimizers_config)
        self.params |= given(request.params)
        if request.quantization_config is not None:
            off = isinstance(request.quantization_config, models.Disabled)
            self.quantization = None if off else given(request.quantization_config)
        if request.strict_mode_config is not None:
            self.strict_mode = (self.strict_mode or {}) | given(request.strict_mode_config)
        for name, change in (request.vectors or {}).items():
            (self.params["vectors"][name] if name else self.params["vectors"]).update(given(change))
        if keeps_metadata and request.metadata is not None:
            merged = (self.metadata or {}) | request.metadata
            self.metadata = {key: value for key, value in merged.items() if value is not None}

    @property
    def dimension(self) -> int | None:
        """Of the one unnamed vector, if there is one."""
        size = self.params["vectors"].get("size")
        return size if isinstance(size, int) else None

    @property
    def custom_shards(self) -> bool:
        return self.params.get("sharding_method") == "custom"

    def shard_of(self, key: Any) -> int:
        shards: int = self.params["shard_number"]
        return zlib.crc32(str(key).encode()) % shards

    def spend(self, cost: int, kind: Literal["read", "write"]) -> None:
        """Pay for a request, or refuse it, where requests have a rate."""
        rate = StrictMode(self.strict_mode, {}).rate(kind)
        if rate is not None:
            if kind not in self._budgets or self._budgets[kind].per_minute != rate:
                self._budgets[kind] = Budget(rate)
            self._budgets[kind].spend(cost, kind)

    def info(self, *, points: int, indexes: Mapping[str, Mapping[str, Any]], unknown_fields: bool) -> Any:
        new = {"novelty": {"grade": 1}} if unknown_fields else {}
        config: dict[str, Any] = {
            "params": self.params | {"vectors": self.params["vectors"] | new},
            "hnsw_config": self.hnsw,
            "optimizer_config": self.optimizers,
            "wal_config": self.wal,
            "quantization_config": self.quantization,
        }
        if self.strict_mode is not None:
            config["strict_mode_config"] = self.strict_mode
        if self.metadata is not None:
            config["metadata"] = self.metadata
        return {
            "status": "green",
            "optimizer_status": "ok",
            "indexed_vectors_count": self.indexed_vectors,
            "points_count": points,
            "segments_count": 2,
            "config": config,
            "payload_schema": {
                json_path(path): {
                    "data_type": settings["type"],
                    "params": dict(settings)
                    | ({"is_principal": settings.get("is_principal")} if settings["type"] in _HAS_PRINCIPAL else {})
                    | new,
                    "points": 0,
                }
                for path, settings in indexes.items()
            },
            "update_queue": {"length": 0},
        }
