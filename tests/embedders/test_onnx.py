"""`OnnxEmbedder` on tiny models in the layouts of real ones, held against NumPy."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("onnx", reason="onnx, which makes the models of these tests, is not installed")
pytest.importorskip("onnxruntime", reason="the extra local is not installed")

import tiny_models
from tiny_models import LAYOUTS, MEAN, SIDE, STD, Weights, ids_of, pixels_of

from multimodal_search import ConfigurationError, EmbedderError, Image, Mixed, OnnxEmbedder, Text
from multimodal_search.embedders.hub import hashes
from multimodal_search.embedders.onnx import session as sessions
from multimodal_search.embedders.onnx.header import read_header
from multimodal_search.embedders.onnx.pixels import ImageRules
from multimodal_search.errors import UnsupportedContentError
from multimodal_search.testing._images import encoded, image
from multimodal_search.testing.embedder import EmbedderContract

SQUASHED = {"siglip2", "immich-new", "immich-mclip", "described"}
BILINEAR = {"siglip2", "described"}
MASKED = {"clip", "immich-mclip"}
SHAPES = [(64, 48), (30, 47), (16, 16), (7, 9), (200, 61)]


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(layout: str, tmp_path: Path) -> tuple[Path, Weights]:
    folder = tmp_path / layout
    return folder, LAYOUTS[layout](folder)


class TestContract(EmbedderContract):
    @pytest.fixture
    def make_embedder(self, model: tuple[Path, Weights]) -> Callable[[], OnnxEmbedder]:
        return lambda: OnnxEmbedder(model[0])

    @pytest.fixture
    def in_child(self, model: tuple[Path, Weights]) -> str:
        return f"from multimodal_search import OnnxEmbedder; embedder = OnnxEmbedder({str(model[0])!r})"


class TestContractOfInt8(EmbedderContract):
    """Both towers quantise while they run, on a scale of the whole batch."""

    @pytest.fixture
    def make_embedder(self, tmp_path: Path) -> Callable[[], OnnxEmbedder]:
        tiny_models.siglip2(tmp_path / "siglip2")
        return lambda: OnnxEmbedder(tmp_path / "siglip2", variant="int8")

    @pytest.fixture
    def in_child(self, tmp_path: Path) -> str:
        made = f"OnnxEmbedder({str(tmp_path / 'siglip2')!r}, variant='int8')"
        return f"from multimodal_search import OnnxEmbedder; embedder = {made}"


class TestContractOfTwoFolders(EmbedderContract):
    @pytest.fixture
    def make_embedder(self, tmp_path: Path) -> Callable[[], OnnxEmbedder]:
        tiny_models.siglip2(tmp_path / "a")
        tiny_models.siglip2(tmp_path / "b")
        return lambda: OnnxEmbedder({"image": tmp_path / "a", "text": str(tmp_path / "b")})

    @pytest.fixture
    def in_child(self, tmp_path: Path) -> str:
        places = {"image": str(tmp_path / "a"), "text": str(tmp_path / "b")}
        return f"from multimodal_search import OnnxEmbedder; embedder = OnnxEmbedder({places!r})"


# -- vectors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SHAPES)
def test_images_have_the_vectors_of_numpy(layout: str, model: tuple[Path, Weights], size: tuple[int, int]) -> None:
    """Of the same upright image, resized by Pillow step by step."""
    folder, weights = model
    shown = image(3).resize(size)
    given = [Image(encoded(shown, "PNG")), Image(shown)]
    expected = weights.embed_image(pixels_of(shown, squash=layout in SQUASHED, bilinear=layout in BILINEAR))
    for row in OnnxEmbedder(folder).embed(given, role="document"):
        np.testing.assert_allclose(row, expected, atol=2e-6)


def test_texts_have_the_vectors_of_numpy(layout: str, model: tuple[Path, Weights]) -> None:
    folder, weights = model
    texts = {
        "a red dog": "a red dog",
        "A Red-Dog": {"siglip2": "a red-dog", "described": "a red-dog", "immich-new": "a reddog"}.get(
            layout, "A Red-Dog"
        ),
        "eins  zwei\n drei": "eins zwei drei" if layout.startswith("immich") else "eins  zwei\n drei",
        "x" * 200: "x" * 200,
    }
    rows = OnnxEmbedder(folder).embed([Text(text) for text in texts], role="query")
    for row, seen in zip(rows, texts.values(), strict=True):
        ids = ids_of(seen, weights.length)
        mask = [int(number <= len(seen)) for number in range(weights.length)] if layout in MASKED else None
        np.testing.assert_allclose(row, weights.embed_text(ids, mask), atol=2e-6)


def test_siglip_2_does_not_tell_upper_from_lower_case(tmp_path: Path) -> None:
    """It was trained on lower-cased texts; the tokenizer that is published with it keeps the case."""
    tiny_models.siglip2(tmp_path / "siglip2")
    upper, lower = OnnxEmbedder(tmp_path / "siglip2").embed([Text("A Dog"), Text("a dog")], role="query")
    np.testing.assert_array_equal(upper, lower)


def test_a_text_is_padded_to_the_length_of_training(tmp_path: Path) -> None:
    """SigLIP pools the last position: what is in the batch must not move it."""
    weights = tiny_models.siglip2(tmp_path / "siglip2")
    embedder = OnnxEmbedder(tmp_path / "siglip2")
    alone = embedder.embed([Text("a")], role="query")[0]
    np.testing.assert_allclose(alone, weights.embed_text(ids_of("a", 64)), atol=2e-6)


@pytest.mark.parametrize("variant", ["int8", {"image": "int8"}, {"image": "fp16"}, {"text": "int8", "image": "fp32"}])
def test_a_variant_has_vectors_of_its_own_near_those_of_fp32(tmp_path: Path, variant: Any) -> None:
    tiny_models.siglip2(tmp_path / "siglip2")
    plain, other = OnnxEmbedder(tmp_path / "siglip2"), OnnxEmbedder(tmp_path / "siglip2", variant=variant)
    contents = [Image(image(1)), Text("a dog")]
    cosines = (plain.embed(contents, role="document") * other.embed(contents, role="document")).sum(axis=1)
    assert (cosines > 0.98).all()
    assert plain.spec.fingerprint != other.spec.fingerprint


def test_what_quantises_dynamically_is_run_one_by_one(tmp_path: Path) -> None:
    """An image's vector must not depend on how bright its neighbours in the batch are."""
    tiny_models.siglip2(tmp_path / "siglip2")
    embedder = OnnxEmbedder(tmp_path / "siglip2", variant={"image": "int8"})
    contents = [Image(PIL.Image.new("RGB", (20, 20), color)) for color in ("black", "white", "#123456")]
    alone = np.concatenate([embedder.embed([each], role="document") for each in contents])
    np.testing.assert_array_equal(embedder.embed(contents, role="document"), alone)


