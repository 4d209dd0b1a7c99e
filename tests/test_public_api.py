"""What is exported, and what importing it costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

import multimodal_search

PACKAGE = Path(multimodal_search.__file__).parent


def test_exported_names() -> None:
    """Programs elsewhere are written against these: removing one breaks them."""
    assert sorted(multimodal_search.__all__) == sorted(
        [
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
            "EmbedderRef",
            "EmbedderResponseError",
            "EmbedderSpec",
            "EmbedderUnavailableError",
            "Failure",
            "HttpEmbedder",
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
            "ModelVersionWarning",
            "Mixed",
            "MultimodalIndex",
            "MultimodalSearchError",
            "NotAnImageError",
            "OnnxEmbedder",
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
            "SentenceTransformersEmbedder",
            "SequentialIds",
            "StoreClosedError",
            "StoreError",
            "StoreLockedError",
            "StoreRef",
            "StoreRefusedError",
            "StoreSchema",
            "StoreState",
            "StoreUnavailableError",
            "Stored",
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
            "Text",
            "TuningReport",
            "UnknownLanguageWarning",
            "UnreadableContentError",
            "UnsupportedContentError",
            "Usage",
            "Vector",
            "VectorStore",
            "VerifyReport",
            "__version__",
            "load_embedder",
            "load_store",
        ]
    )
    for name in multimodal_search.__all__:
        assert getattr(multimodal_search, name) is not None
    assert set(dir(multimodal_search)) == set(multimodal_search.__all__)
    with pytest.raises(AttributeError, match="Nonsense"):
        multimodal_search.Nonsense  # noqa: B018


def test_importing_loads_nothing_heavy() -> None:
    """A program that only might search should not pay two seconds for an SDK."""
    code = (
        "import sys, multimodal_search; "
        "print([name for name in sys.modules if name.startswith('multimodal_search')], *sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own, rest = run.stdout.split("] ", 1)
    assert own == "['multimodal_search'"
    assert not {"numpy", "PIL", "qdrant_client", "qdrant_edge", "aleph_alpha_client"} & set(rest.split())


def test_no_adapter_loads_another_ones_sdk() -> None:
    """Whoever searches in-process never waits for qdrant-client or the Aleph Alpha SDK."""
    code = (
        "import sys, multimodal_search as m; [getattr(m, name) for name in m.__all__]; "
        "m.MultimodalIndex(m.ColorEmbedder(), m.MemoryStore()).add_texts(['red']); print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"qdrant_client", "qdrant_edge", "aleph_alpha_client", "requests", "urllib3"} & set(run.stdout.split())


def test_every_error_is_of_the_one_tree_that_its_file_draws() -> None:
    from multimodal_search import errors

    drawing = (errors.__doc__ or "").split()
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, BaseException):
            assert name in drawing
            assert issubclass(kind, (errors.MultimodalSearchError, KeyboardInterrupt, UserWarning))


def test_the_reference_has_every_public_name() -> None:
    """Of the package, of the kit for authors of stores, and the contracts; the site is built with the first alone."""
    pages = [path.read_text("utf-8") for path in sorted((ROOT / "docs" / "reference").glob("*.rst"))]
    shown = set(re.findall(r"^\.\. auto\w+:: multimodal_search\.(\S+)$", "\n".join(pages), re.MULTILINE))
    kit = {
        f"{path.parent.name}.{path.stem}"
        for path in [*PACKAGE.glob("stores/*.py"), *PACKAGE.glob("testing/*.py"), *PACKAGE.glob("filters/*.py")]
        if not path.name.startswith("_")
    }
    assert kit - {"stores.memory", "stores.registry"} <= shown  # of which it has classes and functions
    for name in set(multimodal_search.__all__) - {"__version__"}:
        home = getattr(getattr(multimodal_search, name), "__module__", "").removeprefix("multimodal_search.")
        assert {home, f"{home}.{name}"} & shown or name in {"PointId", "Role"}, name  # of `types`
