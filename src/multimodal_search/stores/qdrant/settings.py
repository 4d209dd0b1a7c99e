"""How the collection of a `QdrantStore` is created and searched: settings, checked, and compared to the server's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import TypedDict

from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError, StoreError
from multimodal_search.stores.tuning import EXACT, checked_target

if TYPE_CHECKING:
    from qdrant_client import models

Consistency = Literal["majority", "quorum", "all"]


class QdrantSettings(TypedDict, total=False):
    """The keyword settings of a `QdrantStore`; what is not given, or None, is left to the server.

    The page about Qdrant says which to choose at which size. To create the collection with:

    - `shard_number`: parts that the nodes of a cluster share; with `shard_key_field`, parts for each key.
    - `replication_factor`: copies of each shard.
    - `write_consistency_factor`: copies that must acknowledge a write.
    - `shard_key_field`: a payload field whose values, texts or whole numbers, keep points in shards of their own.
    - `on_disk`: whether vectors are read from disk, not held in memory; `on_disk_payload` says so of payloads.
    - `datatype`: `"float16"` keeps vectors in half the bytes of `"float32"`.
    - `quantization`: `"int8"` or `"binary"` also keeps vectors in memory in 1/4 or 1/32 of the bytes, to search with;
      or a quantization setting of `qdrant_client.models`.
    - `hnsw_m`, `hnsw_ef_construct`: links of a point in the HNSW graph, and candidates looked at to choose them.
    - `hnsw_on_disk`: whether the graph is read from disk.
    - `bulk_load`: whether a collection without points gets no HNSW graph until `optimize()`.
    - `alias`: whether the collection's name is created as an alias, of a collection `<name>_1`, to be moved later.

    To write with:

    - `write_concurrency`: requests with points that an indexing run has under way at once. Default: one for each shard,
      4 at most; one in local mode.

    For each search:

    - `read_consistency`: copies that must agree on what is read, or `"majority"`, `"quorum"` or `"all"` of them.
    - `hnsw_ef`: candidates that a search keeps: more find more of the nearest points, slower. Default: as many as
      `tune` has found to be needed; before that, the server's own.
    - `acorn`: whether searches with a filter also pass through points that the filter excludes. Default: True.
    - `rescore`: whether the best by quantized vectors are ranked anew by the vectors themselves.
    - `recall_target`: the recall@10 that `tune` is to reach, with up to 2,048 candidates. Default: .99, with up to 384.
    - `oversampling`: how many times as many candidates are taken from quantized vectors.
    """

    shard_number: int | None
    replication_factor: int | None
    write_consistency_factor: int | None
    shard_key_field: str | None
    on_disk: bool | None
    on_disk_payload: bool | None
    datatype: Literal["float32", "float16"] | None
    quantization: object
    hnsw_m: int | None
    hnsw_ef_construct: int | None
    hnsw_on_disk: bool | None
    bulk_load: bool
    alias: bool
    write_concurrency: int | None
    read_consistency: int | Consistency | None
    hnsw_ef: int | None
    acorn: bool
    rescore: bool | None
    oversampling: float | None
    recall_target: float | None


_MIN = {
    "shard_number": 1,
    "replication_factor": 1,
    "write_consistency_factor": 1,
    "hnsw_m": 0,
    "hnsw_ef_construct": 4,
    "hnsw_ef": 1,
    "write_concurrency": 1,
}
_USUAL_WRITERS = 4  # at most, where the number is not set
_SHARD_KEY_FIELD = "multimodal_search_shard_key_field"
"""The key in the metadata."""

_SWITCHES = ("on_disk", "on_disk_payload", "hnsw_on_disk", "rescore")
_FIXED = ("shard_number", "datatype")
"""What a collection keeps as it was created."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSettings:
    """The settings of a store, checked; `QdrantSettings` documents them.

    Raises:
        ConfigurationError: A value makes no sense.
    """

    shard_number: int | None = None
    replication_factor: int | None = None
    write_consistency_factor: int | None = None
    shard_key_field: str | None = None
    on_disk: bool | None = None
    on_disk_payload: bool | None = None
    datatype: Literal["float32", "float16"] | None = None
    quantization: Any = None
    hnsw_m: int | None = None
    hnsw_ef_construct: int | None = None
    hnsw_on_disk: bool | None = None
    bulk_load: bool = False
    alias: bool = False
    write_concurrency: int | None = None
    read_consistency: int | Consistency | None = None
    hnsw_ef: int | None = None
    acorn: bool = True
    rescore: bool | None = None
    oversampling: float | None = None
    recall_target: float | None = None

    def __post_init__(self) -> None:
        for name, least in _MIN.items():
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise ConfigurationError(f"{name} must be a whole number of at least {least}, not {brief(value)}")
        for name in (*_SWITCHES, "acorn", "bulk_load", "alias"):
            value = getattr(self, name)
            if type(value) is not bool and (value is not None or name not in _SWITCHES):
                raise ConfigurationError(f"{name} must be True or False, not {brief(value)}")
        given = self.shard_key_field
        if given is not None and (not isinstance(given, str) or not given):
            raise ConfigurationError(f"shard_key_field must be the name of a payload field, not {brief(given)}")
        kind = self.datatype
        if kind is not None and (not isinstance(kind, str) or kind not in ("float32", "float16")):
            raise ConfigurationError(f'datatype must be "float32" or "float16", not {brief(kind)}')
        quantization = self.quantization
        known = quantization is None or (isinstance(quantization, str) and quantization in ("int8", "binary"))
        if not known and type(quantization).__module__.split(".")[0] != "qdrant_client":
            raise ConfigurationError(
                'quantization must be "int8", "binary" or a quantization setting of qdrant_client.models, not '
                f"{brief(quantization)}"
            )
        copies = self.read_consistency
        if isinstance(copies, str):
            sensible = copies in ("majority", "quorum", "all")
        else:
            sensible = copies is None or (type(copies) is int and copies >= 1)
        if not sensible:
            raise ConfigurationError(
                'read_consistency must be a number of copies, "majority", "quorum" or "all", not ' + brief(copies)
            )
        if self.recall_target is not None:
            checked_target(self.recall_target)
        times = self.oversampling
        if times is not None and (
            not isinstance(times, (int, float)) or isinstance(times, bool) or not 1 <= times < math.inf
        ):
            raise ConfigurationError(f"oversampling must be a number of at least 1, not {brief(times)}")

    def creation(self, dimension: int) -> dict[str, Any]:
        """The arguments of `QdrantClient.create_collection`, but for the name and the metadata."""
        from qdrant_client import models

        return {
            "vectors_config": models.VectorParams(
                size=dimension,
                distance=models.Distance.COSINE,
                on_disk=self.on_disk,
                datatype=None if self.datatype is None else models.Datatype(self.datatype),
            ),
            "shard_number": self.shard_number,
            "sharding_method": None if self.shard_key_field is None else models.ShardingMethod.CUSTOM,
            "replication_factor": self.replication_factor,
            "write_consistency_factor": self.write_consistency_factor,
            "on_disk_payload": self.on_disk_payload,
            "hnsw_config": self._hnsw(("hnsw_m", "hnsw_ef_construct", "hnsw_on_disk")),
            "quantization_config": self._quantization(),
        }

    @property
    def metadata(self) -> dict[str, str]:
        """What the metadata of a new collection says of its settings, for stores that are made without them."""
        return {} if self.shard_key_field is None else {_SHARD_KEY_FIELD: self.shard_key_field}

    def shard_key_field_of(self, info: models.CollectionInfo, collection: str) -> str | None:
        """The field by which a collection's points lie in shards; None if there is none.

        Raises:
            StoreError: It is another one than is set here.
        """
        method = info.config.params.sharding_method
        kept = (getattr(info.config, "metadata", None) or {}).get(_SHARD_KEY_FIELD)
        field = kept if isinstance(kept, str) else self.shard_key_field
        if method is None or method.value != "custom":
            field = None
        if self.shard_key_field not in (None, field):
            raise StoreError(
                f"the points of {collection!r} do not lie in shards by {self.shard_key_field!r}"
                f"{'' if field is None else f', but by {field!r}'}: only a new collection can get a shard_key_field"
            )
        return field

    def differing(self, info: models.CollectionInfo, hnsw_m: int) -> dict[str, Any]:
        """What a collection has, by name, where it is not what is set here.

        Args:
            info: As the server reports the collection.
            hnsw_m: Its `m`, or the one that it has after a bulk load.
        """
        present = _reported(info) | {"hnsw_m": hnsw_m}
        found = {
            name: value
            for name, value in present.items()
            if getattr(self, name) is not None and value != getattr(self, name)
        }
        wanted, has = self._quantization(), info.config.quantization_config
        if wanted is not None and (has is None or not _contains(_plain(has), _plain(wanted))):
            found["quantization"] = None if has is None else next(iter(_plain(has)))
        return found

    def advice(self, collection: str, differing: dict[str, Any]) -> str:
        """One sentence about a collection that differs."""
        has = " and ".join(f"{name}={value!r}" for name, value in differing.items())
        fixed = [name for name in differing if not self.can_change(name)]
        changeable = [name for name in differing if self.can_change(name)]
        ways = [
            *([f"update_settings() changes {' and '.join(changeable)}"] if changeable else ()),
            *([f"{' and '.join(fixed)} can only be chosen for a new collection"] if fixed else ()),
        ]
        return (
            f"the collection {collection!r} was created with other settings, {has}, and keeps them: {'; '.join(ways)}"
        )

    @staticmethod
    def can_change(name: str) -> bool:
        """Whether a collection can get another value of a setting."""
        return name not in _FIXED

    def changes(self, differing: dict[str, Any]) -> dict[str, Any]:
        """The arguments of `QdrantClient.update_collection` that change what differs and can be changed."""
        from qdrant_client import models

        params = [
            name for name in ("replication_factor", "write_consistency_factor", "on_disk_payload") if name in differing
        ]
        hnsw = self._hnsw([name for name in differing if name.startswith("hnsw_")])
        changes: dict[str, Any] = {
            "collection_params": models.CollectionParamsDiff(**{name: getattr(self, name) for name in params})
            if params
            else None,
            "vectors_config": {"": models.VectorParamsDiff(on_disk=self.on_disk)} if "on_disk" in differing else None,
            "hnsw_config": hnsw,
            "quantization_config": self._quantization() if "quantization" in differing else None,
        }
        return {name: change for name, change in changes.items() if change is not None}

    def search_params(
        self, filtered: bool, candidates: int | None, most_ef: int | None, most_oversampling: float | None
    ) -> models.SearchParams | None:
        """The parameters of one search; None if there are none.

        Args:
            filtered: Whether it has a filter.
            candidates: How many it keeps, or `EXACT`; None for the server's default.
            most_ef: The largest `hnsw_ef` that the server takes; None without a limit.
            most_oversampling: The largest `oversampling` that it takes, as well.
        """
        acorn = filtered and self.acorn
        if not acorn and candidates is None and self.rescore is None and self.oversampling is None:
            return None
        from qdrant_client import models

        if candidates == EXACT:
            return models.SearchParams(exact=True)
        quantization = None
        if self.rescore is not None or self.oversampling is not None:
            times = (
                self.oversampling
                if self.oversampling is None
                else min(self.oversampling, most_oversampling or math.inf)
            )
            quantization = models.QuantizationSearchParams(rescore=self.rescore, oversampling=times)
        return models.SearchParams(
            hnsw_ef=candidates if candidates is None or most_ef is None else min(candidates, most_ef),
            quantization=quantization,
            acorn=models.AcornSearchParams(enable=True) if acorn else None,
        )

    def writers(self, info: models.CollectionInfo) -> int:
        """How many requests with points are made at once, at most: a collection of one shard is on one node."""
        if self.write_concurrency is not None:
            return self.write_concurrency
        return max(1, min(info.config.params.shard_number or 1, _USUAL_WRITERS))

    def consistency(self) -> models.ReadConsistencyType | int | None:
        """How many copies must agree on what is read."""
        if not isinstance(self.read_consistency, str):
            return self.read_consistency
        from qdrant_client import models

        return models.ReadConsistencyType(self.read_consistency)

    def _hnsw(self, names: Any) -> models.HnswConfigDiff | None:
        from qdrant_client import models

        given = {name.removeprefix("hnsw_"): getattr(self, name) for name in names if getattr(self, name) is not None}
        return models.HnswConfigDiff(**given) if given else None

    def _quantization(self) -> Any:
        from qdrant_client import models

        match self.quantization:
            case "int8":
                kind = models.ScalarType.INT8
                return models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=kind, always_ram=True))
            case "binary":
                return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
        return self.quantization


