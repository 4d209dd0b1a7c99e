"""Find images and texts again: by words in any language, or by another image.

Everything public is imported from here. Nothing is loaded before it is used: importing this package loads
neither NumPy nor any SDK.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as that of `typing`, which takes longer to import than all of this package until it is used
if TYPE_CHECKING:
    from multimodal_search.aio import AsyncMultimodalIndex as AsyncMultimodalIndex
    from multimodal_search.contents import Image as Image
    from multimodal_search.contents import Mixed as Mixed
    from multimodal_search.contents import Text as Text
    from multimodal_search.embedders.aleph_alpha import AlephAlphaEmbedder as AlephAlphaEmbedder
    from multimodal_search.embedders.color import ColorEmbedder as ColorEmbedder
    from multimodal_search.embedders.http import HttpEmbedder as HttpEmbedder
    from multimodal_search.embedders.onnx import OnnxEmbedder as OnnxEmbedder
    from multimodal_search.embedders.registry import EmbedderRef as EmbedderRef
    from multimodal_search.embedders.registry import load_embedder as load_embedder
    from multimodal_search.embedders.sentence_transformers import (
        SentenceTransformersEmbedder as SentenceTransformersEmbedder,
    )
    from multimodal_search.errors import (
        ConfigurationError as ConfigurationError,
    )
    from multimodal_search.errors import (
        ContentError as ContentError,
    )
    from multimodal_search.errors import (
        EmbedderAuthError as EmbedderAuthError,
    )
    from multimodal_search.errors import (
        EmbedderError as EmbedderError,
    )
    from multimodal_search.errors import (
        EmbedderQuotaError as EmbedderQuotaError,
    )
    from multimodal_search.errors import (
        EmbedderResponseError as EmbedderResponseError,
    )
    from multimodal_search.errors import (
        EmbedderUnavailableError as EmbedderUnavailableError,
    )
    from multimodal_search.errors import (
        IndexingError as IndexingError,
    )
    from multimodal_search.errors import (
        IndexingInterrupted as IndexingInterrupted,
    )
    from multimodal_search.errors import (
        MissingExtraError as MissingExtraError,
    )
    from multimodal_search.errors import (
        ModelVersionWarning as ModelVersionWarning,
    )
    from multimodal_search.errors import (
        MultimodalSearchError as MultimodalSearchError,
    )
    from multimodal_search.errors import (
        NotAnImageError as NotAnImageError,
    )
    from multimodal_search.errors import (
        QueryError as QueryError,
    )
    from multimodal_search.errors import (
        SchemaMismatchError as SchemaMismatchError,
    )
    from multimodal_search.errors import (
        StoreClosedError as StoreClosedError,
    )
    from multimodal_search.errors import (
        StoreError as StoreError,
    )
    from multimodal_search.errors import (
        StoreLockedError as StoreLockedError,
    )
    from multimodal_search.errors import (
        StoreRefusedError as StoreRefusedError,
    )
    from multimodal_search.errors import (
        StoreUnavailableError as StoreUnavailableError,
    )
    from multimodal_search.errors import (
        UnknownLanguageWarning as UnknownLanguageWarning,
    )
    from multimodal_search.errors import (
        UnreadableContentError as UnreadableContentError,
    )
    from multimodal_search.errors import (
        UnsupportedContentError as UnsupportedContentError,
    )
    from multimodal_search.ids import (
        ContentIds as ContentIds,
    )
    from multimodal_search.ids import (
        IdScheme as IdScheme,
    )
    from multimodal_search.ids import (
        PathIds as PathIds,
    )
    from multimodal_search.ids import (
        SequentialIds as SequentialIds,
    )
    from multimodal_search.index import MultimodalIndex as MultimodalIndex
    from multimodal_search.protocols import (
        Embedder as Embedder,
    )
    from multimodal_search.protocols import (
        SupportsConcurrentUpserts as SupportsConcurrentUpserts,
    )
    from multimodal_search.protocols import (
        SupportsEmbedOnce as SupportsEmbedOnce,
    )
    from multimodal_search.protocols import (
        SupportsEstimates as SupportsEstimates,
    )
    from multimodal_search.protocols import (
        SupportsFolder as SupportsFolder,
    )
    from multimodal_search.protocols import (
        SupportsHybridSearch as SupportsHybridSearch,
    )
    from multimodal_search.protocols import (
        SupportsIndexMetadata as SupportsIndexMetadata,
    )
    from multimodal_search.protocols import (
        SupportsInterrupt as SupportsInterrupt,
    )
    from multimodal_search.protocols import (
        SupportsListFilter as SupportsListFilter,
    )
    from multimodal_search.protocols import (
        SupportsModelVersion as SupportsModelVersion,
    )
    from multimodal_search.protocols import (
        SupportsOptimize as SupportsOptimize,
    )
    from multimodal_search.protocols import (
        SupportsPrepare as SupportsPrepare,
    )
    from multimodal_search.protocols import (
        SupportsRef as SupportsRef,
    )
    from multimodal_search.protocols import (
        SupportsStoredSchema as SupportsStoredSchema,
    )
    from multimodal_search.protocols import (
        SupportsTextLimit as SupportsTextLimit,
    )
    from multimodal_search.protocols import (
        SupportsTextSearch as SupportsTextSearch,
    )
    from multimodal_search.protocols import (
        SupportsTuning as SupportsTuning,
    )
    from multimodal_search.protocols import (
        SupportsUsage as SupportsUsage,
    )
    from multimodal_search.protocols import (
        SupportsVectorsInSearch as SupportsVectorsInSearch,
    )
    from multimodal_search.protocols import (
        SupportsVerify as SupportsVerify,
    )
    from multimodal_search.protocols import (
        VectorStore as VectorStore,
    )
    from multimodal_search.query import Stored as Stored
    from multimodal_search.query import Vector as Vector
    from multimodal_search.report import (
        Failure as Failure,
    )
    from multimodal_search.report import (
        IndexReport as IndexReport,
    )
    from multimodal_search.report import (
        IndexStatus as IndexStatus,
    )
    from multimodal_search.report import (
        Progress as Progress,
    )
    from multimodal_search.report import (
        TuningReport as TuningReport,
    )
    from multimodal_search.report import (
        VerifyReport as VerifyReport,
    )
    from multimodal_search.results import SearchHit as SearchHit
    from multimodal_search.results import SearchResults as SearchResults
    from multimodal_search.stores.memory import MemoryStore as MemoryStore
    from multimodal_search.stores.qdrant import QdrantStore as QdrantStore
    from multimodal_search.stores.qdrant_edge import QdrantEdgeStore as QdrantEdgeStore
    from multimodal_search.stores.registry import StoreRef as StoreRef
    from multimodal_search.stores.registry import load_store as load_store
    from multimodal_search.types import (
        EmbedderSpec as EmbedderSpec,
    )
    from multimodal_search.types import (
        Item as Item,
    )
    from multimodal_search.types import (
        Match as Match,
    )
    from multimodal_search.types import (
        PointId as PointId,
    )
    from multimodal_search.types import (
        Record as Record,
    )
    from multimodal_search.types import (
        Role as Role,
    )
    from multimodal_search.types import (
        StoreSchema as StoreSchema,
    )
    from multimodal_search.types import (
        StoreState as StoreState,
    )
    from multimodal_search.types import (
        Usage as Usage,
    )

_MODULES = {
    "aio": ("AsyncMultimodalIndex",),
    "contents": ("Image", "Mixed", "Text"),
    "embedders.aleph_alpha": ("AlephAlphaEmbedder",),
    "embedders.color": ("ColorEmbedder",),
    "embedders.http": ("HttpEmbedder",),
    "embedders.onnx": ("OnnxEmbedder",),
    "embedders.registry": ("EmbedderRef", "load_embedder"),
    "embedders.sentence_transformers": ("SentenceTransformersEmbedder",),
    "errors": (
        "ConfigurationError",
        "ContentError",
        "EmbedderAuthError",
        "EmbedderError",
        "EmbedderQuotaError",
        "EmbedderResponseError",
        "EmbedderUnavailableError",
        "IndexingError",
        "IndexingInterrupted",
        "MissingExtraError",
        "ModelVersionWarning",
        "MultimodalSearchError",
        "NotAnImageError",
        "QueryError",
        "SchemaMismatchError",
        "StoreClosedError",
        "StoreError",
        "StoreLockedError",
        "StoreRefusedError",
        "StoreUnavailableError",
        "UnknownLanguageWarning",
        "UnreadableContentError",
        "UnsupportedContentError",
    ),
    "ids": ("ContentIds", "IdScheme", "PathIds", "SequentialIds"),
    "index": ("MultimodalIndex",),
    "protocols": (
        "Embedder",
        "SupportsEmbedOnce",
        "SupportsConcurrentUpserts",
        "SupportsEstimates",
        "SupportsFolder",
        "SupportsInterrupt",
        "SupportsListFilter",
        "SupportsModelVersion",
        "SupportsHybridSearch",
        "SupportsIndexMetadata",
        "SupportsOptimize",
        "SupportsPrepare",
        "SupportsRef",
        "SupportsStoredSchema",
        "SupportsTextLimit",
        "SupportsTextSearch",
        "SupportsTuning",
        "SupportsUsage",
        "SupportsVectorsInSearch",
        "SupportsVerify",
        "VectorStore",
    ),
    "query": ("Stored", "Vector"),
    "report": ("Failure", "IndexReport", "IndexStatus", "Progress", "TuningReport", "VerifyReport"),
    "results": ("SearchHit", "SearchResults"),
    "stores.memory": ("MemoryStore",),
    "stores.qdrant": ("QdrantStore",),
    "stores.qdrant_edge": ("QdrantEdgeStore",),
    "stores.registry": ("StoreRef", "load_store"),
    "types": ("EmbedderSpec", "Item", "Match", "PointId", "Record", "Role", "StoreSchema", "StoreState", "Usage"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("multimodal-search")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
