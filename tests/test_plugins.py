"""Backends by name: ours, those of other packages, and values that stand for them in another process."""

from __future__ import annotations

import importlib.util
import multiprocessing
import pickle
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aleph_alpha_server import AlephAlphaServer
from paths import ROOT

from multimodal_search import (
    ColorEmbedder,
    ConfigurationError,
    EmbedderRef,
    MemoryStore,
    MultimodalIndex,
    StoreRef,
    Text,
    load_embedder,
    load_store,
)
from multimodal_search import _plugins as plugins
from multimodal_search.embedders import registry as embedders
from multimodal_search.stores import registry as stores

Install = Any


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package: its name, its entry points, and its one module, which has the package's name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, entry_points: str, code: str = "", *, encoding: str = "utf-8") -> None:
        metadata = tmp_path / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(entry_points, encoding)
        (tmp_path / f"{name}.py").write_text(code)

    return install


def test_ours_are_loaded_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load_embedder("color").spec == ColorEmbedder().spec
    assert isinstance(load_store("memory"), MemoryStore)
    assert repr(load_store("qdrant-edge", path=tmp_path / "index")) == f"QdrantEdgeStore({str(tmp_path / 'index')!r})"
    assert {"color", "aleph-alpha"} <= set(embedders.embedder_names())
    assert {"memory", "qdrant", "qdrant-edge"} <= set(stores.store_names())


