"""The Aleph Alpha embedder: the real official client, over real sockets, against a strict local server."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from aleph_alpha_server import TOKEN, AlephAlphaServer, text_vector
from faulty_server import Kind
from service_cases import shown

from multimodal_search import MemoryStore, MultimodalIndex
from multimodal_search.contents import Content, Image, Mixed, Text
from multimodal_search.embedders.aleph_alpha import client as _aleph_alpha_client
from multimodal_search.embedders.aleph_alpha.embedder import AlephAlphaEmbedder
from multimodal_search.embedders.registry import EmbedderRef
from multimodal_search.errors import (
    ConfigurationError,
    ContentError,
    EmbedderAuthError,
    EmbedderError,
    EmbedderResponseError,
    EmbedderUnavailableError,
    UnreadableContentError,
    UnsupportedContentError,
)
from multimodal_search.protocols import Embedder, SupportsPrepare

RED, GREEN, BLUE = (215, 35, 35), (50, 150, 60), (50, 90, 200)


@pytest.fixture
def server() -> Iterator[AlephAlphaServer]:
    with AlephAlphaServer() as server:
        yield server


@pytest.fixture
def embedder(server: AlephAlphaServer) -> Iterator[AlephAlphaEmbedder]:
    with AlephAlphaEmbedder(server.url, server.token, timeout_s=20, retries=2) as embedder:
        yield embedder


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries after hundredths of a second, for tests that aren't about time."""
    monkeypatch.setattr("multimodal_search.embedders.limiter._FIRST_PAUSE_S", 0.02)


