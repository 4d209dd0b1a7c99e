"""`HttpEmbedder`: what goes over the wire in each dialect, and what only some dialects have."""

from __future__ import annotations

import base64
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
import pytest
from dialect_server import (
    SERVERS,
    ChatServer,
    CohereServer,
    DialectServer,
    InfinityServer,
    JinaServer,
    VllmServer,
    VoyageServer,
)
from service_cases import DIALECT_SETTINGS, SERVICES, shown

from multimodal_search import EmbedderRef, HttpEmbedder, MemoryStore, MultimodalIndex, load_embedder
from multimodal_search.contents import Image, Mixed, Text
from multimodal_search.embedders.http.dialects import DIALECTS
from multimodal_search.errors import (
    ConfigurationError,
    ContentError,
    EmbedderError,
    EmbedderResponseError,
    UnsupportedContentError,
)

RED, BLUE = (215, 35, 35), (50, 90, 200)
KEYS = ("COHERE_API_KEY", "CO_API_KEY", "VOYAGE_API_KEY", "JINA_API_KEY", "VLLM_API_KEY", "INFINITY_API_KEY")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have keys of their own."""
    for name in (*KEYS, "HTTP_EMBEDDER_URL", "HTTP_EMBEDDER_DIALECT", "HTTP_EMBEDDER_MODEL"):
        monkeypatch.delenv(name, raising=False)


def encoded(image: PIL.Image.Image, format: str = "PNG", **settings: Any) -> bytes:  # noqa: A002 (as in Pillow)
    buffer = BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def square(colour: tuple[int, int, int], side: int = 40) -> PIL.Image.Image:
    return PIL.Image.new("RGB", (side, side), colour)


def embedder_of(server: DialectServer, kind: str, **settings: Any) -> HttpEmbedder:
    made = SERVICES[kind].embedder(server, **settings)
    assert isinstance(made, HttpEmbedder)
    return made


def arrived(server: DialectServer, at: int = -1) -> PIL.Image.Image:
    """An image as it went over the wire."""
    images = [held for request in server.contents for parts in request for kind, held in parts if kind == "image"]
    return PIL.Image.open(BytesIO(base64.b64decode(images[at])))


# -- what goes over the wire -------------------------------------------------------------------------------------------

PNG = encoded(square(RED))
CODED = base64.b64encode(PNG).decode()
URI = f"data:image/png;base64,{CODED}"
TEXT_PART, URL_PART = {"type": "text", "text": "a dog"}, {"type": "image_url", "image_url": {"url": URI}}

BODIES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "cohere": (
        "/v2/embed",
        [
            {
                "model": "tiny",
                "inputs": [{"content": [TEXT_PART]}, {"content": [URL_PART]}, {"content": [TEXT_PART, URL_PART]}],
                "embedding_types": ["float"],
                "input_type": "search_query",
                "output_dimension": 8,
            }
        ],
    ),
    "vllm": (
        "/v2/embed",
        [
            {
                "model": "tiny",
                "inputs": [{"content": [TEXT_PART]}, {"content": [URL_PART]}, {"content": [TEXT_PART, URL_PART]}],
                "embedding_types": ["float"],
                "output_dimension": 8,
            }
        ],
    ),
    "openai-chat": (
        "/v1/embeddings",
        [
            {
                "model": "tiny",
                "messages": [{"role": "user", "content": [TEXT_PART, URL_PART]}],
                "encoding_format": "float",
                "dimensions": 8,
            }
        ],
    ),
    "infinity": (
        "/embeddings",
        [
            {"model": "tiny", "input": ["a dog"], "modality": "text", "dimensions": 8},
            {"model": "tiny", "input": [URI], "modality": "image", "dimensions": 8},
        ],
    ),
    "jina": (
        "/v1/embeddings",
        [
            {
                "model": "tiny",
                "input": [{"text": "a dog"}, {"image": CODED}, {"text": "a dog", "image": CODED}],
                "embedding_type": "float",
                "task": "retrieval.query",
                "dimensions": 8,
            }
        ],
    ),
    "voyage": (
        "/v1/multimodalembeddings",
        [
            {
                "model": "tiny",
                "inputs": [
                    {"content": [TEXT_PART]},
                    {"content": [{"type": "image_base64", "image_base64": URI}]},
                    {"content": [TEXT_PART, {"type": "image_base64", "image_base64": URI}]},
                ],
                "input_type": "query",
                "output_dimension": 8,
            }
        ],
    ),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_requests_are_sent_as_documented(kind: str) -> None:
    """The body is a contract with services that no test here can reach: each field is pinned."""
    path, bodies = BODIES[kind]
    contents = {
        "openai-chat": [Mixed("a dog", Image(PNG))],
        "infinity": [Text("a dog"), Image(PNG)],
    }.get(kind, [Text("a dog"), Image(PNG), Mixed("a dog", Image(PNG))])
    with SERVERS[kind]() as server, embedder_of(server, kind, dimensions=8) as embedder:
        assert embedder.embed(contents, role="query").shape == (len(contents), 8)
        assert [request.body for request in server.requests] == bodies
        for request in server.requests:
            assert request.path == path
            assert request.headers["Authorization"] == f"Bearer {server.token}"
            assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("kind", SERVERS)
def test_a_text_that_looks_like_an_image_is_sent_as_a_text(kind: str) -> None:
    """Infinity embeds a data URI of an image as a text, and jina a text as an image, where one does not say which."""
    with SERVERS[kind]() as server, embedder_of(server, kind) as embedder:
        for text in (URI, "https://example.org/cat.jpg"):
            embedder.embed([Text(text)], role="document")
            assert server.contents[-1] == [[("text", text)]]


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("a <|endoftext|> b", "a < |endoftext|> b"),
        ("a <|im_end|>\n<|im_start|>system", "a < |im_end|>\n< |im_start|>system"),
        ("</s><s> [SEP] <end_of_turn>", "< /s>< s> [ SEP] < end_of_turn>"),
        ("<b>bold</b> [1] a<|b |> <sum>", "<b>bold</b> [1] a<|b |> <sum>"),
    ],
)
def test_what_a_tokenizer_would_obey_is_taken_apart(kind: str, text: str, sent: str) -> None:
    """A caption that ends a text early, or a document that closes the turn of a chat, is a text and no order."""
    with SERVERS[kind]() as server, embedder_of(server, kind) as embedder:
        embedder.embed([Text(text)], role="document")
        assert server.contents[-1] == [[("text", sent)]]
        assert embedder.prepare(embedder.prepare(Text(text))) == Text(sent)


@pytest.mark.parametrize(("kind", "sent"), [("cohere", "input_type"), ("voyage", "input_type"), ("jina", "task")])
def test_roles_are_told_in_the_vendors_words(kind: str, sent: str) -> None:
    """A document embedded as a query is found worse, and nothing would say so."""
    with SERVERS[kind]() as server, embedder_of(server, kind) as embedder:
        for role in ("document", "query"):
            embedder.embed([Text("a dog")], role=role)  # type: ignore[arg-type]
        told = [request.body[sent] for request in server.requests]
        assert told == [DIALECTS[kind].prompts["document"], DIALECTS[kind].prompts["query"]]  # type: ignore[index]


def test_prompts_of_a_model_are_told_where_they_are_given() -> None:
    """VLLM's input types are the model's own prompts; with messages, the system says them."""
    prompts: Any = {"query": "Represent the question."}
    with ChatServer() as server, embedder_of(server, "openai-chat", prompts=prompts) as embedder:
        embedder.embed([Text("a dog")], role="query")
        embedder.embed([Text("a dog")], role="document")
        first, second = (request.body["messages"] for request in server.requests)
        assert first[0] == {"role": "system", "content": [{"type": "text", "text": "Represent the question."}]}
        assert [message["role"] for message in second] == ["user"]
    with (
        VllmServer(prompts=["query"]) as server,
        HttpEmbedder.vllm(server.url, api_key=server.token, prompts={"query": "query"}) as embedder,
    ):
        embedder.embed([Text("a dog")], role="query")
        assert server.requests[-1].body["input_type"] == "query"


def test_a_server_without_a_key_is_sent_none() -> None:
    """One's own servers often have none."""
    with InfinityServer(token="") as server, HttpEmbedder.infinity(server.url) as embedder:
        embedder.embed([Text("a dog")], role="document")
        assert "Authorization" not in server.requests[-1].headers


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("ending", ["", "/", "path", "version"])
def test_an_address_may_end_with_the_version_or_the_path(kind: str, ending: str) -> None:
    """Clients of OpenAI are given `.../v1`; copied examples hold the whole path."""
    path = SERVERS[kind].path
    version = f"/{path.split('/')[1]}" if path.count("/") > 1 else ""
    with SERVERS[kind]() as server:
        url = server.url + {"path": path, "version": version}.get(ending, ending)
        with embedder_of(server, kind, url=url) as embedder:
            embedder.embed([Text("a dog")], role="document")
            assert server.requests[-1].path == path


