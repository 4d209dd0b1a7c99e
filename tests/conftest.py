"""Fixtures that every test may use."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from paths import ROOT, SUPPORT

from multimodal_search import MemoryStore, MissingExtraError, QdrantEdgeStore, QdrantStore, VectorStore

# What is remembered of a server's items lies in the user's cache: tests leave that alone.
os.environ["XDG_CACHE_HOME"] = os.environ["LOCALAPPDATA"] = tempfile.mkdtemp(prefix="multimodal-search-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# The shell's own default is a model that is downloaded.
os.environ["MULTIMODAL_SEARCH_EMBEDDER"] = "color"

if importlib.util.find_spec("aleph_alpha_client") is None:  # as on Python 3.14, for which it has no release
    collect_ignore_glob = ["embedders/*aleph_alpha*", "system/test_example.py"]

    def pytest_report_header() -> str:
        """Say what is left out."""
        return "aleph-alpha-client is not installed: tests of AlephAlphaEmbedder are skipped"

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call() -> Generator[None, object, object]:
        """Skip a test that turns out to need the client."""
        try:
            return (yield)
        except MissingExtraError as error:
            if "aleph-alpha-client" in str(error):
                pytest.skip(str(error))
            raise


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Three processes for two cores: tests wait a third of their time, for sockets, disks and other processes."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return cores + (cores + 1) // 2


# Programs that tests start find what is in `support` as well.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SUPPORT), os.environ.get("PYTHONPATH")]))

# A shell starts programs in its background deaf to Ctrl-C, and theirs too: some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photos and strange files beside the checkout; the test skips where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the photo collection in {folder}, which is not part of the project")
    return folder


@pytest.fixture(params=["memory", "edge", "qdrant"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], VectorStore]:
    """Makes an empty store of each kind."""
    stores: dict[str, Callable[[], VectorStore]] = {
        "memory": MemoryStore,
        "edge": lambda: QdrantEdgeStore(tmp_path / "index"),
        "qdrant": lambda: QdrantStore("test", location=":memory:"),
    }
    return stores[request.param]