def test_two_folders_of_the_cache_have_what_is_known_of_them(tmp_path: Path) -> None:
    """Nomic's files do not say how a vector is made of those of the tokens, nor what is put before a text."""
    snapshots = {
        side: tmp_path / f"models--nomic-ai--nomic-embed-{side}-v1.5" / "snapshots" / "abc"
        for side in ("vision", "text")
    }
    weights, _ = tiny_models.nomic(snapshots["vision"], snapshots["text"])
    embedder = OnnxEmbedder({"image": snapshots["vision"], "text": snapshots["text"]})
    assert embedder.spec.model == "nomic-ai/nomic-embed-vision-v1.5 + nomic-ai/nomic-embed-text-v1.5"
    shown = image(4)
    (row,) = embedder.embed([Image(shown)], role="document")
    np.testing.assert_allclose(row, weights.embed_image(pixels_of(shown, squash=True)), atol=2e-6)
    ids = ids_of("search_query: a dog", 40)
    ids = ids[: ids.index(0)]
    expected = tiny_models.unit((weights.tokens[ids] * weights.places[: len(ids)]).mean(axis=0))
    np.testing.assert_allclose(embedder.embed([Text("a dog")], role="query")[0], expected, atol=2e-6)


def test_a_vector_for_each_token_is_not_taken_for_one(tmp_path: Path) -> None:
    tiny_models.nomic(tmp_path / "image", tmp_path / "text")
    with pytest.raises(
        ConfigurationError, match=r"has no output image_embeds or .*, only last_hidden_state: name the one"
    ):
        _ = OnnxEmbedder({"image": tmp_path / "image", "text": tmp_path / "text"}).spec


