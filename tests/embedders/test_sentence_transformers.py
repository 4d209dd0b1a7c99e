"""`SentenceTransformersEmbedder` on tiny models saved by transformers, held against the library used by hand."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("sentence_transformers", reason="the extra torch is not installed")

import tiny_torch_models
import torch
from hub_server import COMMIT, HubServer
from sentence_transformers import SentenceTransformer

from multimodal_search import (
    ConfigurationError,
    EmbedderError,
    EmbedderUnavailableError,
    Image,
    IndexingError,
    Item,
    MemoryStore,
    Mixed,
    MultimodalIndex,
    Role,
    SentenceTransformersEmbedder,
    Text,
    load_embedder,
)
from multimodal_search.embedders.sentence_transformers import traits
from multimodal_search.embedders.sentence_transformers.texts import prompt_of
from multimodal_search.errors import EmbedderResponseError, UnsupportedContentError
from multimodal_search.testing._images import encoded, image
from multimodal_search.testing.embedder import EmbedderContract

MAKERS = {**tiny_torch_models.MODELS, "gemma3": tiny_torch_models.gemma3}
PADDED = {"text": {"padding": "max_length", "max_length": 64, "truncation": True}}
SHAPES = [(64, 48), (30, 47), (32, 32), (7, 9), (200, 61)]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, make in MAKERS.items():
        make(folder / name)
    return folder


@pytest.fixture(params=MAKERS)
def folder(request: pytest.FixtureRequest, models: Path) -> Path:
    return models / request.param


def by_hand(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


class TorchContract(EmbedderContract):
    @pytest.fixture
    def make_embedder(self, folder: Path) -> Callable[[], SentenceTransformersEmbedder]:
        return lambda: SentenceTransformersEmbedder(folder, device="cpu")

    @pytest.fixture
    def in_child(self, folder: Path) -> str:
        made = f"SentenceTransformersEmbedder({str(folder)!r}, device='cpu')"
        return f"from multimodal_search import SentenceTransformersEmbedder; embedder = {made}"


class TestContractOfSiglip(TorchContract):
    @pytest.fixture
    def folder(self, models: Path) -> Path:
        return models / "siglip"


class OtherContract(TorchContract):
    """Another process takes as long for each as it takes to import torch."""

    test_another_process_makes_the_same_vectors_under_the_same_fingerprint = None  # type: ignore[assignment]


class TestContractOfOthers(OtherContract):
    @pytest.fixture(params=[name for name in MAKERS if name != "siglip"])
    def folder(self, request: pytest.FixtureRequest, models: Path) -> Path:
        return models / request.param


# -- vectors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SHAPES)
def test_images_have_the_vectors_of_the_library(folder: Path, size: tuple[int, int]) -> None:
    """Used by hand on the same upright image; prepared ahead or not."""
    shown = image(3).resize(size)
    embedder = SentenceTransformersEmbedder(folder, device="cpu")
    expected = by_hand(folder).encode([{"image": shown}], normalize_embeddings=True)[0]
    given = [Image(encoded(shown, "PNG")), Image(shown), embedder.prepare(Image(shown))]
    for row in embedder.embed(given, role="document"):
        np.testing.assert_allclose(row, expected, atol=1e-5)


@pytest.mark.parametrize("role", get_args(Role))
def test_texts_have_the_vectors_of_the_library(folder: Path, role: Role) -> None:
    texts = ["a red dog", "Der blaue Hund", "x " * 30]
    library = by_hand(folder)
    is_siglip = folder.name.startswith("siglip")
    prompts = {"query": "find: ", "document": "this: "} if folder.name == "modules" else {"query": "", "document": ""}
    expected = library.encode(
        [{"text": text.lower() if is_siglip else text} for text in texts],
        prompt=prompts[role],
        processing_kwargs=PADDED if is_siglip else None,
        normalize_embeddings=True,
    )
    embedder = SentenceTransformersEmbedder(folder, device="cpu")
    np.testing.assert_allclose(embedder.embed([Text(text) for text in texts], role=role), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["siglip", "siglip2"])
def test_siglip_does_not_tell_upper_from_lower_case(models: Path, name: str) -> None:
    """It was trained on lower-cased texts; the tokenizer that is published with SigLIP 2 keeps the case."""
    embedder = SentenceTransformersEmbedder(models / name, device="cpu")
    upper, lower = embedder.embed([Text("A Dog"), Text("a dog")], role="query")
    np.testing.assert_allclose(upper, lower, atol=1e-6)


def test_sentence_transformers_alone_pads_siglip_wrongly(models: Path) -> None:
    """So that the special treatment can go when it is not needed any more."""
    library = by_hand(models / "siglip")
    padded = library.encode([{"text": "a"}], processing_kwargs=PADDED)
    assert not np.allclose(library.encode([{"text": "a"}]), padded, atol=1e-3)


@pytest.mark.parametrize("role", get_args(Role))
def test_models_of_routes_and_of_static_vectors_have_the_vectors_of_the_library(tmp_path: Path, role: Role) -> None:
    """The first has a tokenizer and a processor for each kind of content; the second takes plain strings only."""
    tiny_torch_models.routed(tmp_path / "routed")
    tiny_torch_models.static(tmp_path / "static")
    texts, images = ["a red dog", "/etc/hostname", "https://example.org/a.png"], [image(1), image(2)]
    for name in ("routed", "static"):
        library, embedder = by_hand(tmp_path / name), SentenceTransformersEmbedder(tmp_path / name, device="cpu")
        given: list[Any] = texts if name == "static" else [{"text": text} for text in texts]
        rows = embedder.embed([Text(text) for text in texts], role=role)
        np.testing.assert_allclose(rows, library.encode(given, normalize_embeddings=True), atol=1e-5)
        assert embedder.is_truncated(Text("x" * 41)) == (name == "routed")
    assert embedder.spec.modalities == {"text"}
    library, embedder = (make(tmp_path / "routed") for make in (by_hand, SentenceTransformersEmbedder))
    expected = library.encode([{"image": each} for each in images], normalize_embeddings=True)
    np.testing.assert_allclose(embedder.embed([Image(each) for each in images], role=role), expected, atol=1e-5)


def test_a_model_that_was_saved_with_fewer_dimensions_has_them_for_all(models: Path, tmp_path: Path) -> None:
    made = SentenceTransformer(str(models / "clip"), device="cpu", local_files_only=True, truncate_dim=8)
    made.save(str(tmp_path / "short"), create_model_card=False)
    embedder = SentenceTransformersEmbedder(tmp_path / "short", device="cpu")
    assert embedder.spec.dimension == 8
    for content, given in ((Text("a"), {"text": "a"}), (Image(image(1)), {"image": image(1)})):
        expected = made.encode([given], normalize_embeddings=True)
        np.testing.assert_allclose(embedder.embed([content], role="document"), expected, atol=1e-5)


def test_a_model_of_chats_has_its_default_prompt_before_images(models: Path, tmp_path: Path) -> None:
    """As the message of the system, which the library puts before whatever it is given."""
    made = by_hand(models / "gemma3")
    made.prompts, made.default_prompt_name = {"instruct": "Represent it. ", "query": "find: "}, "instruct"
    made.save(str(tmp_path / "chat"), create_model_card=False)
    (tmp_path / "chat" / "chat_template.jinja").write_text(
        "{% for message in messages %}{% for item in message['content'] %}"
        "{% if item['type'] == 'image' %}<start_of_image>{% else %}{{ item['text'] }}{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    library, given = by_hand(tmp_path / "chat"), [{"image": image(1)}]
    prompts = {None: "Represent it. ", "query": "find: ", "see: ": "see: ", "": ""}
    fingerprints = set()
    for chosen, prompt in prompts.items():
        embedder = SentenceTransformersEmbedder(tmp_path / "chat", device="cpu", image_prompt=chosen)
        expected = library.encode(given, prompt=prompt, normalize_embeddings=True)
        np.testing.assert_allclose(embedder.embed([Image(image(1))], role="query"), expected, atol=1e-5)
        fingerprints.add(embedder.spec.fingerprint)
    assert len(fingerprints) == len(prompts)


def test_on_a_processor_one_call_computes_at_a_time(models: Path) -> None:
    assert SentenceTransformersEmbedder(models / "clip", device="cpu").spec.max_concurrency == 1


def test_on_a_gpu_two_calls_are_in_flight_until_it_is_gone(
    models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the last run had is remembered, since torch, which knows better, takes seconds to import."""
    place = tmp_path / "a.json"
    monkeypatch.setattr(traits, "_place", lambda: place)
    SentenceTransformersEmbedder(models / "clip", device="cpu").spec  # noqa: B018 (remembers)
    place.write_text(place.read_text("utf-8").replace('"device": "cpu"', '"device": "cuda"'), "utf-8")
    embedder = SentenceTransformersEmbedder(models / "clip", device="cpu")
    assert embedder.spec.max_concurrency == 2
    embedder.embed([Text("a")], role="query")
    assert SentenceTransformersEmbedder(models / "clip", device="cpu").spec.max_concurrency == 1