def image(colour: tuple[int, ...], *, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> PIL.Image.Image:
    return PIL.Image.new(mode, size, colour)


def encoded(image: PIL.Image.Image, format: str = "PNG", **settings: Any) -> bytes:  # noqa: A002 (as in Pillow)
    buffer = BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def sent(server: AlephAlphaServer, request: int = -1, prompt: int = 0, item: int = 0) -> bytes:
    """The bytes of an image as they went over the wire."""
    return base64.b64decode(server.requests[request].prompts[prompt][item]["data"])


# -- what goes over the wire -------------------------------------------------------------------------------------------


def test_one_content_is_sent_as_documented(server: AlephAlphaServer, embedder: AlephAlphaEmbedder) -> None:
    """The payload is a contract with a service that nobody here can see: each field is pinned."""
    embedder.embed([Text("Surfing")], role="query")
    request = server.requests[0]
    assert request.path == "/semantic_embed"
    assert request.query == {}
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.body == {
        "model": "luminous-base",
        "prompt": [{"type": "text", "data": "Surfing", "controls": []}],
        "representation": "symmetric",
        "compress_to_size": 128,
        "normalize": False,
        "contextual_control_threshold": None,
        "control_log_additive": True,
    }


def test_several_contents_are_one_batch_request(server: AlephAlphaServer, embedder: AlephAlphaEmbedder) -> None:
    """The tutorial sends a request for each image; that is what makes it slow."""
    red = encoded(image(RED))
    embedder.embed([Text("sea"), Image(red)], role="document")
    request = server.requests[0]
    assert request.path == "/batch_semantic_embed"
    assert request.body == {
        "model": "luminous-base",
        "prompts": [
            [{"type": "text", "data": "sea", "controls": []}],
            [{"type": "image", "data": base64.b64encode(red).decode(), "controls": []}],
        ],
        "representation": "symmetric",
        "compress_to_size": 128,
        "normalize": False,
        "contextual_control_threshold": None,
        "control_log_additive": True,
    }


def test_a_mixture_is_one_prompt_in_order(server: AlephAlphaServer, embedder: AlephAlphaEmbedder) -> None:
    """The model reads the parts of a prompt one after the other: their order is part of the query."""
    red, blue = encoded(image(RED)), encoded(image(BLUE))
    vectors = embedder.embed([Mixed(Text("before"), Image(red), "between", Image(blue))], role="query")
    (items,) = server.requests[0].prompts
    assert [item["type"] for item in items] == ["text", "image", "text", "image"]
    assert [items[0]["data"], items[2]["data"]] == ["before", "between"]
    assert [sent(server, item=1), sent(server, item=3)] == [red, blue]
    assert vectors.shape == (1, 128)


def test_optional_settings_reach_the_service(server: AlephAlphaServer) -> None:
    """`hosting` is a promise about where private images are processed."""
    settings: dict[str, Any] = {"hosting": "aleph-alpha", "nice": True, "normalize": True, "compress_to_size": None}
    with AlephAlphaEmbedder(server.url, server.token, **settings) as embedder:
        vectors = embedder.embed([Text("red sea"), Text("tree")], role="query")
    request = server.requests[0]
    assert request.query == {"nice": "true"}
    assert request.body["hosting"] == "aleph-alpha"
    assert request.body["normalize"] is True
    assert request.body["compress_to_size"] is None
    assert vectors.shape == (2, 5120)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_a_host_may_have_a_path() -> None:
    """On-premise gateways put the API below a path."""
    with AlephAlphaServer(prefix="/v1") as server, AlephAlphaEmbedder(f" {server.url}/ ", server.token) as embedder:
        embedder.embed([Text("a"), Text("b")], role="query")
        assert server.requests[0].path == "/v1/batch_semantic_embed"


def test_roles_matter_with_the_asymmetric_representation_only(server: AlephAlphaServer) -> None:
    """A document embedded as a query is found worse, and nothing would say so."""
    with (
        AlephAlphaEmbedder(server.url, server.token) as symmetric,
        AlephAlphaEmbedder(server.url, server.token, representation="asymmetric") as asymmetric,
    ):
        for embedder in (symmetric, asymmetric):
            embedder.embed([Text("a")], role="document")
            embedder.embed([Text("a")], role="query")
    assert [request.body["representation"] for request in server.requests] == [
        "symmetric",
        "symmetric",
        "document",
        "query",
    ]


# -- images ----------------------------------------------------------------------------------------------------------


def test_an_image_is_sent_as_the_square_the_model_sees(server: AlephAlphaServer, embedder: AlephAlphaEmbedder) -> None:
    """The service crops to the central square and resizes to 384: what it would drop need not be sent."""
    wide = image(GREEN, size=(1600, 1000))
    wide.paste(image(RED, size=(1000, 1000)), (300, 0))
    vectors = embedder.embed([Image(encoded(wide, "JPEG"))], role="document")
    with PIL.Image.open(BytesIO(sent(server))) as arrived:
        assert arrived.size == (384, 384)
        pixels = np.asarray(arrived.convert("RGB"), dtype=float)
    assert np.abs(pixels - RED).mean() < 3
    assert vectors[0, 0] == pytest.approx(4.0)  # all of it is red


def test_bytes_that_fit_are_sent_untouched(server: AlephAlphaServer, embedder: AlephAlphaEmbedder) -> None:
    """Encoding once more costs quality and time."""
    fitting = encoded(image(RED, size=(384, 384)), "JPEG", quality=70)
    embedder.embed([Image(fitting)], role="document")
    assert sent(server) == fitting


@pytest.mark.parametrize("shrink", [True, False])
def test_a_turned_photo_arrives_upright(server: AlephAlphaServer, shrink: bool) -> None:
    """Phones store photos lying on their side and note the turn in EXIF; models don't read EXIF."""
    upright = image(BLUE, size=(300, 600))
    upright.paste(image(RED, size=(300, 300)), (0, 0))  # red above, blue below
    exif = PIL.Image.Exif()
    exif[274] = 6  # shown after a turn by 90 degrees to the right
    lying = encoded(upright.transpose(PIL.Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    with AlephAlphaEmbedder(server.url, server.token, shrink=shrink) as embedder:
        embedder.embed([Image(lying)], role="document")
    with PIL.Image.open(BytesIO(sent(server))) as arrived:
        assert arrived.getexif().get(274, 1) == 1
        assert arrived.width <= arrived.height
        halves = np.asarray(arrived.convert("RGB").resize((1, 2), PIL.Image.Resampling.BOX), dtype=float)[:, 0]
    np.testing.assert_allclose(halves, [RED, BLUE], atol=6)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_unshrunk_files_are_sent_byte_for_byte(server: AlephAlphaServer, format: str) -> None:  # noqa: A002
    """Who turns shrinking off wants the service to see the original."""
    original = encoded(image(GREEN, size=(900, 500)), format)
    with AlephAlphaEmbedder(server.url, server.token, shrink=False) as embedder:
        embedder.embed([Image(original)], role="document")
    assert sent(server) == original


@pytest.mark.parametrize(
    "unfit",
    [
        pytest.param(encoded(image((*RED, 0), size=(500, 300), mode="RGBA")), id="transparent"),
        pytest.param(encoded(image((0, 0, 0, 0), size=(500, 300), mode="CMYK"), "JPEG"), id="CMYK"),
        pytest.param(encoded(image((255, 255, 255), size=(500, 300)), "WEBP", lossless=True), id="WebP"),
        pytest.param(encoded(image((255, 255, 255), size=(500, 300)), "AVIF", quality=100), id="AVIF"),
        pytest.param(image((255, 255, 255), size=(500, 300)), id="PIL"),
    ],
)
def test_unshrunk_images_are_made_plain_where_they_must(
    server: AlephAlphaServer, unfit: bytes | PIL.Image.Image
) -> None:
    """A service that ignores transparency would see the hidden colour; these are all white to a person."""
    with AlephAlphaEmbedder(server.url, server.token, shrink=False) as embedder:
        embedder.embed([Image(unfit)], role="document")
    with PIL.Image.open(BytesIO(sent(server))) as arrived:
        assert (arrived.format, arrived.mode, arrived.size) == ("JPEG", "RGB", (500, 300))
        assert np.asarray(arrived).min() >= 254


def test_an_image_too_long_for_jpeg_is_sent_all_the_same(server: AlephAlphaServer) -> None:
    """Scrolls and panoramas; JPEG ends at 65,500 pixels."""
    with AlephAlphaEmbedder(server.url, server.token, shrink=False) as embedder:
        embedder.embed([Image(image(RED, size=(70_000, 2)))], role="document")
    with PIL.Image.open(BytesIO(sent(server))) as arrived:
        assert arrived.size == (70_000, 2)


@pytest.mark.parametrize("shrink", [True, False])
def test_an_unreadable_image_is_named_and_nothing_is_sent(
    server: AlephAlphaServer, tmp_path: Path, shrink: bool
) -> None:
    """One broken file must not spoil a whole request, and the user must learn which file it is."""
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    broken = tmp_path / "holiday.jpg"
    broken.write_bytes(encoded(PIL.Image.fromarray(noise), "JPEG")[:-5000])
    with (
        AlephAlphaEmbedder(server.url, server.token, shrink=shrink) as embedder,
        pytest.raises(UnreadableContentError, match=r"holiday\.jpg"),
    ):
        embedder.embed([Text("fine"), Image(broken)], role="document")
    assert server.requests == []


@pytest.mark.parametrize("shrink", [True, False])
def test_strange_files_are_sent_readable_or_refused_by_name(
    server: AlephAlphaServer, shared_data: Path, shrink: bool
) -> None:
    """Whatever leaves here can be decoded by a server that knows JPEG and PNG; whatever cannot be read names itself."""
    embedder = AlephAlphaEmbedder(server.url, server.token, shrink=shrink)
    files = [path for path in sorted((shared_data / "corner" / "files").rglob("*")) if path.is_file()][::4]

    def send(path: Path) -> bool:
        try:
            embedder.embed([Image(path)], role="document")
        except UnreadableContentError as error:
            return path.name not in str(error)
        return True

    with embedder:
        assert sum(map(send, files)) == len(server.requests) > len(files) / 2
    for request in server.requests:
        data = base64.b64decode(request.prompts[0][0]["data"])
        assert PIL.Image.open(BytesIO(data), formats=("JPEG", "PNG")).mode in ("L", "RGB")


@pytest.mark.parametrize("shrink", [True, False])
def test_prepare_is_idempotent_and_does_not_change_what_is_sent(
    server: AlephAlphaServer, tmp_path: Path, shrink: bool
) -> None:
    """The index prepares in other threads; the result must be the same as without."""
    path = tmp_path / "wide.jpg"
    path.write_bytes(encoded(image(RED, size=(900, 500)), "JPEG"))
    content = Mixed("a", Image(path), Image(image(BLUE)))
    with AlephAlphaEmbedder(server.url, server.token, shrink=shrink) as embedder:
        prepared = embedder.prepare(content)
        assert embedder.prepare(prepared) == prepared
        assert isinstance(prepared, Mixed)
        assert isinstance(prepared.parts[1], Image)
        assert isinstance(prepared.parts[1].source, bytes)
        assert prepared.parts[1].name == str(path)
        embedder.embed([content], role="document")
        embedder.embed([prepared], role="document")
    assert server.requests[0].body == server.requests[1].body


def test_an_image_prepared_whole_is_still_shrunk_by_an_embedder_that_shrinks(server: AlephAlphaServer) -> None:
    """Prepared contents may be kept and given to another embedder."""
    content = Image(encoded(image(RED, size=(900, 500)), "JPEG"))
    with (
        AlephAlphaEmbedder(server.url, server.token, shrink=False) as whole,
        AlephAlphaEmbedder(server.url, server.token) as shrinking,
    ):
        shrinking.embed([whole.prepare(content)], role="document")
    with PIL.Image.open(BytesIO(sent(server))) as arrived:
        assert arrived.size == (384, 384)


# -- vectors -----------------------------------------------------------------------------------------------------------


def test_vectors_come_back_in_order_as_float32(embedder: AlephAlphaEmbedder) -> None:
    """A swapped row would give every image its neighbour's place, for ever."""
    texts = ["red", "sky", "a tree and snow", "schwarz"]
    vectors = embedder.embed([Text(text) for text in texts], role="query")
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    np.testing.assert_allclose(vectors, [text_vector(text) for text in texts], atol=1e-6)


def test_words_find_images(embedder: AlephAlphaEmbedder) -> None:
    """The whole point, in five languages."""
    colours = embedder.embed([Image(image(colour)) for colour in (RED, GREEN, BLUE)], role="document")
    queries = embedder.embed([Text(word) for word in ("red", "rot", "verde", "bleu", "azul")], role="query")
    assert (queries @ colours.T).argmax(axis=1).tolist() == [0, 0, 1, 2, 2]


def test_no_contents_give_no_vectors(server: AlephAlphaServer, embedder: AlephAlphaEmbedder) -> None:
    """The last batch of a run may be empty."""
    assert embedder.embed([], role="document").shape == (0, 128)
    assert server.requests == []


def test_an_undocumented_full_size_is_asked_for_once(server: AlephAlphaServer) -> None:
    """The store must know the dimension before the first vector arrives."""
    with AlephAlphaEmbedder(server.url, server.token, "luminous-extended", compress_to_size=None) as embedder:
        with ThreadPoolExecutor(8) as threads:
            specs = list(threads.map(lambda _: embedder.spec, range(8)))
        assert {spec.dimension for spec in specs} == {6144}
        assert embedder.embed([], role="query").shape == (0, 6144)
        assert len(server.requests) == 1


def test_the_first_answer_tells_an_undocumented_full_size(server: AlephAlphaServer) -> None:
    """Nobody should pay for a question whose answer is known."""
    with AlephAlphaEmbedder(server.url, server.token, "luminous-supreme", compress_to_size=None) as embedder:
        embedder.embed([Text("a")], role="query")
        assert embedder.spec.dimension == 7168
    assert len(server.requests) == 1


# -- the specification -------------------------------------------------------------------------------------------------


def test_the_specification_says_what_the_model_can(server: AlephAlphaServer) -> None:
    """The index plans by it, without a request."""
    embedder = AlephAlphaEmbedder(host=server.url, token=server.token)
    assert isinstance(embedder, Embedder)
    assert isinstance(embedder, SupportsPrepare)
    spec = embedder.spec
    assert (spec.model, spec.dimension) == ("luminous-base", 128)
    assert spec.modalities == {"text", "image", "mixed"}
    assert spec.languages == ("en", "fr", "de", "it", "es")
    assert spec == embedder.spec
    text_only = AlephAlphaEmbedder(server.url, server.token, "luminous-base-control").spec
    assert text_only.modalities == {"text"}
    assert server.requests == []


def test_the_fingerprint_tells_apart_what_changes_vectors() -> None:
    """Vectors of two settings must never mix in one collection; where and how they are computed does not matter."""

    def fingerprint(host: str = "https://a.example", **settings: Any) -> str:
        return AlephAlphaEmbedder(host, "t", **settings).spec.fingerprint

    different = [
        fingerprint(),
        fingerprint(model="luminous-extended"),
        fingerprint(compress_to_size=None),
        fingerprint(representation="asymmetric"),
        fingerprint(normalize=True),
        fingerprint(shrink=False),
    ]
    assert len(set(different)) == len(different)
    alike = fingerprint("https://b.example", nice=True, hosting="aleph-alpha", timeout_s=1, max_batch_size=7, retries=0)
    assert alike == different[0]
    # Part of the storage format: a change here makes every index out there refuse to open.
    assert different[0] == "aleph-alpha/luminous-base/128/symmetric/raw/square384-1"


def test_images_are_refused_before_sending_where_the_model_takes_none(server: AlephAlphaServer) -> None:
    """A clear word instead of the service's 400."""
    with (
        AlephAlphaEmbedder(server.url, server.token, "luminous-supreme") as embedder,
        pytest.raises(UnsupportedContentError, match=r"cat\.jpg: luminous-supreme embeds text only"),
    ):
        embedder.embed([Image("cat.jpg")], role="document")
    assert server.requests == []


@pytest.mark.parametrize("empty", [Text(""), Text(" \n"), Mixed(), Mixed("red", "")])
def test_empty_contents_are_refused(embedder: AlephAlphaEmbedder, empty: Content) -> None:
    """A vector of nothing would be near to something."""
    with pytest.raises(UnsupportedContentError):
        embedder.prepare(empty)


# -- what the service refuses ------------------------------------------------------------------------------------------


def test_one_bad_prompt_fails_its_batch_as_a_content(server: AlephAlphaServer, embedder: AlephAlphaEmbedder) -> None:
    """The index halves batches on `ContentError` until the culprit stands alone, and shows its name."""
    server.bad_prompts.add("evil")
    good, bad = Text("good"), Text("evil")
    with pytest.raises(ContentError, match="one of 2 contents"):
        embedder.embed([good, bad], role="document")
    with pytest.raises(ContentError, match=r"'evil'.*INVALID_PROMPT"):
        embedder.embed([bad], role="document")
    assert embedder.embed([good], role="document").shape == (1, 128)


def test_a_text_past_the_context_is_a_content_error(embedder: AlephAlphaEmbedder) -> None:
    """A book among captions must not stop a run."""
    with pytest.raises(ContentError, match="2048"):
        embedder.embed([Text("word " * 2049)], role="document")


def limit_bytes(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Have the server refuse requests whose prompts hold more characters, as gateways do."""
    answer = AlephAlphaServer._answer

    async def limited(self: AlephAlphaServer, request: Any, raw: bytes, number: int) -> Any:
        body = json.loads(raw)
        prompts = body["prompts"] if "prompts" in body else [body["prompt"]]
        if sum(len(item["data"]) for prompt in prompts for item in prompt) > limit:
            self.answer_with(413, "<h1>Request Entity Too Large</h1>", at=[number])
        return await answer(self, request, raw, number)

    monkeypatch.setattr(AlephAlphaServer, "_answer", limited)


def test_a_request_too_large_is_sent_in_parts(
    server: AlephAlphaServer, embedder: AlephAlphaEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gateways have limits of their own: a batch that is too large is nobody's fault. Later ones are made to fit."""
    words = [Text(word) for word in ("red  ", "green", "blue ", "black", "white", "pink ", "grey ", "brown")]
    expected = embedder.embed(words, role="document")
    limit_bytes(monkeypatch, 20)
    np.testing.assert_array_equal(embedder.embed(words, role="document"), expected)
    assert [len(request.prompts) for request in server.requests] == [8, 8, 4, 2, 1, 1]
    server.requests.clear()
    np.testing.assert_array_equal(embedder.embed(words, role="document"), expected)
    assert [len(request.prompts) for request in server.requests] == [4, 4]


@pytest.mark.parametrize("large", [[0], [5], [15], [3, 4], [0, 15], list(range(16))], ids=str)
def test_contents_too_large_are_found_and_the_others_embedded(
    server: AlephAlphaServer, large: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with AlephAlphaEmbedder(server.url, server.token) as embedder:
        texts = [f"text {number:02}" for number in range(16)]
        expected = embedder.embed([Text(text) for text in texts], role="document")
        for number in large:
            texts[number] += " x" * 1000
        limit_bytes(monkeypatch, 1000)
        server.requests.clear()
        with pytest.raises(ContentError, match=r"413.*Too Large") as caught:
            embedder.embed([Text(text) for text in texts], role="document")
        error = caught.value
        assert isinstance(error, UnsupportedContentError)
        assert len(server.requests) <= 1 + len(large) * (4 + 2)
        if len(large) < 16:
            assert error.vectors is not None
            assert sorted(error.flaws) == large
            rest = [number for number in range(16) if number not in large]
            np.testing.assert_array_equal(error.vectors[rest], expected[rest])
        server.requests.clear()
        with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as index:
            report = index.add_texts(texts)
            assert (report.added, len(report.failed)) == (16 - len(large), len(large))
            assert all("shorten the text" in failure.reason for failure in report.failed)
        if len(large) == 1:
            assert len(server.requests) <= 1 + 4 + 2


def test_a_single_content_too_large_is_a_content_error(server: AlephAlphaServer, embedder: AlephAlphaEmbedder) -> None:
    """The index can then name it, and go on."""
    server.answer_with(413, "<h1>Request Entity Too Large</h1>", at=[1])
    with pytest.raises(ContentError, match=r"413.*Too Large"):
        embedder.embed([Text("a")], role="document")


def test_wrong_settings_are_not_blamed_on_contents(server: AlephAlphaServer) -> None:
    """An unknown model gives 400 as a bad image does: an index would then try a million images one by one."""
    with AlephAlphaEmbedder(server.url, server.token, "luminous-bass", retries=2) as embedder:
        with pytest.raises(EmbedderError, match="model='luminous-bass'") as caught:
            embedder.embed([Text("a"), Text("b")], role="document")
        assert "unknown model" in str(caught.value)
    assert [request.path for request in server.requests] == ["/batch_semantic_embed", "/semantic_embed"]


def test_settings_that_worked_are_not_doubted_again(server: AlephAlphaServer, embedder: AlephAlphaEmbedder) -> None:
    """Finding a culprit takes requests enough."""
    server.bad_prompts.add("evil")
    embedder.embed([Text("good")], role="document")
    with pytest.raises(ContentError):
        embedder.embed([Text("evil")], role="document")
    assert len(server.requests) == 2


def test_trouble_while_doubting_the_settings_is_that_trouble(
    server: AlephAlphaServer, embedder: AlephAlphaEmbedder
) -> None:
    """What is not known must not become a content's fault."""
    server.bad_prompts.add("evil")
    server.answer_with(401, at=[2])
    with pytest.raises(EmbedderAuthError):
        embedder.embed([Text("evil")], role="document")


def test_a_wrong_token_is_an_auth_error(server: AlephAlphaServer) -> None:
    """The commonest mistake of all."""
    with (
        AlephAlphaEmbedder(server.url, "other-token") as embedder,
        pytest.raises(EmbedderAuthError, match="refuses the token") as caught,
    ):
        embedder.embed([Text("a")], role="query")
    assert "other-token" not in shown(caught.value)


# -- what is no answer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("<html><title>Login</title></html>", "Login"),
        ("", "begins with ''"),
        ('{"model_version": "1", "embeddings": [[1', "not with the JSON"),
        ("[1, 2]", "not with the JSON"),
        ("null", "not with the JSON"),
        ('{"model_version": "1", "num_tokens_prompt_total": 2}', "'embeddings'"),
        ('{"model_version": "1", "num_tokens_prompt_total": 2, "embeddings": null}', "not with the JSON"),
        ("[" * 100_000, "not with the JSON"),
    ],
    ids=["html", "empty", "half", "list", "null", "field missing", "field null", "deep"],
)
def test_anything_else_than_an_embedding_is_a_response_error(
    server: AlephAlphaServer, embedder: AlephAlphaEmbedder, body: str, says: str
) -> None:
    """A login page with status 200 made the official client raise a bare JSON error. It stays, so it isn't retried."""
    server.answer_with(200, body)
    with pytest.raises(EmbedderResponseError, match=r"address|host") as caught:
        embedder.embed([Text("a"), Text("b")], role="query")
    assert says in str(caught.value)
    assert caught.value.__context__ is None
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("one_too_few", "returned 2 vectors, expected 3 of 128 numbers"),
        ("one_too_many", "returned too many vectors, expected 3 of 128 numbers"),
        ("wrong_dimension", "a vector of 127 numbers, not of 128 for every content, expected 3 of 128"),
        ("ragged", "a vector of 127 numbers, not of 128 for content 1 of 3"),
        ("not_numbers", "no vector of numbers for every content, expected 3 of 128 numbers"),
        ("nan", "a vector that holds NaN or infinity for content 3 of 3"),
        ("infinity", "a vector that holds NaN or infinity for content 3 of 3"),
    ],
)
def test_wrong_vectors_never_come_out(
    server: AlephAlphaServer, embedder: AlephAlphaEmbedder, kind: Kind, says: str
) -> None:
    """The official client returns all of these as if nothing were wrong; in a store they spoil searches silently."""
    server.misbehave(kind)
    with pytest.raises(EmbedderResponseError, match=says):
        embedder.embed([Text("a"), Text("b"), Text("c")], role="document")
    assert len(server.requests) == 1


def test_a_single_vector_is_checked_too(server: AlephAlphaServer, embedder: AlephAlphaEmbedder) -> None:
    """It comes by another endpoint."""
    for kind in ("one_too_few", "wrong_dimension", "nan"):
        server.behave()
        server.misbehave(kind)
        with pytest.raises(EmbedderResponseError):
            embedder.embed([Text("a")], role="query")


# -- trouble that passes -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_pauses")
def test_a_full_queue_is_waited_out(server: AlephAlphaServer, embedder: AlephAlphaEmbedder) -> None:
    """503 QUEUE_FULL is how the service says that it is busy."""
    server.queue_full(times=2)
    assert embedder.embed([Text("a")], role="query").shape == (1, 128)
    server.queue_full()
    with pytest.raises(EmbedderUnavailableError, match="QUEUE_FULL"):
        embedder.embed([Text("a")], role="query")


# -- many threads ------------------------------------------------------------------------------------------------------


def test_first_use_from_many_threads_connects_once(
    server: AlephAlphaServer, embedder: AlephAlphaEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clients would have two pools of connections, and one would never be closed."""
    made = []
    original = _aleph_alpha_client.AlephAlphaClient

    def counting(exchanges: Any, **settings: Any) -> Any:
        made.append(settings)
        time.sleep(0.05)
        return original(exchanges, **settings)

    monkeypatch.setattr(_aleph_alpha_client, "AlephAlphaClient", counting)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: embedder.embed([Text("a")], role="query"), range(8)))
    assert len(made) == 1


# -- settings and secrets ----------------------------------------------------------------------------------------------


def test_nothing_heavy_is_loaded_before_the_first_use() -> None:
    """The client takes a second to import; a search by another embedder must not pay for it."""
    script = (
        "import sys\n"
        "from multimodal_search.embedders.aleph_alpha.embedder import AlephAlphaEmbedder\n"
        "embedder = AlephAlphaEmbedder('https://a.example', 't')\n"
        "repr(embedder), embedder.spec, embedder.close()\n"
        "assert not {'aleph_alpha_client', 'requests', 'urllib3', 'aiohttp'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "token", ["", " \n", "SECRET\nSECRET", "SECRET SECRET", "SECRET\x00", "SECRET\u200b", "SECRETé", None]
)
def test_a_token_that_cannot_be_one_is_refused_unseen(token: str) -> None:
    """Header errors print the header."""
    with pytest.raises(ConfigurationError, match="token") as caught:
        AlephAlphaEmbedder("https://a.example", token)
    assert "SECRET" not in shown(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "",
        None,
        "SECRET",  # host and token swapped
        "inference.example.org",
        "ftp://example.org",
        "https://",
        "https://user:SECRET@example.org",
        "https://SECRET@example.org/v1",
        "https://example.org/?token=SECRET",
        "https://example.org/#SECRET",
        "https://exam ple.org",
        "https://example.org\n/v1",
        "https://example.org:port",
        "https://example.org:0",
        "https://[::1",
    ],
)
def test_a_host_that_is_no_address_is_refused(host: str) -> None:
    """There is no default to fall back to, and a password in an address would show in messages."""
    with pytest.raises(ConfigurationError, match="host must be the address") as caught:
        AlephAlphaEmbedder(host, "SECRET")
    assert "SECRET" not in shown(caught.value)


@pytest.mark.parametrize(
    "host", ["http://localhost:8080", "https://example.org/v1/", "HTTPS://EXAMPLE.ORG", "http://[::1]:80"]
)
def test_addresses_are_accepted(host: str) -> None:
    """With a port, a path, in capitals, by number."""
    AlephAlphaEmbedder(host, "t")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_batch_size": 101}, "max_batch_size must be from 1 to 100"),
        ({"max_batch_size": 0}, "max_batch_size"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"compress_to_size": 256}, "128"),
        ({"representation": "document"}, "'symmetric' or 'asymmetric'"),
        ({"normalize": None}, "normalize"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"retries": -1}, "retries"),
        ({"model": " "}, "model"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], says: str) -> None:
    """At once, and not by a 400 an hour later."""
    with pytest.raises(ConfigurationError, match=says):
        AlephAlphaEmbedder("https://a.example", "t", **settings)


def test_more_contents_than_max_batch_are_refused(server: AlephAlphaServer) -> None:
    """The official client would send several requests one after the other, past any deadline."""
    with (
        AlephAlphaEmbedder(server.url, server.token, max_batch_size=2) as embedder,
        pytest.raises(ConfigurationError, match="at most max_batch_size=2 contents, not 3"),
    ):
        embedder.embed([Text("a")] * 3, role="query")
    assert server.requests == []


def test_the_largest_batch_is_one_request(server: AlephAlphaServer) -> None:
    """100 is the service's documented limit."""
    with AlephAlphaEmbedder(server.url, server.token, max_batch_size=100) as embedder:
        assert embedder.embed([Text(f"{number}") for number in range(100)], role="query").shape == (100, 128)
    assert len(server.requests) == 1


def test_host_and_token_come_from_the_environment(server: AlephAlphaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where servers and notebooks keep them."""
    monkeypatch.setenv("AA_HOST", server.url)
    monkeypatch.setenv("AA_TOKEN", server.token + "\n")
    with AlephAlphaEmbedder.from_env(model="luminous-extended", max_batch_size=3) as embedder:
        assert (embedder.spec.model, embedder.spec.max_batch_size) == ("luminous-extended", 3)
        assert embedder.embed([Text("a")], role="query").shape == (1, 128)


@pytest.mark.parametrize("missing", ["AA_HOST", "AA_TOKEN"])
def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Empty counts as missing: shells and CI set unset secrets to the empty text."""
    monkeypatch.setenv("AA_HOST", "https://a.example")
    monkeypatch.setenv("AA_TOKEN", "t")
    monkeypatch.setenv(missing, "")
    with pytest.raises(ConfigurationError, match=missing):
        AlephAlphaEmbedder.from_env()


# -- the local server itself -------------------------------------------------------------------------------------------

VALID = {"model": "luminous-base", "prompt": "red", "representation": "symmetric"}


def _post(server: AlephAlphaServer, path: str, body: Any, token: str = TOKEN) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}{path}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"compress_to_size": 128, "normalize": True, "hosting": "aleph-alpha"}, 200),
        ({"normalize": None}, 400),
        ({"compress_to_size": 64}, 400),
        ({"representation": "both"}, 400),
        ({"model": "gpt"}, 400),
        ({"model": None}, 400),
        ({"prompt": []}, 400),
        ({"prompt": [{"type": "text"}]}, 400),
        ({"prompt": [{"type": "video", "data": "x"}]}, 400),
        ({"prompt": [{"type": "image", "data": "x"}]}, 400),
        ({"prompt": [{"type": "image", "data": base64.b64encode(b"no image").decode()}]}, 400),
        ({"prompt": [{"type": "text", "data": "x", "colour": 1}]}, 400),
        ({"temperature": 1}, 400),
    ],
)
def test_the_local_server_is_strict(server: AlephAlphaServer, change: dict[str, Any], status: int) -> None:
    """Tests against a server that takes anything would prove nothing."""
    assert _post(server, "/semantic_embed", VALID | change)[0] == status