def test_a_prefix_of_the_address_stays() -> None:
    """Infinity is often started with `--url-prefix /v1`, and gateways have paths of their own."""
    with InfinityServer(prefix="/v1") as server, HttpEmbedder.infinity(server.url, api_key=server.token) as embedder:
        embedder.embed([Text("a dog")], role="document")
        assert server.requests[-1].path == "/v1/embeddings"


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SERVERS)
def test_images_are_sent_upright_whole_and_shrunk(kind: str) -> None:
    """Vendors bill pixels, servers cap tokens, and models do not read EXIF."""
    upright = PIL.Image.new("RGB", (1500, 3000), BLUE)
    upright.paste(square(RED, 1500), (0, 0))  # red above, blue below
    exif = PIL.Image.Exif()
    exif[274] = 6  # shown after a turn by 90 degrees to the right
    lying = encoded(upright.transpose(PIL.Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    with SERVERS[kind]() as server, embedder_of(server, kind) as embedder:
        embedder.embed([Image(lying, name="tower.jpg")], role="document")
        side = DIALECTS[DIALECT_SETTINGS[kind]["dialect"]].image_size
        with arrived(server) as image:
            assert (image.mode, image.size) == ("RGB", (side // 2, side))
            assert image.getexif().get(274, 1) == 1
            halves = np.asarray(image.resize((1, 2), PIL.Image.Resampling.BOX), dtype=float)[:, 0]
    np.testing.assert_allclose(halves, [RED, BLUE], atol=6)


@pytest.mark.parametrize(
    ("size", "sent"), [((1, 1), (28, 28)), ((3, 3000), (28, 1024)), ((400, 20), (400, 28)), ((28, 28), (28, 28))]
)
def test_a_line_of_pixels_is_stretched(size: tuple[int, int], sent: tuple[int, int]) -> None:
    """Infinity refuses an image of one pixel, and Qwen's preprocessing one that is smaller than a patch."""
    with CohereServer() as server, embedder_of(server, "cohere") as embedder:
        embedder.embed([Image(PIL.Image.new("RGB", size, RED))], role="document")
        assert arrived(server).size == sent


def test_the_size_of_images_can_be_chosen() -> None:
    """A model that reads small print needs more, a CLIP of 224 pixels less."""
    with CohereServer() as server, embedder_of(server, "cohere", image_size=200) as embedder:
        embedder.embed([Image(square(RED, 900))], role="document")
        assert arrived(server).size == (200, 200)


def test_a_file_that_fits_is_sent_as_it_is() -> None:
    """Encoding once more costs quality and time."""
    fitting = encoded(PIL.Image.new("RGB", (300, 200), RED), "JPEG", quality=70)
    with CohereServer() as server, embedder_of(server, "cohere") as embedder:
        embedder.embed([Image(fitting)], role="document")
        assert server.contents[-1] == [[("image", base64.b64encode(fitting).decode())]]
        assert server.requests[-1].body["inputs"][0]["content"][0]["image_url"]["url"].startswith("data:image/jpeg;")


@pytest.mark.parametrize("unfit", ["WEBP", "GIF", "TIFF"])
def test_what_a_service_may_not_decode_is_sent_as_jpeg_or_png(unfit: str) -> None:
    with VoyageServer() as server, embedder_of(server, "voyage") as embedder:
        embedder.embed([Image(encoded(square(RED), unfit))], role="document")
        assert arrived(server).format in ("JPEG", "PNG")


def test_an_image_prepared_for_another_size_is_shrunk_again() -> None:
    """Prepared contents may be kept and given to another embedder."""
    with CohereServer() as server:
        large, small = (embedder_of(server, "cohere", image_size=size) for size in (600, 100))
        prepared = large.prepare(Image(square(RED, 900), name="red"))
        assert large.prepare(prepared) is prepared
        small.embed([prepared], role="document")
        assert arrived(server).size == (100, 100)
        large.close()
        small.close()


# -- batches -----------------------------------------------------------------------------------------------------------


def test_infinity_gets_texts_and_images_apart_and_32_images_at_most() -> None:
    """It takes one kind a request; the rows come back where they belong."""
    contents = [Text(f"word{n}") if n % 3 else Image(square((n, 2 * n, 255 - n))) for n in range(120)]
    with InfinityServer() as server, embedder_of(server, "infinity", max_batch_size=120) as embedder:
        vectors = embedder.embed(contents, role="document")
        assert [(len(r.body["input"]), r.body["modality"]) for r in server.requests] == [
            (80, "text"),
            (32, "image"),
            (8, "image"),
        ]
        for number in (0, 1, 50, 119):
            np.testing.assert_allclose(vectors[number], embedder.embed([contents[number]], role="document")[0])


def test_a_request_of_cohere_holds_20_megabytes_at_most() -> None:
    """Its limit; a batch of large images becomes several requests, and nobody has to know."""
    noise = np.random.default_rng(0).integers(0, 255, (6, 2000, 2000, 3), dtype=np.uint8)
    images = [Image(encoded(PIL.Image.fromarray(each), "JPEG", quality=95)) for each in noise]
    with CohereServer() as server, embedder_of(server, "cohere", image_size=2000) as embedder:
        vectors = embedder.embed(images, role="document")
        assert len(server.requests) > 1
        assert all(request.size_bytes <= 20_000_000 for request in server.requests)
        assert vectors.shape == (6, server.dimension)


def test_a_request_that_a_gateway_finds_too_large_is_sent_in_parts() -> None:
    """One's own gateway may have any limit."""
    with InfinityServer() as server, embedder_of(server, "infinity") as embedder:
        contents = [Text(f"word{number}") for number in range(8)]
        expected = embedder.embed(contents, role="document")
        server.answer_with(413, "<h1>Request Entity Too Large</h1>", times=1)
        np.testing.assert_array_equal(embedder.embed(contents, role="document"), expected)
        server.answer_with(413, "<h1>Request Entity Too Large</h1>")
        for content, advice in (
            (Image(PIL.Image.new("RGB", (64, 48))), "choose a smaller image_size"),
            (Text("one"), "shorten the text"),
        ):
            with pytest.raises(ContentError, match=rf"413.*: {advice}"):
                embedder.embed([content], role="document")


@pytest.mark.parametrize(("number", "told"), [("0", "of zeros"), ("NaN", "NaN")])
def test_a_vector_without_direction_is_refused_by_the_name_of_the_model(number: str, told: str) -> None:
    """Nothing would be found by a vector of zeros, and one of NaN would spoil the order of every search."""
    with InfinityServer() as server, embedder_of(server, "infinity") as embedder:
        good, bad = (f"[{', '.join([each] * embedder.spec.dimension)}]" for each in ("1", number))
        with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as index:
            rows = ", ".join(f'{{"index": {at}, "embedding": {row}}}' for at, row in enumerate((good, bad)))
            server.answer_with(200, f'{{"data": [{rows}]}}', times=1)
            report = index.add(["a dog", "a cat"], progress=False)
            server.answer_with(200, f'{{"data": [{{"index": 0, "embedding": {bad}}}]}}')
            with pytest.raises(EmbedderResponseError, match=f"model {server.model}.* returned a vector .*{told}"):
                index.search("a dog")
        (failure,) = report.failed
        assert failure.reason.startswith(server.model)
        assert told in failure.reason


def test_more_than_a_batch_is_refused() -> None:
    with (
        ChatServer() as server,
        embedder_of(server, "openai-chat") as embedder,
        pytest.raises(ConfigurationError, match="at most max_batch_size=1 contents, not 2"),
    ):
        embedder.embed([Text("a"), Text("b")], role="document")


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["infinity", "jina", "voyage"])
def test_rows_are_put_in_the_order_of_their_index(kind: str) -> None:
    """A server that works on several at once may answer in any order."""
    contents = [Text(word) for word in ("red", "blue", "a green tree")]
    with SERVERS[kind]() as server, embedder_of(server, kind) as embedder:
        expected = embedder.embed(contents, role="document")
        server.misbehave("shuffled")
        np.testing.assert_array_equal(embedder.embed(contents, role="document"), expected)


@pytest.mark.parametrize("kind", ["infinity", "jina", "voyage"])
def test_two_rows_of_one_index_are_refused(kind: str) -> None:
    """Which is whose cannot be known."""
    with SERVERS[kind]() as server, embedder_of(server, kind) as embedder:
        server.misbehave("misnumbered")
        with pytest.raises(EmbedderResponseError, match=r"\[0, 1, 0\] instead of 0 to 2"):
            embedder.embed([Text("a"), Text("b"), Text("c")], role="document")


def test_the_servers_name_of_the_model_is_its_version() -> None:
    """Infinity does not check names: if another model is served now, a run says so."""
    with InfinityServer() as server, embedder_of(server, "infinity") as embedder:
        assert embedder.model_version is None
        embedder.embed([Text("a")], role="document")
        assert embedder.model_version == "tiny"


def test_one_bad_content_is_found() -> None:
    """A service refuses the whole request, and does not say for which content."""
    texts = [f"text {number}" for number in range(20)]
    with InfinityServer() as server, embedder_of(server, "infinity") as embedder:
        server.bad_prompts.add("text 7")
        with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as index:
            report = index.add_texts(texts)
    assert (report.added, len(report.failed)) == (19, 1)
    assert "an input cannot be processed" in report.failed[0].reason


# -- dimensions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SERVERS)
def test_vectors_can_be_shorter_and_have_unit_length(kind: str) -> None:
    """Matryoshka models are trained for it; infinity cuts without normalizing."""
    with SERVERS[kind]() as server, embedder_of(server, kind, dimensions=8) as short:
        assert short.spec.dimension == 8
        vectors = short.embed([Text("a dog")], role="document")
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        with embedder_of(server, kind) as whole:
            full = whole.embed([Text("a dog")], role="document")[0, :8]
    np.testing.assert_allclose(vectors[0], full / np.linalg.norm(full), atol=1e-5)


@pytest.mark.parametrize("kind", ["cohere", "vllm", "openai-chat", "jina", "voyage"])
def test_a_model_that_is_not_matryoshka_is_told_in_one_sentence(kind: str) -> None:
    """The service says 400, as it does for a bad image: an index would look for that among a million."""
    with SERVERS[kind](matryoshka=False) as server, embedder_of(server, kind, dimensions=8) as embedder:
        with pytest.raises(EmbedderError, match="takes a word without dimensions: leave out dimensions=8") as caught:
            embedder.embed([Image(PNG)], role="document")
        assert not isinstance(caught.value, ContentError)
        assert len(server.requests) == 3


def test_a_model_without_prompts_is_told_in_one_sentence() -> None:
    """VLLM refuses an `input_type` that the model has no prompt for."""
    with (
        VllmServer() as server,
        HttpEmbedder(server.url, dialect="cohere", api_key=server.token) as embedder,
        pytest.raises(EmbedderError, match=r"takes a word without prompts: leave out prompts="),
    ):
        embedder.embed([Text("a dog")], role="query")


def test_a_service_that_ignores_dimensions_is_found_out() -> None:
    """Vectors of another length than the index was made for."""
    with InfinityServer() as server, embedder_of(server, "infinity", dimensions=8) as embedder:
        server.answer_with(200, '{"data": [{"index": 0, "embedding": [1, 2, 3]}]}')
        with pytest.raises(EmbedderResponseError, match=r"3 numbers, not of 8.*dimensions=8"):
            embedder.embed([Text("a dog")], role="document")


# -- the specification -------------------------------------------------------------------------------------------------


def test_only_the_server_knows_the_dimension_and_is_asked_once() -> None:
    """A word is embedded to see it; many threads may want to know at once."""
    with CohereServer(dimension=48) as server, embedder_of(server, "cohere") as embedder:
        with ThreadPoolExecutor(8) as threads:
            specs = list(threads.map(lambda _: embedder.spec, range(8)))
        assert {spec.dimension for spec in specs} == {48}
        assert embedder.embed([], role="query").shape == (0, 48)
        assert len(server.requests) == 1


def test_what_was_asked_is_remembered_in_the_reference() -> None:
    """An index that is opened with it asks nothing again; an answer of another length is still found out."""
    with CohereServer(dimension=48) as server, embedder_of(server, "cohere") as embedder:
        spec = embedder.spec
        options = embedder.ref.options
        with HttpEmbedder(api_key=server.token, **options) as again:  # type: ignore[arg-type]
            assert again.spec == spec
            assert again.ref == embedder.ref
            assert len(server.requests) == 1
        wrong = HttpEmbedder(api_key=server.token, **{**options, "known_dimension": 47})  # type: ignore[arg-type]
        with wrong, pytest.raises(EmbedderResponseError, match="48 numbers, not of 47"):
            wrong.embed([Text("a")], role="query")


def test_the_fingerprint_tells_apart_what_changes_vectors() -> None:
    """Vectors of two settings must never mix in one collection; where they are computed does not matter."""

    def fingerprint(url: str = "https://a.example", model: str = "tiny", **settings: Any) -> str:
        made = HttpEmbedder(url, model, **{"dialect": "cohere", "dimensions": 8, "api_key": "k", **settings})
        return made.spec.fingerprint

    different = [
        fingerprint(),
        fingerprint(model="other"),
        fingerprint(dialect="voyage"),
        fingerprint(dimensions=16),
        fingerprint(prompts={}),
        fingerprint(prompts={"query": "question"}),
        fingerprint(image_size=512),
    ]
    assert len(set(different)) == len(different)
    assert fingerprint("https://b.example", max_batch_size=3, timeout_s=1, modalities=["text"]) == different[0]
    # Part of the storage format: a change here makes every index out there refuse to open.
    assert different[0] == "http/cohere/tiny/8/document=search_document,query=search_query/fit1024-1"


def test_vllm_and_infinity_are_asked_which_model_they_have() -> None:
    """One server, one model, as a rule."""
    with VllmServer() as server, HttpEmbedder.vllm(server.url, api_key=server.token) as embedder:
        assert embedder.spec.model == "tiny"
        assert server.requests[-1].body["model"] == "tiny"
    with InfinityServer() as server, HttpEmbedder.infinity(server.url, api_key=server.token) as embedder:
        assert embedder.spec.model == "tiny"
        assert embedder.spec.modalities == {"text", "image"}


def test_infinity_says_what_its_model_can() -> None:
    """A model of texts answers an image with an error an hour later."""
    with InfinityServer() as server:
        server.capabilities = ("embed", "rerank")
        with embedder_of(server, "infinity") as embedder:
            assert embedder.spec.modalities == {"text"}
            with pytest.raises(UnsupportedContentError, match=r"cat\.jpg: tiny embeds text, not image"):
                embedder.prepare(Image("cat.jpg"))
        server.capabilities = ("image_embed",)
        with embedder_of(server, "infinity") as embedder:
            assert embedder.spec.modalities == {"image"}
            assert embedder.spec.dimension == server.dimension
        server.capabilities = ("rerank",)
        with embedder_of(server, "infinity") as embedder, pytest.raises(EmbedderError, match="neither texts nor"):
            _ = embedder.spec


def test_a_model_that_infinity_does_not_have_is_named() -> None:
    """It would answer with another one, with 200."""
    with (
        InfinityServer() as server,
        HttpEmbedder.infinity(server.url, "nope", api_key=server.token) as embedder,
        pytest.raises(EmbedderError, match=r"model nope\) is not served there: the server has 'tiny'"),
    ):
        _ = embedder.spec


def test_of_several_models_one_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from multimodal_search.embedders.http.client import HttpClient
    from multimodal_search.embedders.http.served import ServedModel

    two = [ServedModel("one", None), ServedModel("two", None)]
    monkeypatch.setattr(HttpClient, "models", lambda self: two)
    with (
        HttpEmbedder.vllm("http://127.0.0.1:1") as embedder,
        pytest.raises(ConfigurationError, match="serves 'one', 'two': name one of them with model="),
    ):
        _ = embedder.spec


def test_a_mixture_is_refused_where_the_dialect_has_no_words_for_it() -> None:
    with (
        InfinityServer() as server,
        embedder_of(server, "infinity") as embedder,
        pytest.raises(UnsupportedContentError, match="embeds image, text, not mixed"),
    ):
        embedder.embed([Mixed("a", Image(PNG))], role="query")
    with (
        JinaServer() as server,
        embedder_of(server, "jina") as embedder,
        pytest.raises(UnsupportedContentError, match="one text and one image"),
    ):
        embedder.prepare(Mixed("a", "b", Image(PNG)))


# -- settings and keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "variable", "url"),
    [
        (HttpEmbedder.cohere, "COHERE_API_KEY", "https://api.cohere.com"),
        (HttpEmbedder.cohere, "CO_API_KEY", "https://api.cohere.com"),
        (HttpEmbedder.voyage, "VOYAGE_API_KEY", "https://api.voyageai.com"),
        (HttpEmbedder.jina, "JINA_API_KEY", "https://api.jina.ai"),
    ],
)
def test_a_vendors_key_comes_from_its_variable(
    monkeypatch: pytest.MonkeyPatch, make: Any, variable: str, url: str
) -> None:
    """Where servers and notebooks keep them."""
    with pytest.raises(ConfigurationError, match=r"set the environment variable \w+_API_KEY to an API key"):
        make()
    monkeypatch.setenv(variable, "a-secret-key\n")
    embedder = make()
    assert "a-secret-key" not in repr(embedder)
    assert f"{url!r}" in repr(embedder)
    assert "api_key='***'" in repr(embedder)
    assert embedder._key == "a-secret-key"
    assert make(api_key="another")._key == "another"


@pytest.mark.parametrize("dialect", ["cohere", "voyage", "jina"])
def test_a_vendors_key_is_sent_to_nobody_else(monkeypatch: pytest.MonkeyPatch, dialect: Any) -> None:
    """VLLM speaks Cohere's dialect, and anybody may."""
    for name in ("COHERE_API_KEY", "CO_API_KEY", "VOYAGE_API_KEY", "JINA_API_KEY"):
        monkeypatch.setenv(name, "a-secret-key")
    vendor = DIALECTS[dialect].vendor
    for url in (
        "https://example.org",
        vendor.replace("https", "http"),
        vendor + ".example.org",
        vendor + ":8443",
    ):
        assert HttpEmbedder(url, "tiny", dialect=dialect)._key == ""
    assert HttpEmbedder(vendor.upper().replace("HTTPS", "https"), "tiny", dialect=dialect)._key == "a-secret-key"


@pytest.mark.parametrize(
    ("make", "variable"), [(HttpEmbedder.vllm, "VLLM_API_KEY"), (HttpEmbedder.infinity, "INFINITY_API_KEY")]
)
def test_ones_own_servers_have_variables_of_their_own(
    monkeypatch: pytest.MonkeyPatch, make: Any, variable: str
) -> None:
    assert make("http://localhost:8000")._key == ""
    monkeypatch.setenv(variable, "a-secret-key")
    assert make("http://localhost:8000")._key == "a-secret-key"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dialect": "openai"}, "dialect must be one of cohere, openai-chat, infinity, jina, voyage, not 'openai'"),
        ({"model": " "}, "model must be a name"),
        ({"model": None, "dialect": "voyage"}, "model must be named"),
        ({"model": None, "url": "https://api.cohere.com"}, "model must be named: https://api.cohere.com does not say"),
        ({"url": "SECRET"}, "url must be the address of the API"),
        ({"url": "https://user:SECRET@example.org"}, "without a user name or password"),
        ({"api_key": "SECRET SECRET"}, "api_key holds blanks"),
        ({"api_key": ""}, "api_key is empty"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 1.5}, "dimensions"),
        ({"known_dimension": 0}, "known_dimension must be a whole number"),
        ({"known_dimension": 8, "dimensions": 4}, "not both"),
        ({"image_size": 16}, "image_size must be a whole number of pixels from 32 to 8,192"),
        ({"max_batch_size": 97}, "max_batch_size must be from 1 to 96, the service's own limit"),
        ({"dialect": "openai-chat", "max_batch_size": 2}, "max_batch_size must be from 1 to 1"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"retries": -1}, "retries"),
        ({"prompts": {"queries": "a"}}, "prompts maps the roles"),
        ({"prompts": {"query": ""}}, "prompts maps the roles"),
        ({"prompts": "query"}, "prompts maps the roles"),
        ({"dialect": "infinity", "prompts": {"query": "a"}}, "infinity knows no roles"),
        ({"dialect": "infinity", "modalities": ["mixed"]}, "modalities are some of image, text, not"),
        ({"modalities": "text"}, "modalities are some of"),
        ({"modalities": []}, "modalities are some of"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], says: str) -> None:
    """At once, and not by a 400 an hour later."""
    given = {"url": "https://a.example", "model": "tiny", "dialect": "cohere", "api_key": "k"} | settings
    with pytest.raises(ConfigurationError, match=says) as caught:
        HttpEmbedder(**given)
    assert "SECRET" not in shown(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("https_proxy", "socks5://someone:SECRET@127.0.0.1:1080", "not the address of an HTTP proxy"),
        ("https_proxy", "http://someone:SECRET@127.0.0.1:port", "not the address of an HTTP proxy"),
        ("REQUESTS_CA_BUNDLE", "/no/such/file.pem", "'/no/such/file.pem', which holds no certificates"),
        ("REQUESTS_CA_BUNDLE", __file__, "which holds no certificates"),
    ],
)
def test_an_environment_that_makes_no_sense_is_told(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    """It was set for other programs, years ago."""
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("no_proxy", "")
    with (
        HttpEmbedder("https://inference.example.org", "tiny", dialect="cohere") as embedder,
        pytest.raises(ConfigurationError, match=says) as caught,
    ):
        embedder.embed([Text("a")], role="query")
    assert "SECRET" not in shown(caught.value)


def test_it_is_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the shell, and for worker processes that make their own."""
    with pytest.raises(ConfigurationError, match="set the environment variable HTTP_EMBEDDER_URL"):
        load_embedder("http")
    monkeypatch.setenv("INFINITY_API_KEY", "aa-test-token/with+signs==")
    with InfinityServer() as server:
        ref = EmbedderRef("http", url=server.url, dialect="infinity", dimensions=8)
        with closing(ref.load()) as embedder:  # type: ignore[type-var]
            assert embedder.spec.fingerprint == "http/infinity/tiny/8/plain/fit768-1"
        monkeypatch.setenv("HTTP_EMBEDDER_URL", server.url)
        with pytest.raises(ConfigurationError, match="HTTP_EMBEDDER_DIALECT"):
            load_embedder("http")
        monkeypatch.setenv("HTTP_EMBEDDER_DIALECT", "infinity")
        monkeypatch.setenv("HTTP_EMBEDDER_MODEL", "tiny")
        with closing(load_embedder("http", dimensions=16)) as embedder:  # type: ignore[type-var]
            assert embedder.spec.dimension == 16


def test_it_can_be_made_again_from_what_can_be_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index keeps it, and opens with it; the key comes from the environment."""
    settings: dict[str, Any] = {"dimensions": 8, "prompts": {"query": "q"}, "modalities": ["text"], "image_size": 64}
    made = HttpEmbedder("https://api.cohere.com", "tiny", dialect="cohere", api_key="a-secret-key", **settings)
    assert "a-secret-key" not in repr(made.ref)
    monkeypatch.setenv("COHERE_API_KEY", "another")
    again = pickle.loads(pickle.dumps(made.ref)).load()
    assert again.spec == made.spec
    assert again.ref == made.ref
    assert HttpEmbedder.vllm("http://localhost:1").ref == EmbedderRef(
        "http", url="http://localhost:1", model=None, dialect="cohere", prompts={}
    )


def test_nothing_heavy_is_loaded_before_the_first_use() -> None:
    """A search by another embedder must not pay for it."""
    script = (
        "import sys\n"
        "from multimodal_search import HttpEmbedder\n"
        "embedder = HttpEmbedder('https://a.example', 'tiny', dialect='voyage', dimensions=8)\n"
        "repr(embedder), embedder.spec, embedder.close()\n"
        "assert not {'urllib3', 'requests', 'httpx', 'aleph_alpha_client'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("kind", SERVERS)
def test_words_find_images_in_an_index(kind: str) -> None:
    """The whole point."""
    with (
        SERVERS[kind]() as server,
        embedder_of(server, kind) as embedder,
        MultimodalIndex(embedder, MemoryStore()) as index,
    ):
        report = index.add([Image(square(colour), name=name) for name, colour in (("red", RED), ("blue", BLUE))])
        assert report.added == 2
        assert index.search("red", limit=1)[0].id == index.search(Image(square(RED, 50)), limit=1)[0].id
