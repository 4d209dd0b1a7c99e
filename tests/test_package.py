"""The shape of the package: who imports whom, what is exported, what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import multimodal_search

PACKAGE = Path(multimodal_search.__file__).parent

FLOORS = [
    {"_secrets", "_spellings"},
    {"errors"},
    {"_printable"},
    {"_bounds"},
    {"_terms", "_paths", "_regular_files"},
    {"types"},
    {"protocols", "_ids", "_extras", "_closing", "_filters", "_ranking", "_payload", "_rows", "_reference_queries"},
    {"_progress", "_pace", "_ctrl_c", "_bm25", "_notes", "_replacing", "_hubs", "_ledger", "_patterns", "_batching"},
    {"_remote", "_lettering", "_locks", "_retry_deadline", "_failure", "_languages", "_failed_contents", "_path_text"},
    {"_file_kinds", "_image_repair", "_memory_budget", "_pixels", "_silence", "_uncommon_kinds", "_zip_names"},
    {"_media", "_archive_entry", "_export", "_manifest", "_clutter"},
    {"_archive_tar", "_archive_zip"},
    {"_archives"},
    {"_card", "_embedding", "_writing"},
    {"_contact_sheet", "_html", "_terminal", "_late_embedder"},
    {"_model_version"},
    {"results", "query", "_reference_bank"},
    {"_absence", "_sources", "_tally", "_calibration", "embedders", "stores"},
    {"_identity", "_loading", "_registry", "_records", "_calibrator"},
    {"_integrity", "_job", "_duplicates", "_searching"},
    {"_reuse", "_verdicts", "_isolation"},
    {"_embed_stage"},
    {"_indexing", "_pruning"},
    {"_indexer"},
    {"index"},
    {"aio"},
    {"_demo", "testing"},
    {"_folder_index"},
    {"cli"},
    {"__main__"},
]
"""From the bottom up. A file imports only from floors below its own; the files of one backend may share parts."""

FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}


def _modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def _imports(path: Path) -> set[str]:
    """The modules of this package that a file imports, wherever in the file, but for type checkers only."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting.extend(node.orelse)
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.ImportFrom) and node.module == "multimodal_search":
            found.update(f"multimodal_search.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("multimodal_search."):
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.startswith("multimodal_search"))
    return found


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards_only(path: Path) -> None:
    """A file can be read knowing only what lies below it; there are no cycles."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    assert parts[0] in FLOOR_OF, f"{path.name} has no floor yet: give it one"
    for module in _imports(path):
        below = module.split(".")[1:]
        assert below, f"{path.name} imports the package itself"
        if below[0] == parts[0] and len(parts) > 1:  # parts of one backend
            assert below[1].startswith("_"), f"{path.name} imports its sibling {module}"
        else:
            assert FLOOR_OF[below[0]] < FLOOR_OF[parts[0]], f"{path.name} climbs to {module}"


def _statement_lines(path: Path) -> int:
    """Lines that are neither blank, nor comments, nor docstrings."""
    text = path.read_text(encoding="utf-8")
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds) and ast.get_docstring(node)]
    prose = {line for node in documented for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)}
    code = [line for number, line in enumerate(text.splitlines(), start=1) if number not in prose]
    return sum(1 for line in code if line.strip() and not line.lstrip().startswith("#"))


def test_no_file_is_too_long_to_read() -> None:
    """Past some 400 lines of code a file holds more than one noun."""
    assert {path.name: lines for path in _modules() if (lines := _statement_lines(path)) > 450} == {}


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
            "ModelVersionWarning",
            "Mixed",
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
    assert not {"qdrant_client", "qdrant_edge", "aleph_alpha_client", "requests"} & set(run.stdout.split())


def test_every_error_is_of_the_one_tree_that_its_file_draws() -> None:
    from multimodal_search import errors

    drawing = (errors.__doc__ or "").split()
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, BaseException):
            assert name in drawing
            assert issubclass(kind, (errors.MultimodalSearchError, KeyboardInterrupt, UserWarning))