def test_the_local_server_knows_its_limits(server: AlephAlphaServer) -> None:
    """The documented ones."""
    batch = {"model": "luminous-base", "representation": "symmetric"}
    assert _post(server, "/batch_semantic_embed", batch | {"prompts": ["a"] * 100})[0] == 200
    assert _post(server, "/batch_semantic_embed", batch | {"prompts": ["a"] * 101})[0] == 400
    assert _post(server, "/semantic_embed", VALID, token="wrong")[0] == 401
    assert _post(server, "/elsewhere", VALID)[0] == 404
    with urllib.request.urlopen(f"{server.url}/version") as answer:
        assert answer.headers.get_content_type() == "text/plain"


def test_the_local_server_can_run_in_a_process_of_its_own() -> None:
    """Benchmarks must not share an interpreter lock with it."""
    with AlephAlphaServer(subprocess=True, compute="hash", latency_s=0.05) as server:
        with AlephAlphaEmbedder(server.url, server.token) as embedder, ThreadPoolExecutor(4) as threads:
            contents: list[Content] = [Image(encoded(image(RED))), Text("a")]
            embed: Callable[[int], Any] = lambda _: embedder.embed(contents, role="document")  # noqa: E731
            list(threads.map(embed, range(8)))
        stats = server.stats()
    assert (stats.requests, stats.prompts, stats.most_in_flight) == (8, 16, 4)


# -- made again -------------------------------------------------------------------------------------------------------


def test_an_index_opens_again_without_naming_it(
    server: AlephAlphaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it was made with, but for the token: that is in the environment then."""
    with AlephAlphaEmbedder(server.url, server.token, timeout_s=20, normalize=True) as embedder:
        assert embedder.ref == EmbedderRef(
            "aleph-alpha", host=server.url, model="luminous-base", timeout_s=20, normalize=True
        )
        with MultimodalIndex.open(tmp_path / "index", embedder=embedder, auto_calibrate=False) as index:
            index.add_texts(["red"], progress=False)
    assert TOKEN not in (tmp_path / "index" / "notes" / "embedder").read_text("utf-8")
    monkeypatch.delenv("AA_HOST", raising=False)
    monkeypatch.delenv("AA_TOKEN", raising=False)
    with MultimodalIndex.open(tmp_path / "index") as index:
        with pytest.raises(ConfigurationError, match="set the environment variable AA_TOKEN to an API token"):
            index.search("red")
        monkeypatch.setenv("AA_TOKEN", TOKEN)
        assert index.search("red")[0].text == "red"
