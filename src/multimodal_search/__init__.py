"""Find images and texts again: by words in any language, or by another image.

Everything public is imported from here. Nothing is loaded before it is used: importing this package loads
neither NumPy nor any SDK.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as that of `typing`, which takes longer to import than all of this package until it is used
if TYPE_CHECKING:
    from multimodal_search.aio import AsyncMultimodalIndex
    from multimodal_search.contents import Image, Mixed, Text
    from multimodal_search.embedders.aleph_alpha import AlephAlphaEmbedder
    from multimodal_search.embedders.color import ColorEmbedder
    from multimodal_search.errors import (
        ConfigurationError,
        ContentError,
        EmbedderAuthError,
        EmbedderError,
        EmbedderQuotaError,
        EmbedderResponseError,
        EmbedderUnavailableError,
        IndexingError,
        IndexingInterrupted,
        MissingExtraError,
        ModelVersionWarning,
        MultimodalSearchError,
        NotAnImageError,
        QueryError,
        SchemaMismatchError,
        StoreClosedError,
        StoreError,
        StoreLockedError,
        StoreRefusedError,
        StoreUnavailableError,
        UnknownLanguageWarning,
        UnreadableContentError,
        UnsupportedContentError,
    )
    from multimodal_search.ids import ContentIds, IdScheme, PathIds, SequentialIds
    from multimodal_search.index import MultimodalIndex
    from multimodal_search.protocols import (
        Embedder,
        SupportsEmbedOnce,
        SupportsIndexMetadata,
        SupportsInterrupt,
        SupportsModelVersion,
        SupportsOptimize,
        SupportsPrepare,
        SupportsStoredSchema,
        SupportsTextSearch,
        SupportsUsage,
        SupportsVerify,
        VectorStore,
    )
    from multimodal_search.query import Stored, Vector
    from multimodal_search.report import IndexReport, IndexStatus, Progress, VerifyReport
    from multimodal_search.results import Failure, SearchHit, SearchResults
    from multimodal_search.stores.memory import MemoryStore
    from multimodal_search.stores.qdrant import QdrantStore
    from multimodal_search.stores.qdrant_edge import QdrantEdgeStore
    from multimodal_search.types import EmbedderSpec, Item, Match, PointId, Record, Role, StoreSchema, StoreState, Usage

__all__ = [
    "AlephAlphaEmbedder",
    "AsyncMultimodalIndex",
    "ColorEmbedder",
    "ConfigurationError",
    "ContentError",
    "ContentIds",
    "Embedder",
    "EmbedderAuthError",
    "EmbedderError",
    "EmbedderQuotaError",
    "EmbedderResponseError",
    "EmbedderSpec",
    "EmbedderUnavailableError",
    "Failure",
    "IdScheme",
    "Image",
    "Progress",
    "IndexReport",
    "IndexStatus",
    "IndexingError",
    "IndexingInterrupted",
    "Item",
    "Match",
    "MemoryStore",
    "MissingExtraError",
    "Mixed",
    "ModelVersionWarning",
    "MultimodalIndex",
    "MultimodalSearchError",
    "NotAnImageError",
    "PathIds",
    "PointId",
    "QdrantEdgeStore",
    "QdrantStore",
    "QueryError",
    "Record",
    "Role",
    "SchemaMismatchError",
    "SearchHit",
    "SearchResults",
    "SequentialIds",
    "StoreClosedError",
    "StoreError",
    "StoreLockedError",
    "StoreRefusedError",
    "StoreSchema",
    "StoreState",
    "StoreUnavailableError",
    "Stored",
    "SupportsEmbedOnce",
    "SupportsInterrupt",
    "SupportsModelVersion",
    "SupportsIndexMetadata",
    "SupportsOptimize",
    "SupportsPrepare",
    "SupportsStoredSchema",
    "SupportsTextSearch",
    "SupportsUsage",
    "SupportsVerify",
    "Text",
    "UnknownLanguageWarning",
    "UnreadableContentError",
    "UnsupportedContentError",
    "Usage",
    "Vector",
    "VectorStore",
    "VerifyReport",
    "__version__",
]

_MODULES = {
    "ids": ("ContentIds", "IdScheme", "PathIds", "SequentialIds"),
    "_indexing.integrity": ("IndexStatus", "VerifyReport"),
    "_progress": ("Progress",),
    "aio": ("AsyncMultimodalIndex",),
    "embedders.aleph_alpha": ("AlephAlphaEmbedder",),
    "embedders.color": ("ColorEmbedder",),
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
    "index": ("MultimodalIndex",),
    "protocols": (
        "Embedder",
        "SupportsEmbedOnce",
        "SupportsInterrupt",
        "SupportsModelVersion",
        "SupportsIndexMetadata",
        "SupportsOptimize",
        "SupportsPrepare",
        "SupportsStoredSchema",
        "SupportsTextSearch",
        "SupportsUsage",
        "SupportsVerify",
        "VectorStore",
    ),
    "query": ("Stored", "Vector"),
    "results": ("Failure", "IndexReport", "SearchHit", "SearchResults"),
    "stores.memory": ("MemoryStore",),
    "stores.qdrant": ("QdrantStore",),
    "stores.qdrant_edge": ("QdrantEdgeStore",),
    "types": (
        "EmbedderSpec",
        "Image",
        "Item",
        "Match",
        "Mixed",
        "PointId",
        "Record",
        "Role",
        "StoreSchema",
        "StoreState",
        "Text",
        "Usage",
    ),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


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
    return sorted(__all__)