def test_one_tower_alone_says_what_it_embeds(tmp_path: Path) -> None:
    tiny_models.siglip2(tmp_path / "image")
    for path in [*(tmp_path / "image" / "onnx").glob("text*"), tmp_path / "image" / "tokenizer.json"]:
        path.unlink()
    embedder = OnnxEmbedder(tmp_path / "image")
    assert embedder.spec.modalities == {"image"}
    for give in (embedder.prepare, lambda content: embedder.embed([content], role="query")):
        with pytest.raises(UnsupportedContentError, match="image has no tower of texts: it embeds images"):
            give(Text("a"))


def test_pooling_and_prefixes_of_a_description(tmp_path: Path) -> None:
    weights = Weights(length=40, seed=60)
    tiny_models.text_graph(tmp_path / "t.onnx", weights, mask=True, hidden=True)
    tiny_models.save_tokenizer(tmp_path / "tokenizer.json")
    text = {
        "graph": "t.onnx",
        "tokenizer": "tokenizer.json",
        "output": "last_hidden_state",
        "pooling": "mean",
        "length": 40,
        "pad": "longest",
        "pad_token": "<pad>",
        "query_prefix": "q: ",
        "document_prefix": "d: ",
    }
    tiny_models.write(tmp_path / "multimodal-search.json", {"text": text})
    embedder = OnnxEmbedder(tmp_path)
    for role, prefix in (("query", "q: "), ("document", "d: ")):
        rows = embedder.embed([Text("one"), Text("one and two")], role=role)  # type: ignore[arg-type]
        for row, said in zip(rows, ("one", "one and two"), strict=True):
            ids = [each for each in ids_of(prefix + said, 40) if each]
            expected = tiny_models.unit((weights.tokens[ids] * weights.places[: len(ids)]).mean(axis=0))
            np.testing.assert_allclose(row, expected, atol=2e-6)


def test_fewer_dimensions_are_of_unit_length_again(tmp_path: Path) -> None:
    tiny_models.described(tmp_path)
    whole, cut = OnnxEmbedder(tmp_path), OnnxEmbedder(tmp_path, dimensions=8)
    assert cut.spec.dimension == 8
    assert cut.spec.fingerprint != whole.spec.fingerprint
    expected = whole.embed([Text("a dog")], role="query")[:, :8]
    np.testing.assert_allclose(cut.embed([Text("a dog")], role="query"), expected / np.linalg.norm(expected), atol=1e-6)


def test_dimensions_are_refused_where_nothing_says_that_they_mean_something(tmp_path: Path) -> None:
    tiny_models.siglip2(tmp_path / "siglip2")
    with pytest.raises(ConfigurationError, match="nothing says that the vectors of siglip2 may be cut"):
        _ = OnnxEmbedder(tmp_path / "siglip2", dimensions=8).spec


def test_nllb_has_the_language_before_the_text_as_a_token(tmp_path: Path) -> None:
    weights = tiny_models.immich_old(tmp_path)
    row = OnnxEmbedder(tmp_path, language="deu_Latn").embed([Text("ein Hund")], role="query")[0]
    code = tiny_models.SPECIAL.index("deu_Latn")
    np.testing.assert_allclose(row, weights.embed_text([code, *ids_of("ein Hund", 31)]), atol=2e-6)
    cut = OnnxEmbedder(tmp_path, language="deu_Latn").embed([Text("x" * 99)], role="query")[0]
    np.testing.assert_allclose(cut, weights.embed_text([code, *ids_of("x" * 99, 31)]), atol=2e-6)
    with pytest.raises(ConfigurationError, match="has no token 'deu_Xxxx'"):
        OnnxEmbedder(tmp_path, language="deu_Xxxx").embed([Text("ein Hund")], role="query")


@pytest.mark.parametrize("size", [(2, 3000), (3000, 2), (1, 1), (1, 50)])
def test_a_strip_of_pixels_has_the_vector_of_numpy(tmp_path: Path, size: tuple[int, int]) -> None:
    weights = tiny_models.clip(tmp_path)
    shown = image(5).resize(size)
    (row,) = OnnxEmbedder(tmp_path).embed([Image(shown)], role="document")
    np.testing.assert_allclose(row, weights.embed_image(pixels_of(shown, squash=False)), atol=2e-6)