def test_numbers_of_one_call_are_made_while_another_computes(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU they are copied meanwhile; and the model still computes one call at a time."""
    embedder = SentenceTransformersEmbedder(models / "clip", device="cpu")
    model, contents = embedder._model, [embedder.prepare(Image(image(1)))]
    assert model.steps is not None
    expected = embedder.embed(contents, role="document")
    computed, made, both_made, go_on = model._computed, model.steps.tensor, threading.Event(), threading.Event()
    counts = {"made": 0, "computing": 0}

    def tensor(*arguments: Any) -> Any:
        counts["made"] += 1
        if counts["made"] == 2:
            both_made.set()
        return made(*arguments)

    def slow(*arguments: Any) -> Any:
        counts["computing"] += 1
        assert counts["computing"] == 1
        assert go_on.wait(30)
        counts["computing"] -= 1
        return computed(*arguments)

    monkeypatch.setattr(model.steps, "tensor", tensor)
    monkeypatch.setattr(model, "_computed", slow)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(embedder.embed, contents, role="document") for _ in range(2)]
        assert both_made.wait(30)
        go_on.set()
        for call in calls:
            np.testing.assert_allclose(call.result(), expected, atol=1e-6)


def test_a_mixed_content_has_the_vector_of_the_library(models: Path) -> None:
    shown = image(4)
    given = Mixed(Text("at night"), Image(shown), Image(image(5)))
    message = [
        {"type": "text", "text": "at night"},
        {"type": "image", "image": shown},
        {"type": "image", "image": image(5)},
    ]
    expected = by_hand(models / "gemma3").encode([[{"role": "user", "content": message}]], normalize_embeddings=True)
    embedder = SentenceTransformersEmbedder(models / "gemma3", device="cpu")
    assert embedder.spec.modalities == {"text", "image", "mixed"}
    for content in (given, embedder.prepare(given)):
        np.testing.assert_allclose(embedder.embed([content], role="document"), expected, atol=1e-5)


def test_a_model_of_two_towers_embeds_nothing_mixed(models: Path) -> None:
    embedder = SentenceTransformersEmbedder(models / "clip", device="cpu")
    assert embedder.spec.modalities == {"text", "image"}
    with pytest.raises(UnsupportedContentError, match="clip embeds image, text, not mixed"):
        embedder.embed([Mixed(Text("a"), Image(image(1)))], role="query")


def test_texts_and_images_in_one_call_keep_their_places(models: Path) -> None:
    embedder = SentenceTransformersEmbedder(models / "gemma3", device="cpu")
    contents = [Image(image(1)), Text("a"), Mixed(Text("b"), Image(image(2))), Text("a longer one"), Image(image(3))]
    alone = np.concatenate([embedder.embed([content], role="document") for content in contents])
    np.testing.assert_allclose(embedder.embed(contents, role="document"), alone, atol=1e-5)


def test_preparing_leaves_array_work_only(models: Path) -> None:
    """In the size that the model sees, 8 bits a number: thousands may wait in memory."""
    for name, size in {"siglip": (32, 32), "clip": (32, 32), "siglip2": (288, 224), "gemma3": (32, 32)}.items():
        embedder = SentenceTransformersEmbedder(models / name, device="cpu")
        prepared = embedder.prepare(Image(image(1).resize((1_600, 1_200))))
        assert isinstance(prepared, Image)
        assert isinstance(prepared.source, PIL.Image.Image)
        assert prepared.source.size == size
        assert embedder.prepare(prepared) is prepared


@pytest.mark.parametrize("name", ["siglip", "clip", "modules", "clip-small-crop"])
def test_images_are_resized_exactly_without_the_call_of_the_processor(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It works in Python for most of its time, and holds the lock that all threads which load images need."""
    folder = models / name
    if name == "clip-small-crop":
        folder = tmp_path / "clip"
        shutil.copytree(models / "clip", folder)
        settings = json.loads((folder / "processor_config.json").read_text("utf-8"))["image_processor"]
        larger = {**settings, "size": {"shortest_edge": 45}, "resample": 2}
        tiny_torch_models.edit(folder / "processor_config.json", image_processor=larger)
    embedder = SentenceTransformersEmbedder(folder, device="cpu")
    steps = embedder._model.steps
    assert steps is not None
    shown = [image(3).resize(size) for size in (*SHAPES, (333, 47))]
    expected = [steps._processed(each) for each in shown]
    monkeypatch.setattr(type(steps._processor), "__call__", None)
    for each, wanted in zip(shown, expected, strict=True):
        prepared = embedder.prepare(Image(each))
        assert isinstance(prepared, Image)
        assert isinstance(prepared.source, PIL.Image.Image)
        assert np.array_equal(prepared.source, wanted)


def test_a_processor_that_resizes_in_its_own_way_is_called(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its settings say is not what it does."""
    embedder = SentenceTransformersEmbedder(models / "clip", device="cpu")
    known = embedder._model.steps
    assert known is not None
    called = type(known._processor).__call__

    def upside_down(self: Any, images: Any, **settings: Any) -> Any:
        return called(self, [each.rotate(180) for each in images], **settings)

    monkeypatch.setattr(type(known._processor), "__call__", upside_down)
    embedder.close()
    steps = embedder._model.steps
    assert steps is not None
    assert steps.is_fixed
    shown = image(3).resize((64, 48))
    assert np.array_equal(steps.resized(shown), steps._processed(shown))
    assert not np.array_equal(steps.resized(shown), known.resized(shown))


def test_an_image_prepared_for_another_model_is_prepared_anew(models: Path) -> None:
    clip, siglip = (SentenceTransformersEmbedder(models / name, device="cpu") for name in ("clip", "siglip2"))
    small = clip.prepare(Image(image(1).resize((300, 200))))
    again = siglip.prepare(small)
    assert isinstance(again, Image)
    assert isinstance(again.source, PIL.Image.Image)
    assert again.source.size != (32, 32)


def test_a_very_long_image_takes_little_memory(models: Path) -> None:
    """Resized whole by its shorter side, it would become 32 x 213,333 pixels."""
    embedder = SentenceTransformersEmbedder(models / "clip", device="cpu")
    line = PIL.Image.new("RGB", (20_000, 3), "red")
    assert np.isfinite(embedder.embed([Image(line)], role="document")).all()


@pytest.mark.parametrize("setting", ["dimensions", "truncate_dim"])
def test_fewer_dimensions_are_the_first_ones_at_unit_length(models: Path, setting: str) -> None:
    options: dict[str, Any] = {setting: 8}
    whole = SentenceTransformersEmbedder(models / "clip", device="cpu")
    short = SentenceTransformersEmbedder(models / "clip", device="cpu", **options)
    contents = [Text("a"), Image(image(1))]
    cut = whole.embed(contents, role="query")[:, :8]
    np.testing.assert_allclose(
        short.embed(contents, role="query"), cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-5
    )
    assert short.spec.dimension == 8
    assert short.spec.fingerprint != whole.spec.fingerprint


def test_half_precision_is_near_and_has_a_fingerprint_of_its_own(models: Path) -> None:
    plain = SentenceTransformersEmbedder(models / "clip", device="cpu")
    contents = [Text("a dog"), Image(image(1))]
    for dtype in ("bfloat16", torch.bfloat16):
        half = SentenceTransformersEmbedder(models / "clip", device="cpu", dtype=dtype)
        cosines = (plain.embed(contents, role="query") * half.embed(contents, role="query")).sum(axis=1)
        assert (cosines > 0.99).all()
        assert (cosines < 0.999999).any()
        assert half.spec.fingerprint != plain.spec.fingerprint
        assert half.options["dtype"] == "bfloat16"


# -- prompts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "chosen", "expected"),
    [
        ("query", None, "find: "),
        ("document", None, "this: "),
        ("query", "other", "no: "),
        ("query", "look for: ", "look for: "),
        ("document", "", ""),
    ],
)
def test_prompts_are_found_by_role_or_chosen(role: str, chosen: str | None, expected: str) -> None:
    """The names differ from model to model."""
    prompts = {"query": "", "SearchQuery": "find: ", "Retrieval-document": "this: ", "other": "no: "}
    assert prompt_of(role, chosen, prompts, None) == expected


def test_without_a_prompt_for_the_role_the_default_one_is_taken() -> None:
    assert prompt_of("query", None, {"query": "", "document": "", "sts": "alike: "}, "sts") == "alike: "
    assert prompt_of("query", None, {"query": "q: ", "sts": "alike: "}, "sts") == "q: "


def test_a_prompt_that_is_chosen_comes_before_the_text(models: Path) -> None:
    def query(**settings: Any) -> Any:
        embedder = SentenceTransformersEmbedder(models / "modules", device="cpu", **settings)
        return embedder.embed([Text("a dog")], role="query")[0], embedder.spec.fingerprint

    expected = by_hand(models / "modules").encode([{"text": "a dog"}], prompt="seek: ", normalize_embeddings=True)[0]
    for settings in ({"query_prompt": "seek: "}, {"prompts": {"seek": "seek: "}, "query_prompt": "seek"}):
        vector, fingerprint = query(**settings)
        np.testing.assert_allclose(vector, expected, atol=1e-5)
        assert fingerprint != query()[1]
    plain, _ = query(query_prompt="other")
    assert not np.allclose(plain, expected, atol=1e-3)


# -- texts that are cut, and texts that look like something else -------------------------------------------------------


def test_cut_texts_are_told_in_the_report(models: Path) -> None:
    """The tiny tokenizer has one token for each byte, and one for the end; SigLIP reads 64."""
    embedder = SentenceTransformersEmbedder(models / "siglip", device="cpu")
    assert not embedder.is_truncated(Text("x" * 63))
    assert embedder.is_truncated(Text("x" * 64))
    assert not embedder.is_truncated(Image(image(1)))
    with MultimodalIndex(embedder, MemoryStore()) as index:
        report = index.add([Item("short"), Item("long " * 30)], progress=False)
    assert len(report.truncated) == 1
    assert "long" in report.truncated[0]


def test_the_prompt_counts_among_what_a_model_reads(models: Path) -> None:
    embedder = SentenceTransformersEmbedder(models / "modules", device="cpu")
    assert not embedder.is_truncated(Text("x" * (76 - len("this: "))))
    assert embedder.is_truncated(Text("x" * (77 - len("this: "))))


def test_a_text_may_be_cut_earlier(models: Path) -> None:
    """Some models read 262,144 tokens, for which attention takes hours on a processor."""
    embedder = SentenceTransformersEmbedder(models / "gemma3", device="cpu", max_tokens=20)
    same, other = Text("x" * 18 + " and so on"), Text("x" * 18 + " or not")
    vectors = embedder.embed([same, other], role="document")
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    assert embedder.is_truncated(same)
    assert not embedder.is_truncated(Text("x" * 10))
    assert embedder.spec.fingerprint != SentenceTransformersEmbedder(models / "gemma3").spec.fingerprint


def test_placeholders_of_images_in_a_text_are_text(models: Path) -> None:
    """A model that is given them looks for images that are not there, and the whole batch fails."""
    embedder = SentenceTransformersEmbedder(models / "gemma3", device="cpu")
    texts = [Text("<start_of_image>"), Text("a <image_soft_token> b"), Text("<START_OF_IMAGE> c")]
    vectors = embedder.embed([*texts, Mixed(texts[0], Image(image(1)))], role="document")
    assert np.isfinite(vectors).all()


# -- files and fingerprints --------------------------------------------------------------------------------------------


def test_the_fingerprint_is_of_what_the_files_hold(models: Path, tmp_path: Path) -> None:
    """Not of their place; and what plays no part changes nothing."""
    copy = tmp_path / "elsewhere"
    shutil.copytree(models / "modules", copy)
    (copy / "README.md").write_text("about it")
    (copy / "onnx").mkdir()
    (copy / "onnx" / "model.onnx").write_bytes(b"of another library")
    before = SentenceTransformersEmbedder(models / "modules").spec
    spec = SentenceTransformersEmbedder(copy).spec
    assert (spec.fingerprint, spec.model) == (before.fingerprint, "elsewhere")
    tiny_torch_models.edit(copy / "preprocessor_config.json", image_mean=[0.1, 0.2, 0.3]) if (
        copy / "preprocessor_config.json"
    ).exists() else tiny_torch_models.edit(copy / "processor_config.json", more=1)
    assert SentenceTransformersEmbedder(copy).spec.fingerprint != before.fingerprint


def test_a_warm_start_loads_nothing(models: Path) -> None:
    """Dimension and modalities are remembered; even torch is imported beside the first images."""
    SentenceTransformersEmbedder(models / "siglip").spec  # noqa: B018
    code = (
        "import sys; from multimodal_search import SentenceTransformersEmbedder; "
        "print(SentenceTransformersEmbedder(sys.argv[1]).spec.dimension, 'torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, models / "siglip"], capture_output=True, text=True, check=True, env=os.environ
    )
    assert run.stdout == "32 False\n"
    assert run.stderr == ""


def test_what_is_remembered_can_be_lost_or_damaged(
    models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = SentenceTransformersEmbedder(models / "clip").spec
    place = tmp_path / "place" / "a.json"
    monkeypatch.setattr(traits, "_place", lambda: place)
    for held in (None, "no JSON", "[]", '{"key": {"dimension": "many"}}'):
        if held is not None:
            place.write_text(held)
        assert SentenceTransformersEmbedder(models / "clip").spec == expected


def test_loading_is_quiet(models: Path) -> None:
    """Progress bars of weights would break into the bar of indexing."""
    code = (
        "import sys; from multimodal_search import SentenceTransformersEmbedder, Text; "
        "SentenceTransformersEmbedder(sys.argv[1]).embed([Text('a')], role='query')"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code, models / "gemma3"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert run.stdout + run.stderr == ""


def test_an_index_keeps_it_and_opens_with_it(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    embedder = SentenceTransformersEmbedder("clip", device="cpu", trust_remote_code=True)
    assert embedder.ref.options == {"model": str(models / "clip"), "device": "cpu"}, "code is never trusted by itself"
    assert load_embedder(embedder.ref.name, **embedder.ref.options).spec == embedder.spec
    index_folder = tmp_path / "index"
    with MultimodalIndex.open(index_folder, embedder=embedder) as index:
        index.add(["a dog", "a cat"], progress=False)
    monkeypatch.chdir(tmp_path)
    with MultimodalIndex.open(index_folder) as index:
        assert index.search("a dog")[0].payload["text"] == "a dog"


def test_it_is_pickled_and_closed(models: Path) -> None:
    embedder = SentenceTransformersEmbedder(models / "clip", device="cpu", query_prompt="a: ")
    before = embedder.embed([Text("a")], role="query")
    again = pickle.loads(pickle.dumps(embedder))
    assert repr(again) == repr(embedder)
    prepared = pickle.loads(pickle.dumps(embedder.prepare(Image(image(1)))))
    assert again.prepare(prepared) is prepared
    embedder.close()
    np.testing.assert_allclose(embedder.embed([Text("a")], role="query"), before, atol=1e-6)


# -- what can go wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": ""}, "model is a name"),
        ({"model": 7}, "model is a name"),
        ({"revision": " "}, "revision is"),
        ({"dtype": "int8"}, "dtype is one of float32, bfloat16, float16"),
        ({"dimensions": 0}, "dimensions is a whole number"),
        ({"dimensions": 8, "truncate_dim": 8}, "one setting"),
        ({"max_batch_size": None}, "max_batch_size is a whole number"),
        ({"threads": True}, "threads is a whole number"),
        ({"device": ""}, "device is a name"),
        ({"query_prompt": 7}, "query_prompt is a text"),
        ({"image_prompt": 7}, "image_prompt is a text"),
        ({"prompts": ["query"]}, "prompts maps names to texts"),
        ({"prompts": {"query": None}}, "prompts maps names to texts"),
        ({"cache_folder": ""}, "cache_folder"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        SentenceTransformersEmbedder(**{"model": "owner/name", **settings})


def test_flags_are_true_or_false() -> None:
    with pytest.raises(TypeError, match="trust_remote_code is True or False"):
        SentenceTransformersEmbedder("owner/name", trust_remote_code="no")  # type: ignore[arg-type]


def test_more_dimensions_than_there_are_are_refused(models: Path) -> None:
    with pytest.raises(ConfigurationError, match="have 24 numbers: dimensions=25 is too many"):
        SentenceTransformersEmbedder(models / "clip", dimensions=25).spec  # noqa: B018


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("*", "holds no model: neither config.json"),
        ("model.safetensors", "holds no weights, such as model.safetensors"),
        ("config.json", "holds no model"),
        ("processor_config.json", "cannot load"),
    ],
)
def test_a_folder_without_a_file_says_which(models: Path, tmp_path: Path, missing: str, said: str) -> None:
    shutil.copytree(models / "siglip", tmp_path / "siglip")
    for path in (tmp_path / "siglip").glob(missing):
        path.unlink()
    with pytest.raises(ConfigurationError, match=said):
        SentenceTransformersEmbedder(tmp_path / "siglip").spec  # noqa: B018


def test_a_shard_that_is_missing_is_named(models: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shutil.copytree(models / "clip", tmp_path / "clip")
    (tmp_path / "clip" / "model.safetensors").unlink()
    model = transformers.CLIPModel.from_pretrained(models / "clip")
    model.save_pretrained(tmp_path / "clip", max_shard_size="100KB")
    whole, sharded = (SentenceTransformersEmbedder(each / "clip", device="cpu") for each in (models, tmp_path))
    contents = [Text("a"), Image(image(1))]
    np.testing.assert_allclose(whole.embed(contents, role="query"), sharded.embed(contents, role="query"), atol=1e-6)
    shards = sorted((tmp_path / "clip").glob("*-of-*.safetensors"))
    shards[1].unlink()
    with pytest.raises(ConfigurationError, match=f"{shards[1].name} is missing"):
        SentenceTransformersEmbedder(tmp_path / "clip").spec  # noqa: B018


@pytest.mark.parametrize("name", ["no/such/folder", "./nothing", "nothing"])
def test_what_is_neither_a_folder_nor_a_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="neither a folder on this machine nor a name of the hub"):
        SentenceTransformersEmbedder(name).spec  # noqa: B018


def test_a_model_of_sounds_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    layers = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformers.ASTModel(transformers.ASTConfig(**layers, num_mel_bins=16, max_length=64)).save_pretrained(tmp_path)
    transformers.ASTFeatureExtractor(num_mel_bins=16, max_length=64).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="and neither texts nor images"):
        SentenceTransformersEmbedder(tmp_path).spec  # noqa: B018


def test_a_device_that_is_not_there_ends_the_run_and_blames_no_image(models: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    embedder = SentenceTransformersEmbedder(models / "clip", device="cuda")
    with pytest.raises(ConfigurationError, match=r"device='cuda', and this torch .* finds no GPU"):
        embedder.embed([Text("a")], role="query")
    traits.remember(embedder._key_of_traits, SentenceTransformersEmbedder(models / "clip")._traits)  # of better days
    with (
        MultimodalIndex(embedder, MemoryStore()) as index,
        pytest.raises(IndexingError, match="finds no GPU") as raised,
    ):
        index.add([Image(image(1))], progress=False)
    assert raised.value.report.failed == ()


def test_embedding_gemma_is_never_in_float16(models: Path, tmp_path: Path) -> None:
    """Numbers within it overflow, and its vectors are NaN."""
    with pytest.raises(ConfigurationError, match="in float16, numbers within EmbeddingGemma overflow"):
        SentenceTransformersEmbedder(models / "gemma3", dtype="float16").spec  # noqa: B018
    shutil.copytree(models / "gemma3", tmp_path / "gemma3")
    tiny_torch_models.edit(tmp_path / "gemma3" / "config.json", dtype="float16")
    embedder = SentenceTransformersEmbedder(tmp_path / "gemma3", device="cpu")
    assert embedder._settings.dtype_of(embedder._folder.config) == "float32"
    assert np.isfinite(embedder.embed([Text("a")], role="query")).all()


@pytest.mark.parametrize(("weight", "told"), [(0.0, "of zeros"), (float("nan"), "NaN")])
def test_weights_that_give_no_vectors_are_told_by_the_name_of_the_model(models: Path, weight: float, told: str) -> None:
    """As a damaged file has them, or arithmetic that overflows."""
    embedder = SentenceTransformersEmbedder(models / "clip", device="cpu")
    with torch.no_grad():
        embedder._model._model[0].model.text_projection.weight.fill_(weight)
    with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as index:
        with pytest.raises(IndexingError, match=f"clip returned a vector .*{told}"):
            index.add(["a dog"], progress=False)
        with pytest.raises(EmbedderResponseError, match=f"clip returned a vector .*{told}"):
            index.search("a dog")


def test_a_call_can_be_interrupted_between_two_batches(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = SentenceTransformersEmbedder(models / "clip", device="cpu")
    model = embedder._model
    under_way, go_on = threading.Event(), threading.Event()
    encode = model._model.encode

    def slow(*arguments: Any, **settings: Any) -> Any:
        under_way.set()
        assert go_on.wait(30)
        return encode(*arguments, **settings)

    monkeypatch.setattr(model._model, "encode", slow)
    raised: list[BaseException] = []

    def call() -> None:
        try:
            embedder.embed([Text(f"text {number}") for number in range(32)], role="document")
        except EmbedderError as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert under_way.wait(30)
    embedder.interrupt()
    go_on.set()
    thread.join(30)
    assert [str(error) for error in raised] == ["clip was interrupted"]
    assert embedder.embed([Text("a")], role="query").shape == (1, 24)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_is_told_what_to_do_instead_of_hanging(models: Path) -> None:
    code = """
import os, sys
from multimodal_search import SentenceTransformersEmbedder, Text
embedder = SentenceTransformersEmbedder(sys.argv[1], device="cpu")
embedder.embed([Text("a")], role="query")
if os.fork() == 0:
    try:
        embedder.embed([Text("a")], role="query")
    except Exception as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, models / "clip"],
        capture_output=True, text=True, check=True, env=os.environ, timeout=120,
    )  # fmt: skip
    assert 'start method "spawn"' in run.stdout