@pytest.mark.parametrize("kind", ["embedders", "stores"])
def test_ours_are_entry_points_and_need_no_metadata(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen program, or a checkout on the import path, has none."""
    registry = {"embedders": embedders, "stores": stores}[kind]
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    (section,) = re.findall(rf'\[project\.entry-points\."{re.escape(registry.GROUP)}"\]\n((?:.+\n)+)', text)
    written = dict(re.findall(r'^([\w-]+) = "(.+)"$', section, flags=re.MULTILINE))
    assert written == {name: own.value for name, own in registry._OWN.items()}
    monkeypatch.setattr(plugins, "distributions", lambda: ())
    assert registry._PLUGINS.names() == sorted(written)
    for state in registry._PLUGINS.states():
        assert state.package == "multimodal-search"
    assert load_embedder("color").spec.model == "color"


def test_what_is_given_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AA_HOST", "https://one.example")
    monkeypatch.setenv("AA_TOKEN", "a-secret-token")
    monkeypatch.setenv("QDRANT_URL", "http://two.example:6333")
    monkeypatch.setenv("QDRANT_API_KEY", "a-secret-key")
    assert "one.example" in repr(load_embedder("aleph-alpha"))
    other = load_embedder("aleph-alpha", host="https://other.example", compress_to_size=None)
    assert "other.example" in repr(other)
    assert "full" in other.spec.fingerprint
    assert "two.example" in repr(load_store("qdrant", collection="photos"))
    assert "three.example" in repr(load_store("qdrant", collection="photos", url="https://three.example"))
    assert "memory" in repr(load_store("qdrant", collection="photos", location=":memory:"))
    monkeypatch.delenv("AA_TOKEN")
    with pytest.raises(ConfigurationError, match="AA_TOKEN"):
        load_embedder("aleph-alpha", host="https://other.example")
    monkeypatch.delenv("AA_HOST")
    with pytest.raises(ConfigurationError, match="AA_HOST"):
        load_embedder("aleph-alpha", token="a-secret-token")


def test_options_that_are_not_taken_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"'color' .* options sise.*unexpected keyword argument 'sise'"):
        load_embedder("color", sise=3)
    with pytest.raises(ConfigurationError, match=r"'qdrant-edge' .*'path'"):
        load_store("qdrant-edge")
    with pytest.raises(ConfigurationError, match=r"no store is called 'redis'; there are: .*memory"):
        load_store("redis")


def test_no_secret_shows_in_an_error(install: Install) -> None:
    install(
        "leaky",
        "[multimodal_search.embedders]\nleaky = leaky:make\n",
        "def make(**options):\n    raise ValueError(f'bad options {options}')\n",
    )
    with pytest.raises(ConfigurationError) as caught:
        load_embedder("leaky", api_key="sk-1234567890", headers={"X-Api-Key": "xk-1234567890"}, token=None, size=3)
    assert "leaky" in str(caught.value)
    assert "-1234567890" not in str(caught.value)
    assert "'token': None, 'size': 3" in str(caught.value)


# -- values ------------------------------------------------------------------------------------------------------------


def test_a_ref_is_a_small_value(tmp_path: Path) -> None:
    for ref in (EmbedderRef("color"), StoreRef("qdrant-edge", path=tmp_path, index_payload=False)):
        again = pickle.loads(pickle.dumps(ref))
        assert again == ref
        assert hash(again) == hash(ref)
        assert eval(repr(StoreRef("a", b=[1, "c"], d={"e": None}))) == StoreRef("a", b=[1, "c"], d={"e": None})
        assert len(pickle.dumps(ref)) < 500
    assert StoreRef("color") != EmbedderRef("color")
    assert EmbedderRef("color", a=1) != EmbedderRef("color", a=2)


@pytest.mark.parametrize(
    "options",
    [
        {"token": "a-secret"},
        {"api_key": "a-secret"},
        {"qdrant_api_key": None},
        {"url": "https://user:a-secret@qdrant.example"},
        {"headers": {"X-Token": "a-secret"}},
        {"headers": {"Authorization": "a-secret"}},
        {"passwd": "a-secret"},
        {"client": object()},
        {"sizes": {1, 2}},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("kind", [EmbedderRef, StoreRef])
def test_a_ref_takes_no_secrets_and_nothing_that_cannot_be_written(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=rf"{kind.__name__}\('any'\)|option") as caught:
        kind("any", **options)
    assert "a-secret" not in str(caught.value)


@pytest.mark.parametrize("kind", [EmbedderRef, StoreRef])
def test_the_name_of_a_ref_is_a_text(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="name of a backend is a str, not 7"):
        kind(7)


def test_another_process_makes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the token of its environment: the value that travels has none."""
    with AlephAlphaServer(subprocess=True) as server:
        monkeypatch.setenv("AA_TOKEN", server.token)
        refs = [EmbedderRef("color"), EmbedderRef("aleph-alpha", host=server.url)]
        assert server.token.encode() not in pickle.dumps(refs)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            elsewhere = list(pool.map(fingerprint_and_vector, refs))
        assert elsewhere == [fingerprint_and_vector(ref) for ref in refs]


def fingerprint_and_vector(ref: EmbedderRef) -> tuple[str, list[float]]:
    embedder = ref.load()
    return embedder.spec.fingerprint, embedder.embed([Text("red")], role="query")[0].tolist()


def test_an_index_takes_a_ref_and_makes_the_embedder_when_it_is_needed() -> None:
    with MultimodalIndex(EmbedderRef("color").load, StoreRef("memory").load()) as index:
        index.add_texts(["a red apple"])
        assert index.search("red")[0].payload["text"] == "a red apple"


# -- other packages ----------------------------------------------------------------------------------------------------


def test_a_store_of_another_package_is_loaded(install: Install) -> None:
    install(
        "vault",
        "[multimodal_search.stores]\nvault = vault:Vault\n",
        "from multimodal_search import MemoryStore\n\n"
        "class Vault(MemoryStore):\n    def __init__(self, size):\n"
        "        super().__init__()\n        self.size = size\n",
    )
    assert load_store("vault", size=3).size == 3  # type: ignore[attr-defined]
    assert "vault" in stores.store_names()
    assert {state.name: state.package for state in stores.store_states()}["vault"] == "vault"


def test_a_broken_package_costs_only_itself_and_is_named(install: Install) -> None:
    install("garbled", "[multimodal_search.embedders]\nno equals sign\n= nothing\n")
    install("accented", "[multimodal_search.embedders]\né = accented:make\n", encoding="latin-1")
    install("exiting", "[multimodal_search.embedders]\nexiting = exiting:make\n", "raise SystemExit('no licence')\n")
    install(
        "storing",
        "[multimodal_search.embedders]\nstoring = storing:make\n",
        "from multimodal_search import StoreError\nraise StoreError('no disk')\n",
    )
    install("unparsable", "[multimodal_search.embedders]\nunparsable = unparsable:make\n", "def make(:\n")
    install("raising", "[multimodal_search.embedders]\nraising = raising:make\n", "raise OSError('no such device')\n")
    install("lacking", "[multimodal_search.embedders]\nlacking = lacking:make [gpu]\n", "import no_such_module\n")
    install("number", "[multimodal_search.embedders]\nnumber = number:make\n", "make = 3\n")
    install(
        "right",
        "[multimodal_search.embedders]\nright = right:ColorEmbedder\n",
        "from multimodal_search import ColorEmbedder\n",
    )
    assert load_embedder("right").spec.model == "color"
    assert load_embedder("color").spec.model == "color"
    for name, said in (
        ("unparsable", "SyntaxError"),
        ("raising", "no such device"),
        ("lacking", "no_such_module"),
        ("number", "cannot be called"),
        ("exiting", "no licence"),
    ):
        with pytest.raises(ConfigurationError, match=rf"'{name}' \({name}:make.*, of {name}\).*{said}"):
            load_embedder(name)
    states = {state.name: state for state in embedders.embedder_states()}
    assert states["right"].problem == ""
    broken = ("unparsable", "raising", "lacking", "number", "garbled", "accented", "exiting", "storing")
    assert all(states[name].problem for name in broken)
    assert states["lacking"].remedy == 'pip install --upgrade "lacking[gpu]"'
    assert "garbled" in states["garbled"].problem


def test_two_packages_with_one_name_are_both_named(install: Install) -> None:
    for name in ("one", "two"):
        install(
            name,
            f"[multimodal_search.embedders]\nclip = {name}:ColorEmbedder\ncolor = {name}:nothing\n",
            "from multimodal_search import ColorEmbedder\n",
        )
    with pytest.raises(ConfigurationError, match=r"'clip': one, two"):
        load_embedder("clip")
    assert isinstance(load_embedder("color"), ColorEmbedder)
    states = {state.name: state for state in embedders.embedder_states()}
    assert "one, two" in states["clip"].problem
    assert states["clip"].remedy == ""  # to install one of them again would not help
    assert states["color"].package == "multimodal-search"


def test_what_is_missing_is_said_with_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    missing = ("qdrant_edge", "aleph_alpha_client")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else found(name))
    states = {state.name: state for state in (*embedders.embedder_states(), *stores.store_states())}
    assert states["qdrant-edge"].remedy == 'pip install "multimodal-search[edge]"'
    if sys.version_info < (3, 14):
        assert states["aleph-alpha"].remedy == 'pip install "aleph-alpha-client"'
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    states = {state.name: state for state in embedders.embedder_states()}
    assert states["aleph-alpha"].problem == "aleph-alpha-client has no release for Python 3.14 or later"


@pytest.mark.parametrize(("module", "package"), [("store", "hypothesis"), ("embedder", "pytest"), ("texts", "pytest")])
def test_the_contracts_say_which_extra_they_need(module: str, package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import multimodal_search.testing.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("multimodal_search.errors.MissingExtraError: ")
    assert f"{package!r}, which is not installed" in done.stderr
    assert 'pip install "multimodal-search[testing]"' in done.stderr