def test_a_very_long_strip_of_pixels_needs_no_huge_image(tmp_path: Path) -> None:
    """Resized as a whole by its shorter side, an image of 1 x 70,000 pixels has 16 x 1,120,000."""
    weights = tiny_models.clip(tmp_path)
    shown = image(5).resize((1, 70_000))
    (row,) = OnnxEmbedder(tmp_path).embed([Image(shown)], role="document")
    np.testing.assert_allclose(row, weights.embed_image(pixels_of(shown, squash=False)), atol=3e-2)


def test_pixels_are_those_of_transformers_to_the_last_digit() -> None:
    """A graph that quantises rounds: what differs in the last digit may come to another level."""
    rules = ImageRules(size=(32, 24), resize="squash", shortest=24, interpolation="bicubic", mean=MEAN, std=STD)
    shown = image(3).resize((32, 24))
    rescaled = (np.asarray(shown).astype(np.float64) * (1 / 255)).astype(np.float32)
    expected = (rescaled - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    np.testing.assert_array_equal(rules.array([shown], normalized=True)[0], expected.transpose(2, 0, 1))


def test_what_quantises_in_a_fixed_batch_is_run_one_by_one(tmp_path: Path) -> None:
    weights = tiny_models.siglip2(tmp_path)
    tiny_models.image_graph(tmp_path / "onnx" / "vision_model.onnx", weights, batch=4, dynamic=True)
    embedder = OnnxEmbedder(tmp_path)
    contents = [Image(PIL.Image.new("RGB", (20, 20), color)) for color in ("black", "white", "#123456")]
    alone = np.concatenate([embedder.embed([each], role="document") for each in contents])
    np.testing.assert_array_equal(embedder.embed(contents, role="document"), alone)


def test_what_quantises_within_a_function_of_the_file_is_seen(tmp_path: Path) -> None:
    """As newer exporters of PyTorch write it."""
    import onnx
    from onnx import helper

    opsets = [helper.make_opsetid("", 17)]
    inner = helper.make_node("DynamicQuantizeLinear", ["x"], ["small", "scale", "zero"])
    outer = helper.make_node("DequantizeLinear", ["small", "scale", "zero"], ["y"])
    function = helper.make_function("ours", "Rounded", ["x"], ["y"], [inner, outer], opsets)
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in "ab"]
    graph = helper.make_graph([helper.make_node("Rounded", ["a"], ["b"], domain="ours")], "g", value[:1], value[1:])
    opsets.append(helper.make_opsetid("ours", 1))
    onnx.save(helper.make_model(graph, functions=[function], opset_imports=opsets), tmp_path / "a.onnx")
    assert read_header(tmp_path / "a.onnx").scales_by_batch


def test_a_graph_without_a_mask_is_given_no_padding(tmp_path: Path) -> None:
    """It would take the padding of a batch's shorter texts for a part of them."""
    tiny_models.siglip2(tmp_path)
    tiny_models.write(tmp_path / "config.json", {"model_type": "other"})
    embedder = OnnxEmbedder(tmp_path)
    alone = embedder.embed([Text("a")], role="query")[0]
    np.testing.assert_allclose(embedder.embed([Text("a"), Text("a red dog")], role="query")[0], alone, atol=1e-6)


