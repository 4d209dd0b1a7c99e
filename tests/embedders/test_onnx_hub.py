"""Models of the hub: what is downloaded, what is taken from the cache, and what is said where neither works."""

from __future__ import annotations

import logging
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx, which makes the models of these tests, is not installed")
pytest.importorskip("onnxruntime", reason="the extra local is not installed")
pytest.importorskip("huggingface_hub", reason="the extra local is not installed")

import tiny_models
from hub_server import COMMIT, HubServer
from tiny_models import ids_of, pixels_of

from multimodal_search import ConfigurationError, EmbedderError, EmbedderUnavailableError, Image, OnnxEmbedder, Text
from multimodal_search.embedders.onnx import catalogue
from multimodal_search.embedders.onnx.catalogue import KnownModel, KnownTower
from multimodal_search.testing._images import image

NAME = "tiny/siglip2"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    tiny_models.siglip2(tmp_path / "of-hub")
    for name in ("README.md", "model.safetensors", "onnx/model.onnx"):
        (tmp_path / "of-hub" / name).write_bytes(b"not needed")
    with HubServer({NAME: tmp_path / "of-hub"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_only_the_files_that_are_needed_are_downloaded(
    hub: HubServer, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of ten variants of each tower, one; and how much that is, before it begins."""
    embedder = OnnxEmbedder(NAME, cache_folder=cache, variant={"text": "int8"})
    assert hub.requests == [], "nothing is asked before something is needed"
    with caplog.at_level(logging.WARNING):
        assert embedder.spec.model == NAME
    assert sorted(hub.files) == [
        "config.json",
        "onnx/text_model_quantized.onnx",
        "onnx/vision_model.onnx",
        "onnx/vision_model.onnx_data",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("multimodal_search")] == [
        f"downloading some kB of {NAME} to {cache}"
    ]


def test_vectors_are_those_of_the_files(hub: HubServer, cache: Path, tmp_path: Path) -> None:
    """The hub's cache is a folder of links, which ONNX Runtime follows to the weights beside a graph, too."""
    embedder = OnnxEmbedder(NAME, cache_folder=cache)
    weights = tiny_models.Weights()
    shown = image(2)
    rows = embedder.embed([Image(shown), Text("a dog")], role="query")
    np.testing.assert_allclose(rows[0], weights.embed_image(pixels_of(shown, squash=True, bilinear=True)), atol=2e-6)
    np.testing.assert_allclose(rows[1], weights.embed_text(ids_of("a dog", 64)), atol=2e-6)
    assert embedder.spec.fingerprint == OnnxEmbedder(tmp_path / "of-hub").spec.fingerprint


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_what_is_in_the_cache_is_taken_without_asking(hub: HubServer, cache: Path, revision: str | None) -> None:
    """An index needs the model that it was made with, with or without a network."""
    first = OnnxEmbedder(NAME, cache_folder=cache, revision=revision).spec
    hub.requests.clear()
    assert OnnxEmbedder(NAME, cache_folder=cache, revision=revision).spec == first
    assert OnnxEmbedder(NAME, cache_folder=cache, revision=revision, local_files_only=True).spec == first
    assert OnnxEmbedder(NAME, cache_folder=cache, revision=COMMIT).spec == first
    assert hub.requests == []


def test_another_variant_is_downloaded_beside_the_first(hub: HubServer, cache: Path) -> None:
    first = OnnxEmbedder(NAME, cache_folder=cache, variant="int8").spec
    hub.files.clear()
    second = OnnxEmbedder(NAME, cache_folder=cache).spec
    assert sorted(hub.files) == ["onnx/text_model.onnx", "onnx/vision_model.onnx", "onnx/vision_model.onnx_data"]
    assert first.fingerprint != second.fingerprint


def test_a_model_that_is_known_has_its_revision_pinned(
    hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published under a name may change; an index made with it may not."""
    towers = {side: KnownTower(repository=NAME, revision=COMMIT) for side in ("image", "text")}
    known = KnownModel(name=NAME, licence="x", languages=("en",), languages_said="English", dimension=24, towers=towers)  # type: ignore[arg-type]
    monkeypatch.setitem(catalogue.MODELS, NAME, known)
    assert OnnxEmbedder(NAME, cache_folder=cache).spec.languages == ("en",)
    assert {request.split("/revision/")[1] for request in hub.requests if "/api/" in request} == {COMMIT}
    assert not (cache / "models--tiny--siglip2" / "refs").exists()


def test_a_folder_of_the_cache_has_the_name_of_its_model(hub: HubServer, cache: Path) -> None:
    """So that an index opens with either."""
    named = OnnxEmbedder(NAME, cache_folder=cache)
    (folder,) = (cache / "models--tiny--siglip2" / "snapshots").iterdir() if named.spec else ()
    assert OnnxEmbedder(folder).spec == named.spec


def test_a_download_that_broke_off_goes_on(hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.cut = "onnx/text_model.onnx"
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's attempts
    with pytest.raises(EmbedderUnavailableError, match=f"the model {NAME} is not on this machine, and downloading it"):
        _ = OnnxEmbedder(NAME, cache_folder=cache).spec
    hub.cut = None
    hub.files.clear()
    assert OnnxEmbedder(NAME, cache_folder=cache).spec.dimension == tiny_models.DIMENSION
    assert hub.files == ["onnx/text_model.onnx"]


def test_a_file_that_arrives_damaged_is_removed(hub: HubServer, cache: Path) -> None:
    """The hub's client compares lengths only."""
    hub.damaged = "onnx/text_model.onnx"
    with pytest.raises(EmbedderUnavailableError, match=r"text_model.onnx arrived damaged, and was removed again"):
        _ = OnnxEmbedder(NAME, cache_folder=cache).spec
    hub.damaged = None
    assert OnnxEmbedder(NAME, cache_folder=cache).spec.dimension == tiny_models.DIMENSION


def test_a_damaged_file_in_the_cache_is_named(hub: HubServer, cache: Path) -> None:
    assert OnnxEmbedder(NAME, cache_folder=cache).spec
    (text,) = cache.rglob("text_model.onnx")
    text.resolve().write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match=r"text_model.onnx is no ONNX file"):
        _ = OnnxEmbedder(NAME, cache_folder=cache).spec


@pytest.mark.parametrize("forbidden", ["local_files_only", "HF_HUB_OFFLINE"])
def test_where_nothing_may_be_downloaded_one_sentence_says_what_to_copy_where(
    hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch, forbidden: str
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", forbidden == "HF_HUB_OFFLINE")
    embedder = OnnxEmbedder(NAME, cache_folder=cache, local_files_only=forbidden == "local_files_only")
    with pytest.raises(ConfigurationError) as caught:
        _ = embedder.spec
    assert str(caught.value) == (
        f"the model {NAME} is not in {cache}, and {forbidden} forbids to download it: run "
        f"`multimodal-search models download {NAME}` on a machine with network, and copy models--tiny--siglip2 from "
        f"the folder that it prints to {cache} here"
    )
    assert hub.requests == []


def test_the_folder_that_was_copied_is_found(hub: HubServer, cache: Path, tmp_path: Path) -> None:
    first = OnnxEmbedder(NAME, cache_folder=cache).spec
    shutil.copytree(cache / "models--tiny--siglip2", tmp_path / "there" / "models--tiny--siglip2")
    assert OnnxEmbedder(NAME, cache_folder=tmp_path / "there", local_files_only=True).spec == first


def test_a_firewall_is_told_from_a_wrong_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(
            EmbedderUnavailableError,
            match=r"\): try again or, behind a firewall, run [^:]* on a machine with network, and copy ",
        ):
            _ = OnnxEmbedder(NAME, cache_folder=cache).spec


@pytest.mark.parametrize(("name", "revision"), [("tiny/other", None), (NAME, "v9"), ("tiny/si--glip", None)])
def test_a_name_that_is_not_there_is_refused(hub: HubServer, cache: Path, name: str, revision: str | None) -> None:
    with pytest.raises(
        ConfigurationError, match=f"the hub has no model {name}{' at v9' if revision else ''}, and there"
    ):
        _ = OnnxEmbedder(name, cache_folder=cache, revision=revision).spec


def test_a_variant_that_the_repository_lacks_is_refused_before_anything_is_downloaded(
    hub: HubServer, cache: Path
) -> None:
    with pytest.raises(ConfigurationError, match=f"{NAME} has no q4 of its image tower; it has fp32, fp16, int8"):
        _ = OnnxEmbedder(NAME, cache_folder=cache, variant="q4").spec
    assert hub.files == []


def test_a_failing_hub_may_be_tried_again(hub: HubServer, cache: Path) -> None:
    hub.status = 403
    with pytest.raises(Exception, match=r"the hub refuses tiny/siglip2 \(403\)"):
        _ = OnnxEmbedder(NAME, cache_folder=cache).spec


def test_a_description_of_a_repository_is_followed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_models.described(tmp_path / "of-hub")
    tiny_models.immich_new(tmp_path / "immich")
    with HubServer({"a/described": tmp_path / "of-hub", "immich-app/tiny": tmp_path / "immich"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert OnnxEmbedder("a/described", cache_folder=cache).spec.model == "our-clip"
        assert set(server.files) == {"multimodal-search.json", "see.onnx", "read.onnx", "words.json"}
        of_hub, of_folder = OnnxEmbedder("immich-app/tiny", cache_folder=cache), OnnxEmbedder(tmp_path / "immich")
        assert of_hub.spec.fingerprint == of_folder.spec.fingerprint


def test_weights_of_any_name_are_downloaded(hub: HubServer, cache: Path) -> None:
    """Only a large graph itself says in which files its weights are; onnx names them by a random id."""
    import onnx

    graph = hub.repositories[NAME] / "onnx" / "vision_model.onnx"
    whole = onnx.load(graph)
    onnx.save(whole, graph, save_as_external_data=True, location="8c1d-4f", size_threshold=0)
    assert OnnxEmbedder(NAME, cache_folder=cache).spec.dimension == tiny_models.DIMENSION
    assert "onnx/8c1d-4f" in hub.files


def test_what_is_kept_of_a_model_names_the_commit_that_is_here(hub: HubServer, cache: Path) -> None:
    """The newest, or what a branch names, may be another one tomorrow."""
    embedder = OnnxEmbedder(NAME, cache_folder=cache, revision="main")
    assert embedder.ref.options["revision"] == "main"
    assert embedder.spec
    assert embedder.ref.options["revision"] == COMMIT
    assert embedder.ref.load().spec == embedder.spec


def test_a_model_in_two_repositories_has_a_revision_of_each(tmp_path: Path, cache: Path) -> None:
    told = OnnxEmbedder("nomic-ai/nomic-embed-vision-v1.5", cache_folder=cache).ref.options["revision"]
    assert {len(told["image"]), len(told["text"])} == {40}
    assert OnnxEmbedder("nomic-ai/nomic-embed-vision-v1.5", revision=told, cache_folder=cache).ref.options[
        "revision"
    ] == dict(told)


def test_each_model_that_is_known_has_its_revision_pinned() -> None:
    towers = [tower for model in catalogue.MODELS.values() for tower in model.towers.values()]
    assert all(tower.revision is not None and len(tower.revision) == 40 for tower in towers)


def test_the_recipe_is_for_the_same_files(cache: Path) -> None:
    """Another revision, or another variant, would not be found on the machine that it was copied to."""
    embedder = OnnxEmbedder(NAME, cache_folder=cache, variant={"text": "int8"}, revision="v2", local_files_only=True)
    with pytest.raises(ConfigurationError, match=f"models download {NAME} --variant text=int8 --revision v2` on a "):
        _ = embedder.spec
    known = OnnxEmbedder("nomic-ai/nomic-embed-vision-v1.5", cache_folder=cache, local_files_only=True)
    with pytest.raises(ConfigurationError, match=r"models download nomic-ai/nomic-embed-vision-v1.5` on a "):
        _ = known.spec


def test_a_damaged_file_is_named_where_nothing_may_be_downloaded(hub: HubServer, cache: Path) -> None:
    assert OnnxEmbedder(NAME, cache_folder=cache).spec
    next(cache.rglob("text_model.onnx")).resolve().write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match=r"is not whole in .*text_model.onnx is no ONNX file.*forbids"):
        _ = OnnxEmbedder(NAME, cache_folder=cache, local_files_only=True).spec


def test_a_cache_that_cannot_be_written_is_no_trouble_of_the_network(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be written to .*: make room there, or name another"):
        _ = OnnxEmbedder(NAME, cache_folder=tmp_path / "file" / "cache").spec


def test_a_key_that_is_refused_is_told(hub: HubServer, cache: Path) -> None:
    hub.status = 401
    with pytest.raises(EmbedderError, match=r"refuses tiny/siglip2 \(401\).*HF_TOKEN"):
        _ = OnnxEmbedder(NAME, cache_folder=cache).spec


def test_a_firewall_that_answers_nothing_is_not_waited_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(EmbedderUnavailableError, match="or, behind a firewall"):
            _ = OnnxEmbedder(NAME, cache_folder=cache).spec
