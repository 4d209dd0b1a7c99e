"""An index and a local model: the default, the model that is kept with an index, equal models, texts that are cut."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx, which makes the models of these tests, is not installed")
pytest.importorskip("onnxruntime", reason="the extra local is not installed")

import tiny_models
from hub_server import HubServer

from multimodal_search import (
    ColorEmbedder,
    ConfigurationError,
    EmbedderSpec,
    Item,
    MemoryStore,
    MultimodalIndex,
    OnnxEmbedder,
    Role,
    SchemaMismatchError,
    Text,
)
from multimodal_search.__main__ import main
from multimodal_search.embedders.onnx.catalogue import DEFAULT_MODEL, MODELS
from multimodal_search.testing._images import image
from multimodal_search.types import Content, FloatArray

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny_models.siglip2(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        image(number).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process: its exit status, and what it wrote."""

    def runner(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["multimodal-search", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), *capfd.readouterr()

    return runner


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], HubServer]:
    """The hub, with the default model in it; and an empty cache, both until the end of the test."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")

    def start() -> HubServer:
        server = HubServer({DEFAULT_MODEL: model}).__enter__()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        return server

    return start


# -- the default -------------------------------------------------------------------------------------------------------


def test_a_new_index_finds_by_meaning(hub: Callable[[], HubServer], tmp_path: Path, photos: Path) -> None:
    """With the model that is downloaded then; and again with what is here."""
    server = hub()
    with MultimodalIndex.open(tmp_path / "index") as index:
        assert index.add_images(photos, progress=False).added == 3
        assert index.status().model == DEFAULT_MODEL
        first = [hit.score for hit in index.search("a dog")]
    server.__exit__(None, None, None)
    with MultimodalIndex.open(tmp_path / "index") as index:
        pinned = MODELS[DEFAULT_MODEL].towers["image"].revision
        assert repr(index.embedder) == f"OnnxEmbedder('{DEFAULT_MODEL}', revision='{pinned}')"
        assert [hit.score for hit in index.search("a dog")] == first


def test_the_shell_finds_by_meaning(hub: Callable[[], HubServer], photos: Path, tmp_path: Path) -> None:
    """It says how much is downloaded, once, and to where."""

    def shell(*arguments: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "MULTIMODAL_SEARCH_EMBEDDER": ""}
        command = [sys.executable, "-m", "multimodal_search", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment)

    with hub():
        done = shell("index", photos)
        assert done.stdout.startswith("3 added")
        assert done.stderr == f"downloading some kB of {DEFAULT_MODEL} to {tmp_path / 'home' / 'hub'}\n"
    assert shell("search", "a dog", photos).stderr == ""
    assert DEFAULT_MODEL in shell("status", photos).stdout


def test_a_dry_run_downloads_nothing(photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MULTIMODAL_SEARCH_EMBEDDER")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "dry run, nothing is stored: 3 added" in run("index", photos, "--dry-run")[1]


def test_where_the_extra_is_missing_the_shell_says_what_to_install_and_that_color_needs_nothing(
    photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MULTIMODAL_SEARCH_EMBEDDER")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    said = run("index", photos)[2]
    assert said == (
        'multimodal-search: to find images by meaning, with a model on this machine: pip install "multimodal-search'
        '[local]"; to find them by colours, which needs nothing: --embedder color\n'
    )
    assert run("index", photos, "--embedder", "color")[0] == 0
    assert run("index", photos)[1].startswith("3 unchanged")


# -- the embedder that an index was made with --------------------------------------------------------------------------


def test_an_index_opens_with_the_embedder_and_options_that_it_was_made_with(
    model: Path, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from another working directory."""
    monkeypatch.chdir(tmp_path)
    embedder = OnnxEmbedder("model", variant={"image": "int8"}, threads=1)
    with MultimodalIndex.open("index", embedder=embedder) as index:
        index.add_images(photos, progress=False)
        found = [(hit.id, hit.score) for hit in index.search("a dog")]
    monkeypatch.chdir(photos)
    with MultimodalIndex.open(tmp_path / "index") as index:
        assert [(hit.id, hit.score) for hit in index.search("a dog")] == found
        assert index.embedder.ref == embedder.ref  # type: ignore[attr-defined]
    kept = json.loads((tmp_path / "index" / "notes" / "embedder").read_text("utf-8"))
    assert kept == {
        "name": "onnx",
        "options": {"model": str(model), "variant": {"image": "int8"}, "threads": 1},
    }