# -- what is loaded and read -------------------------------------------------------------------------------------------


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The graphs that are loaded, by name."""
    names: list[str] = []
    make = sessions.Session.__init__

    def noted(self: Any, graph: Path, settings: Any) -> None:
        names.append(graph.name)
        make(self, graph, settings)

    monkeypatch.setattr(sessions.Session, "__init__", noted)
    return names


def test_only_the_tower_that_is_needed_is_loaded(tmp_path: Path, loaded: list[str]) -> None:
    """A search by words does not read the tower of images."""
    tiny_models.siglip2(tmp_path)
    embedder = OnnxEmbedder(tmp_path)
    assert embedder.spec.dimension == tiny_models.DIMENSION
    assert loaded == []
    embedder.embed([embedder.prepare(Text("a dog"))], role="query")
    assert loaded == ["text_model.onnx"]
    embedder.embed([Image(image(1))], role="document")
    assert loaded == ["text_model.onnx", "vision_model.onnx"]


def test_where_no_file_says_the_dimension_the_tower_of_texts_is_asked(tmp_path: Path, loaded: list[str]) -> None:
    """Which a search by words needs as well; and what the other tower gives is checked when it gives it."""
    weights = tiny_models.siglip2(tmp_path)
    tiny_models.image_graph(tmp_path / "onnx" / "vision_model.onnx", weights, known_dimension=False)
    embedder = OnnxEmbedder(tmp_path)
    assert embedder.spec.dimension == tiny_models.DIMENSION
    embedder.embed([Text("a dog")], role="query")
    assert loaded == ["text_model.onnx"]


def test_threads_load_a_tower_once(tmp_path: Path, loaded: list[str]) -> None:
    tiny_models.siglip2(tmp_path)
    embedder = OnnxEmbedder(tmp_path)
    threads = [threading.Thread(target=lambda: embedder.embed([Text("a")], role="query")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == ["text_model.onnx"]


def test_the_first_image_that_is_prepared_begins_to_load_its_tower(tmp_path: Path, loaded: list[str]) -> None:
    """Beside the decoding of the others, before the first batch is full."""
    tiny_models.siglip2(tmp_path)
    embedder = OnnxEmbedder(tmp_path)
    embedder.prepare(Image(image(1)))
    for thread in threading.enumerate():
        if thread.name == "multimodal-onnx-load":
            thread.join()
    assert loaded == ["vision_model.onnx"]


def test_a_prepared_image_is_small_and_stays(tmp_path: Path) -> None:
    tiny_models.siglip2(tmp_path)
    embedder = OnnxEmbedder(tmp_path)
    prepared = embedder.prepare(Image(encoded(image(1).resize((900, 700)), "JPEG"), name="a.jpg"))
    assert isinstance(prepared, Image)
    assert isinstance(prepared.source, PIL.Image.Image)
    assert prepared.source.size == (SIDE, SIDE)
    assert prepared.label == "a.jpg"
    assert embedder.prepare(prepared) is prepared
    again = pickle.loads(pickle.dumps(prepared))
    assert embedder.prepare(again) is again
    tiny_models.clip(tmp_path / "clip")
    assert OnnxEmbedder(tmp_path / "clip").prepare(prepared) is not prepared, "it was made for another model"


def test_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm start reads none of them, and a file that has changed is another model."""
    tiny_models.siglip2(tmp_path)
    before = OnnxEmbedder(tmp_path).spec.fingerprint

    def refuse(*_: object) -> None:
        raise AssertionError("hashed again")

    with monkeypatch.context() as patched:
        patched.setattr(hashes.hashlib, "sha256", refuse)
        for name in ("onnx/text_model.onnx", "onnx/vision_model.onnx_data", "tokenizer.json"):
            assert hashes.sha256_of(tmp_path / name)
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    assert OnnxEmbedder(tmp_path.with_name("copy")).spec.fingerprint == before, "of the contents, not of the place"
    tiny_models.text_graph(tmp_path / "onnx" / "text_model.onnx", Weights(seed=99))
    os.utime(tmp_path / "onnx" / "text_model.onnx", ns=(1, 1))
    assert OnnxEmbedder(tmp_path).spec.fingerprint != before


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("preprocessor_config.json", {"resample": 3}),
        ("preprocessor_config.json", {"image_mean": [0.1, 0.1, 0.1]}),
        ("config.json", {"model_type": "clip"}),
    ],
)
def test_preprocessing_is_part_of_the_fingerprint(tmp_path: Path, name: str, change: dict[str, Any]) -> None:
    tiny_models.siglip2(tmp_path)
    before = OnnxEmbedder(tmp_path).spec.fingerprint
    told = json.loads((tmp_path / name).read_text("utf-8"))
    tiny_models.write(tmp_path / name, {**told, **change})
    assert OnnxEmbedder(tmp_path).spec.fingerprint != before


def test_a_header_is_read_without_the_weights(tmp_path: Path) -> None:
    tiny_models.siglip2(tmp_path)
    vision = read_header(tmp_path / "onnx" / "vision_model.onnx")
    assert [(each.name, each.type, each.shape) for each in vision.inputs] == [
        ("pixel_values", "float32", (None, 3, SIDE, SIDE))
    ]
    assert [each.name for each in vision.outputs] == ["last_hidden_state", "pooler_output"]
    assert vision.data_files == ("vision_model.onnx_data",)
    assert not vision.scales_by_batch
    assert read_header(tmp_path / "onnx" / "vision_model_int8.onnx").scales_by_batch