# -- the hub -----------------------------------------------------------------------------------------------------------


def test_a_name_is_downloaded_once_its_size_said_before(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(models / "modules", tmp_path / "of-hub", ignore=shutil.ignore_patterns("plain"))
    for name in ("README.md", "pytorch_model.bin", "model.onnx"):
        (tmp_path / "of-hub" / name).write_bytes(b"not needed")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with HubServer({"tiny/clip": tmp_path / "of-hub"}) as server, caplog.at_level(logging.WARNING):
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        embedder = SentenceTransformersEmbedder("tiny/clip", device="cpu", cache_folder=tmp_path / "cache")
        assert server.requests == [], "nothing is asked before something is needed"
        spec = embedder.spec
        assert not {"README.md", "pytorch_model.bin", "model.onnx"} & set(server.files)
        assert "model.safetensors" in server.files
        assert [each.message for each in caplog.records if "downloading" in each.message] != []
    assert embedder.ref.options["revision"] == COMMIT, "the hub may have another one tomorrow"
    assert load_embedder(embedder.ref.name, **embedder.ref.options).spec == spec
    local = SentenceTransformersEmbedder(models / "modules", device="cpu")
    assert spec.fingerprint == local.spec.fingerprint, "the same files, the same vectors"
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{_closed_port()}")
    again = SentenceTransformersEmbedder("tiny/clip", device="cpu", cache_folder=tmp_path / "cache")
    contents = [Text("a"), Image(image(1))]
    np.testing.assert_allclose(again.embed(contents, role="query"), local.embed(contents, role="query"), atol=1e-6)


def test_behind_a_firewall_one_sentence_says_what_to_copy_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{_closed_port()}")
    cache = tmp_path / "cache"
    with pytest.raises(EmbedderUnavailableError, match="behind a firewall") as raised:
        SentenceTransformersEmbedder("tiny/clip", cache_folder=cache).spec  # noqa: B018
    assert str(cache) in str(raised.value)
    assert "models--tiny--clip" in str(raised.value)
    with pytest.raises(ConfigurationError, match="local_files_only forbids to download it"):
        SentenceTransformersEmbedder("tiny/clip", cache_folder=cache, local_files_only=True).spec  # noqa: B018


def _closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