def test_nothing_is_loaded_before_something_is_embedded(model: Path, tmp_path: Path) -> None:
    with MultimodalIndex.open(tmp_path / "index", embedder=OnnxEmbedder(model)) as index:
        index.add_texts(["a"], progress=False)
    shutil.rmtree(model)
    with MultimodalIndex.open(tmp_path / "index") as index:
        assert index.count() == 1
        with pytest.raises(ConfigurationError, match=f"{model}' is neither a folder on this machine"):
            index.search("b")


def test_an_index_of_colours_stays_one(tmp_path: Path, photos: Path) -> None:
    """Whatever is installed by then."""
    with MultimodalIndex.open(tmp_path / "index", embedder=ColorEmbedder()) as index:
        index.add_images(photos, progress=False)
    with MultimodalIndex.open(tmp_path / "index") as index:
        index.search("red")
        assert repr(index.embedder) == "ColorEmbedder()"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"name": 3, "options": {}}', '{"name": "color", "options": {"token": ""}}']
)
def test_a_damaged_note_of_the_embedder_is_as_none(tmp_path: Path, text: str) -> None:
    with MultimodalIndex.open(tmp_path / "index", embedder=ColorEmbedder()) as index:
        index.add_texts(["red"], progress=False)
        index.store.set_index_metadata("embedder", text)  # type: ignore[attr-defined]
    with (
        MultimodalIndex.open(tmp_path / "index") as index,
        pytest.raises(ConfigurationError, match="opened without an embedder"),
    ):
        index.search("red")


def test_the_shell_takes_the_model_that_an_index_was_made_with(model: Path, photos: Path, run: Run) -> None:
    """One that a program made in the shell's own place."""
    with MultimodalIndex.open(photos / ".multimodal-search" / "index", embedder=OnnxEmbedder(model)) as index:
        index.sync_folder(photos, progress=False)
    assert run("search", "a dog", photos)[0] == 0
    image(7).save(photos / "7.png")
    assert run("index", photos)[1].startswith("1 added, 3 unchanged")


# -- equal vectors of another fingerprint ------------------------------------------------------------------------------


class Elsewhere:
    """The same model through another library: another fingerprint, and vectors that differ in the last digits."""

    def __init__(self, inner: OnnxEmbedder, noise: float) -> None:
        self.inner, self.noise = inner, noise
        self.embedded = 0
        self.spec = EmbedderSpec(
            model="the same",
            fingerprint="elsewhere/1",
            dimension=inner.spec.dimension,
            modalities=inner.spec.modalities,
        )

    def prepare(self, content: Content, /) -> Content:
        return self.inner.prepare(content)

    def embed(self, contents: list[Content], /, *, role: Role) -> FloatArray:
        self.embedded += len(contents)
        rows = self.inner.embed(contents, role=role)
        return rows + np.random.default_rng(0).normal(0, self.noise, rows.shape).astype(np.float32)


@pytest.fixture
def filled(model: Path, photos: Path) -> MemoryStore:
    store = MemoryStore()
    index = MultimodalIndex(OnnxEmbedder(model), store)
    index.add_images(photos, progress=False)
    index.add_texts([f"text {number}" for number in range(40)], progress=False)
    return store


def test_the_same_model_elsewhere_is_accepted_when_asked_for(filled: MemoryStore, model: Path) -> None:
    other = Elsewhere(OnnxEmbedder(model), noise=1e-4)
    with pytest.raises(SchemaMismatchError, match="fingerprint"):
        MultimodalIndex(other, copy_of(filled))
    with MultimodalIndex(other, copy_of(filled), accept_equal=True) as index:
        assert other.embedded == 32
        assert index.search("text 3", limit=1)[0].text == "text 3"
        assert index.add_texts(["one more"], progress=False).added == 1
        assert index.status().fingerprint.startswith("onnx/")


def test_another_model_is_refused_with_the_figure(filled: MemoryStore, model: Path) -> None:
    other = Elsewhere(OnnxEmbedder(model), noise=0.1)
    with pytest.raises(
        SchemaMismatchError,
        match=r"Of 32 stored items that were embedded anew, \d+ have a cosine of 0.999 .* is 0\.\d{4}",
    ):
        MultimodalIndex(other, filled, accept_equal=True)