def test_a_dimension_that_the_file_does_not_say_is_found_out(tmp_path: Path) -> None:
    weights = tiny_models.siglip2(tmp_path)
    tiny_models.image_graph(tmp_path / "onnx" / "vision_model.onnx", weights, known_dimension=False)
    assert OnnxEmbedder(tmp_path).spec.dimension == tiny_models.DIMENSION


def test_it_travels_as_what_it_was_made_with(tmp_path: Path) -> None:
    tiny_models.siglip2(tmp_path)
    embedder = OnnxEmbedder(tmp_path, variant="int8", threads=1)
    embedder.embed([Text("a")], role="query")
    again = pickle.loads(pickle.dumps(embedder))
    assert again.options == embedder.options == {"model": tmp_path, "variant": "int8", "threads": 1}
    assert again.spec == embedder.spec


def test_a_call_can_be_interrupted(tmp_path: Path) -> None:
    """ONNX Runtime ends a run between two nodes."""
    from onnx import TensorProto, helper, save_model

    steps = 3000
    size = 400
    nodes = [helper.make_node("MatMul", [f"x{n}", f"x{n}"], [f"x{n + 1}"]) for n in range(steps)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "long",
        [value("x0", TensorProto.FLOAT, [size, size])],
        [value(f"x{steps}", TensorProto.FLOAT, [size, size])],
    )
    save_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(tmp_path / "a.onnx")
    )
    settings = sessions.Runtime.of(threads=1, device="cpu", providers=None)
    session = sessions.Session(tmp_path / "a.onnx", settings)
    failures: list[Exception] = []

    def run() -> None:
        try:
            session.run(f"x{steps}", {"x0": np.zeros((size, size), np.float32)})
        except EmbedderError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        session.interrupt()
    assert [str(each) for each in failures] == ["interrupted"]


# -- mistakes ----------------------------------------------------------------------------------------------------------


def test_texts_and_images_are_not_mixed(tmp_path: Path) -> None:
    tiny_models.siglip2(tmp_path / "siglip2")
    embedder = OnnxEmbedder(tmp_path / "siglip2")
    for give in (embedder.prepare, lambda content: embedder.embed([content], role="query")):
        with pytest.raises(UnsupportedContentError, match="texts and images, but not both in one vector"):
            give(Mixed("a", Image(image(1))))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"variant": "int4"}, "there is no variant 'int4': it is one of fp32, fp16"),
        ({"variant": {"images": "int8"}}, "variant is one of fp32"),
        ({"threads": 0}, "threads is a whole number"),
        ({"device": "tpu"}, "device is 'cpu' or 'cuda', not 'tpu'"),
        ({"device": "cpu", "providers": ["CPUExecutionProvider"]}, "give one of the two"),
        ({"providers": ["NoExecutionProvider"]}, "this onnxruntime has no NoExecutionProvider, only"),
        ({"revision": ""}, "revision is a commit, tag or branch"),
        ({"revision": {"words": "main"}}, "revision is a commit, tag or branch"),
        ({"variant": {"text": ["int8"]}}, "there is no variant"),
        ({"providers": []}, "providers is a list of names"),
        ({"providers": [1]}, "providers is a list of names"),
        ({"providers": 5}, "providers is a list of names"),
        ({"threads": 10**9}, "threads is at most 1,024"),
        ({"max_batch_size": 0}, "max_batch_size is a whole number"),
        ({"local_files_only": "yes"}, "local_files_only"),
    ],
)
def test_a_wrong_setting_is_refused_at_once(settings: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigurationError, TypeError), match=said):
        OnnxEmbedder(**settings)


@pytest.mark.parametrize("name", ["nothing-here", "./a/b", "a/b/c", ""])
def test_what_is_neither_a_folder_nor_a_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="a name of the hub"):
        _ = OnnxEmbedder(name).spec


def test_a_folder_without_a_model_says_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"neither onnx/vision_model.onnx .* multimodal-search.json .*cat.jpg"):
        _ = OnnxEmbedder(tmp_path).spec


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json", "onnx/vision_model.onnx_data"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    tiny_models.siglip2(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ConfigurationError, match=f"{name} is missing"):
        _ = OnnxEmbedder(tmp_path).spec


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "0 bytes"), (b"<html>404", "it begins with"), (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS")],
)
def test_a_file_that_is_no_graph_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    tiny_models.siglip2(tmp_path)
    (tmp_path / "onnx" / "text_model.onnx").write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"text_model.onnx is no ONNX file, or not all of one .*{said}"):
        _ = OnnxEmbedder(tmp_path).spec