def _reported(info: models.CollectionInfo) -> dict[str, Any]:
    params, hnsw = info.config.params, info.config.hnsw_config
    vectors: Any = params.vectors
    reported = {
        "shard_number": params.shard_number,
        "replication_factor": params.replication_factor,
        "write_consistency_factor": params.write_consistency_factor,
        "on_disk": _on_disk(vectors),
        "on_disk_payload": params.on_disk_payload,
        "datatype": "float32" if vectors.datatype is None else vectors.datatype.value,
        "hnsw_ef_construct": hnsw.ef_construct,
        "hnsw_on_disk": _on_disk(hnsw),
    }
    return {name: value for name, value in reported.items() if value is not None}


def _on_disk(part: Any) -> bool:
    """As servers from 1.19 on say it, in a setting of three values, or older ones."""
    memory = getattr(part, "memory", None)
    return bool(part.on_disk) if memory is None else memory.value == "cold"


def _plain(quantization: Any) -> dict[str, Any]:
    """A quantization setting as a mapping, without where it is kept, which servers spell in two ways."""
    if not hasattr(quantization, "model_dump"):  # gRPC's own
        from qdrant_client.conversions.conversion import GrpcToRest

        quantization = GrpcToRest.convert_quantization_config(quantization)
    dumped: dict[str, Any] = quantization.model_dump(mode="json", exclude_none=True)
    return {
        kind: {name: value for name, value in settings.items() if name not in ("always_ram", "memory")}
        for kind, settings in dumped.items()
    }


def _contains(whole: dict[str, Any], part: dict[str, Any]) -> bool:
    return all(kind in whole and settings.items() <= whole[kind].items() for kind, settings in part.items())