def test_a_late_embedder_is_compared_when_it_is_made(filled: MemoryStore, model: Path) -> None:
    with MultimodalIndex(lambda: Elsewhere(OnnxEmbedder(model), 1e-4), copy_of(filled), accept_equal=True) as index:
        assert index.search("text 3", limit=1)[0].text == "text 3"
    with (
        MultimodalIndex(lambda: Elsewhere(OnnxEmbedder(model), 0.1), filled, accept_equal=True) as index,
        pytest.raises(SchemaMismatchError, match="Of 32 stored items"),
    ):
        index.search("text 3")


def test_where_nothing_can_be_read_nothing_is_accepted(filled: MemoryStore, model: Path) -> None:
    filled.delete([record.id for record in filled.scan()])
    with pytest.raises(SchemaMismatchError, match="there is none whose file or text can be read"):
        MultimodalIndex(Elsewhere(OnnxEmbedder(model), 0), filled, accept_equal=True)


def test_a_file_that_has_changed_is_not_compared(filled: MemoryStore, model: Path, photos: Path) -> None:
    for path in photos.iterdir():
        image(99).resize((30, 30)).save(path)
    with MultimodalIndex(Elsewhere(OnnxEmbedder(model), 0), filled, accept_equal=True) as index:
        assert index.count() == 43


def test_another_dimension_is_never_equal(filled: MemoryStore) -> None:
    with pytest.raises(SchemaMismatchError, match="dimension 24 instead of 88"):
        MultimodalIndex(ColorEmbedder(), filled, accept_equal=True)


def copy_of(store: MemoryStore) -> MemoryStore:
    records = list(store.scan())
    vectors = np.array([each.vector for each in store.get([r.id for r in records], with_vectors=True) if each])
    copied = MemoryStore()
    copied.ensure(store.stored_schema())  # type: ignore[arg-type]
    copied.upsert(records, vectors)
    return copied


# -- texts that are cut ------------------------------------------------------------------------------------------------


def test_texts_that_the_model_cuts_are_told_once_a_run(model: Path) -> None:
    """With the first few names; what is stored unchanged is told no more."""
    long = [Item(Text(f"{number} " + "x" * 80), id=number) for number in range(1, 6)]
    with MultimodalIndex(OnnxEmbedder(model), MemoryStore()) as index:
        report = index.add([*long, Item(Text("short"), id=9)], progress=False)
        assert len(report.truncated) == 5
        said = str(report)
        assert said.startswith("6 added, 5 longer than the model reads, so only their beginnings count (")
        assert "; and 2 more) in " in said
        assert report.to_dict()["truncated"] == list(report.truncated)
        assert index.add(long, progress=False).truncated == ()


# -- the command models ------------------------------------------------------------------------------------------------


def test_models_are_listed_downloaded_and_found(hub: Callable[[], HubServer], tmp_path: Path, run: Run) -> None:
    status, out, _ = run("models")
    assert status == 0
    assert (
        f"{DEFAULT_MODEL} (default)\n  Apache-2.0; about 100, strongest in Europe's; 768 dimensions; 1,502 MB; not d"
        in out
    )
    assert run("models", "path")[0] == 1
    with hub() as server:
        status, out, _ = run("models", "download", DEFAULT_MODEL, "--variant", "text=int8")
        assert (status, out) == (0, f"{tmp_path / 'hub-cache'}\n")
        assert "onnx/vision_model.onnx" in server.files
        assert "onnx/text_model_quantized.onnx" in server.files
        assert "onnx/text_model.onnx" not in server.files
    status, out, _ = run("models", "path", "--variant", "text=int8", "--variant", "image=fp32")
    assert status == 0
    assert (Path(out.strip()) / "tokenizer.json").is_file()
    assert run("models", "path", "--variant", "q4")[0] == 1
    assert not json.loads(run("models", "--json")[1])[0]["downloaded"], "fp32 is what would be taken"
    with hub():
        run("models", "download")
    assert json.loads(run("models", "--json")[1])[0]["downloaded"]


def test_models_refuse_what_makes_no_sense(run: Run) -> None:
    assert "there is no variant 'int4'" in run("models", "download", "--variant", "int4")[2]
    assert "the towers are image and text" in run("models", "download", "--variant", "words=int8")[2]
    assert "neither a folder on this machine nor a name of the hub" in run("models", "path", "clip")[2]