def test_half_a_graph_is_no_graph(tmp_path: Path) -> None:
    tiny_models.siglip2(tmp_path)
    path = tmp_path / "onnx" / "text_model.onnx"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ConfigurationError, match="is no ONNX file, or not all of one"):
        _ = OnnxEmbedder(tmp_path).spec


def test_a_variant_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    tiny_models.siglip2(tmp_path / "siglip2")
    with pytest.raises(ConfigurationError, match=r"has no q4 of its image tower; it has fp32, fp16, int8"):
        _ = OnnxEmbedder(tmp_path / "siglip2", variant="q4").spec
    for name in ("vision_model.onnx", "vision_model_fp16.onnx"):
        (tmp_path / "siglip2" / "onnx" / name).unlink()
    assert OnnxEmbedder(tmp_path / "siglip2").spec.dimension == tiny_models.DIMENSION, "int8 is the only one"


def test_towers_of_two_models_are_refused(tmp_path: Path) -> None:
    tiny_models.siglip2(tmp_path, side=24)
    told = json.loads((tmp_path / "preprocessor_config.json").read_text("utf-8"))
    tiny_models.write(tmp_path / "preprocessor_config.json", {**told, "size": {"height": 16, "width": 16}})
    with pytest.raises(ConfigurationError, match=r"takes images of 24 x 24 pixels, and .* says 16 x 16"):
        OnnxEmbedder(tmp_path).embed([Image(image(1))], role="document")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": {}}, "image is an object that names graph"),
        ({"picture": {}}, "image, text or both"),
        ({"image": {"graph": "../x.onnx", "size": 16}}, "is not in its own folder"),
        ({"image": {"graph": "see.onnx"}}, "image has a size"),
        ({"image": {"graph": "see.onnx", "size": 16, "resize": "crop"}}, "resize is one of squash, shortest"),
        ({"image": {"graph": "see.onnx", "size": 16, "sigma": 1}}, "sigma is not known"),
        ({"text": {"graph": "read.onnx", "tokenizer": "words.json", "length": 48}}, "pad_token is missing"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    tiny_models.described(tmp_path, **change)
    with pytest.raises(ConfigurationError, match=said):
        _ = OnnxEmbedder(tmp_path).spec


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("preprocessor_config.json", {"size": {"height": "20"}}),
        ("preprocessor_config.json", {"size": 16, "image_mean": [0, 0, "x"], "image_std": [1, 1, 1]}),
        ("preprocessor_config.json", {"size": 16, "image_mean": [0, 0, 0], "image_std": [0, 0, 0]}),
        ("config.json", {"model_type": "clip", "text_config": [1]}),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(tmp_path: Path, name: str, content: Any) -> None:
    tiny_models.siglip2(tmp_path)
    tiny_models.write(tmp_path / name, content)
    with pytest.raises(ConfigurationError, match=f"{name}.* do not describe a model"):
        _ = OnnxEmbedder(tmp_path).spec


def test_a_padding_that_the_tokenizer_does_not_know_is_named(tmp_path: Path) -> None:
    tiny_models.siglip2(tmp_path)
    tiny_models.write(tmp_path / "tokenizer_config.json", {"pad_token": "[NONE]"})
    with pytest.raises(ConfigurationError, match=r"has no token '\[NONE\]', which is to pad texts"):
        OnnxEmbedder(tmp_path).embed([Text("a")], role="query")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Python 3.12 on, about a fork beside threads
def test_a_forked_child_loads_its_own(tmp_path: Path) -> None:
    """It has none of the threads that the parent's graph waits for."""
    tiny_models.siglip2(tmp_path)
    embedder = OnnxEmbedder(tmp_path)
    contents = [Image(image(1)), Text("a dog")]
    before = embedder.embed(contents, role="query")
    child = os.fork()
    if child == 0:
        is_same = np.allclose(embedder.embed(contents, role="query"), before, atol=1e-6)
        os._exit(0 if is_same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
