"""No message, repr or log shows a password, a token or a part of one, whoever wrote the words."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from multimodal_search import (
    AlephAlphaEmbedder,
    ColorEmbedder,
    ConfigurationError,
    EmbedderAuthError,
    EmbedderError,
    EmbedderUnavailableError,
    Image,
    IndexingInterrupted,
    IndexReport,
    MemoryStore,
    MissingExtraError,
    MultimodalIndex,
    MultimodalSearchError,
    QdrantStore,
    SearchResults,
    StoreError,
    StoreUnavailableError,
    Text,
    UnreadableContentError,
)
from multimodal_search._secrets import shown_address, without_secrets

TOKEN = "secret-token-123"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:secret@host/path", "https://host/path"),
        ("https://me:s@cret@host:8/path", "https://host:8/path"),
        ("https://token@host", "https://host"),
        ("https://me:sec/ret@host/path", "https://host/path"),
        ("https://me:sec#ret@host/path", "https://host/path"),
        ("https://me:sec?ret@host/path", "https://host/path"),
        ("https://me:s@c.ret/more@host/path", "https://host/path"),
        ("https://me:12/34@host/path", "https://host/path"),
        ("https://me%3Asecret@host/path", "https://host/path"),
        ("ftp://me:secret@host/path", "ftp://host/path"),
        ("http:/me:secret@host/path", "http:/host/path"),
        (" https://me:secret@host", "https://host"),
        ("//me:secret@host/path", "host/path"),
        ("me:secret@host/path", "host/path"),
        ("https://host/path?token=abc&x&=y", "https://host/path?token=***&***&***"),
        ("https://host/path#access_token=abc", "https://host/path"),
        ("https://host.example/a@2x.jpg", "https://host.example/a@2x.jpg"),
        ("http://localhost:6333/prefix", "http://localhost:6333/prefix"),
        ("http://[::1]:6333", "http://[::1]:6333"),
        ("https://me:secr", "https://me:***"),  # cut off before the host
        ("https://me:12secr", "https://me:***"),
    ],
)
def test_an_address_is_shown_without_what_is_secret_in_it(address: str, shown: str) -> None:
    """Also where a password holds what ends an address's first part, as generated ones do."""
    assert shown_address(address) == shown


@pytest.mark.parametrize(
    "said",
    [
        "secret-token-123",
        "secret-tok\u200ben-123",
        "secret-\u2060token-\ufeff123",
        "secret-\n  token-123",
        "secret-token-1",  # cut off
        r"secret-tok\u200ben-123",
        r"\u0073ecret\u002dtoken-123",
        "secret%2Dtoken%2d123",
        "secret%2dtok%E2%80%8Ben-123",
        "&#115;ecret-token&#x2d;123",
        "\uff53ecret-token-123",
    ],
)
def test_a_token_is_found_however_it_is_written(said: str) -> None:
    """Gateways quote headers as JSON, as HTML, and in lines of their own length."""
    assert without_secrets(f"the token '{said}' is not known", TOKEN) == "the token '***' is not known"


@pytest.mark.parametrize("end", ["", ")", "): not found", ", and", ".", "'", "))"])
def test_what_stands_behind_an_address_stays(end: str) -> None:
    """As the name of a failed image, which ends in its address."""
    text = f"item 0 (http://me:secret@host:8/a.jpg?sig=abc{end}"
    shown = f"item 0 (http://host:8/a.jpg?sig=***{end}"
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown


def test_what_is_no_secret_stays() -> None:
    text = "the secret of tokens, 123, see https://docs.example/errors/401"
    assert without_secrets(text, TOKEN, "", None) == text
    assert without_secrets("an abcde and an ab cde", "abcde") == "an *** and an ab cde"


def said_by(error: BaseException | None) -> str:
    """All that any tool could print of an error and of what hangs on it."""
    said = ""
    while error is not None:
        said += f"{error} {error!r} {error.args!r}"
        error = error.__cause__ or error.__context__
    return said


@pytest.mark.parametrize(
    "address",
    [
        "ftp://bob:hunter2@example.org/x.jpg",
        "http:/bob:hunter2@example.org/x.jpg",
        "bob:hunter2@example.org/x.jpg",
        " https://bob:hunter2@example.org/x.jpg",
        "https://bob:hunter2/more@example.org/x.jpg",
        "https://bob:hunter2#more@example.org/x.jpg",
        "https://bob:hunter2?more@example.org/x.jpg",
        "https://hunter2#more@example.org/x.jpg",
        "https://bob:hunter2@[example.org/x.jpg",
        "https://bob:hunter2@exa\u2100mple.org/x.jpg",
        "https://bob:hunter2@127.0.0.1:1/x.jpg",
        "https://bob:hunter2@127.0.0.1:99999/x.jpg",
        "https://127.0.0.1:1/x.jpg?token=hunter2",
        "https://127.0.0.1:1/x.jpg#hunter2",
    ],
)
def test_no_password_of_an_image_address_is_shown(address: str) -> None:
    index = MultimodalIndex(ColorEmbedder(), MemoryStore())
    with pytest.raises(MultimodalSearchError) as caught:
        index.search(Image.from_url(address, allow_private=True))
    assert "hunter2" not in said_by(caught.value)
    if ":/" not in address:
        return
    for wrong in (Image(address), Image(b"", name=address)):  # a str is a path; a name is anybody's
        assert "hunter2" not in repr(wrong)
        report = index.add([wrong])
        assert report.failed
        assert "hunter2" not in f"{report} {report!r}"


def test_no_password_of_an_address_is_shown_where_a_path_is_expected(tmp_path: Path) -> None:
    """And no folder is made of it."""
    address = "https://bob:hunter2@example.org/x"
    index = MultimodalIndex(ColorEmbedder(), MemoryStore())
    for call in (
        index.add_images,
        index.sync_folder,
        index.export,
        index.add_export,
        lambda path: MultimodalIndex.open(path, embedder=ColorEmbedder()),
        lambda path: QdrantStore("a", path=path),
        SearchResults([], "q").to_html,
    ):
        with pytest.raises(ConfigurationError) as caught:
            call(address)
        assert "hunter2" not in said_by(caught.value)
    assert "hunter2" not in f"{index.add_images([address])!r}"


def test_no_error_shows_a_password_whatever_it_quotes(tmp_path: Path) -> None:
    """As an address that is given for a setting of another kind."""
    address = "https://bob:hunter2@example.org/x"
    index = MultimodalIndex(ColorEmbedder(), MemoryStore())
    calls: list[Callable[[], object]] = [
        lambda: index.get(address),
        lambda: index.delete(address),
        lambda: index.similar(address),
        lambda: index.sync_folder(tmp_path, root=address),
        lambda: index.sync_folder(tmp_path, pattern=address),
        lambda: index.search(Text(address)),
        lambda: index.search("red", where={address: {"gte": address}}),
        lambda: index.search(Image(address)),
        lambda: QdrantStore("a", location=address),
        lambda: QdrantStore("a", location="bob:hunter2@example.org"),
        lambda: QdrantStore("a", url="http://localhost", timeout_s=address),  # type: ignore[arg-type]
        lambda: MultimodalIndex(address, MemoryStore()),  # type: ignore[arg-type]
        lambda: MultimodalIndex(ColorEmbedder(), address),  # type: ignore[arg-type]
        lambda: index.add_texts(address),
    ]
    for call in calls:
        with pytest.raises((MultimodalSearchError, TypeError)) as caught:
            call()
        assert "hunter2" not in said_by(caught.value)
        assert b"hunter2" not in pickle.dumps(caught.value)


def test_an_error_of_several_builtin_kinds_shows_none_either() -> None:
    """Their own constructors, as that of OSError, see the message first."""
    for kind in (EmbedderAuthError, EmbedderUnavailableError, StoreUnavailableError, MissingExtraError):
        said = said_by(kind("no answer from http://bob:hunter2@h/?key=hunter2"))
        assert "http://h/?key=***" in said
        assert "hunter2" not in said
    assert "hunter2" not in said_by(IndexingInterrupted("http://bob:hunter2@h", report=IndexReport()))


def test_an_address_that_is_taken_for_a_path_says_how_to_fetch_it() -> None:
    with pytest.raises(UnreadableContentError, match=r"an address, not a path: .* Image\.from_url") as caught:
        MultimodalIndex(ColorEmbedder(), MemoryStore()).search(Image("https://bob:hunter2@example.org/x.jpg"))
    assert "hunter2" not in said_by(caught.value)


@pytest.fixture
def answering() -> Iterator[Callable[[int, Callable[[str], bytes], dict[str, str]], str]]:
    """Starts a server that answers every request alike, with what is made of the token it was sent."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, body: Callable[[str], bytes], headers: dict[str, str]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as in the base class)
                pass

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                said = body(self.headers.get("Authorization") or self.headers.get("api-key") or "")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_PUT = do_POST  # noqa: N815 (as in the base class)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("between", ["", "\u200b", "\u200d", "\u00ad", " ", "\n", "\\u200b", "%E2%80%8B"])
def test_the_token_of_aleph_alpha_is_not_shown_when_it_comes_back(
    between: str, answering: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    host = answering(401, lambda sent: sent.replace("token", f"tok{between}en").encode(), {})
    with (
        caplog.at_level("DEBUG", "multimodal_search"),
        AlephAlphaEmbedder(host, TOKEN, retries=0) as embedder,
        pytest.raises(EmbedderError) as caught,
    ):
        embedder.embed([Text("a")], role="query")
    assert "***" in str(caught.value)
    assert "en-123" not in said_by(caught.value) + caplog.text


def test_the_target_of_a_redirect_is_shown_without_secrets(answering: Callable[..., str]) -> None:
    host = answering(302, lambda _: b"", {"Location": "https://bob:hunter2@elsewhere.example/?session=hunter3"})
    with AlephAlphaEmbedder(host, TOKEN) as embedder, pytest.raises(EmbedderError, match="redirects") as caught:
        embedder.embed([Text("a")], role="query")
    assert "elsewhere.example" in str(caught.value)
    assert "hunter" not in said_by(caught.value)


@pytest.mark.parametrize(
    "proxy", ["http://bob:hunter2@127.0.0.1:1", "http://bob:hunter2#x@127.0.0.1:1", "http://bob:hunter2/x@127.0.0.1:1"]
)
def test_the_password_of_a_proxy_is_not_shown(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with (
        AlephAlphaEmbedder("http://inference.example", TOKEN, retries=0) as embedder,
        pytest.raises(EmbedderError) as caught,
    ):
        embedder.embed([Text("a")], role="query")
    assert "hunter2" not in said_by(caught.value)


@pytest.mark.parametrize("host", ["https://bob:hunter2@h.example", "https://bob:hunter2#x@h.example", "bob:hunter2@h"])
def test_a_password_in_the_host_of_aleph_alpha_is_refused_and_not_shown(host: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AlephAlphaEmbedder(host, TOKEN)
    assert "hunter2" not in said_by(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://bob:hunter2#x@h.example", "http://bob:hunter2/x@h.example", "http://bob:hunter2@[h", "bob:hunter2@h"],
)
def test_an_address_of_qdrant_that_is_none_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="url must be the address of a server") as caught:
        QdrantStore("photos", url=url)
    assert "hunter2" not in said_by(caught.value)


def test_the_key_of_qdrant_hangs_on_no_error_that_redirects(answering: Callable[..., str]) -> None:
    """The client keeps the headers of the answer, which some tools report with all else."""
    url = answering(307, lambda _: b"", {"Location": f"http://elsewhere.example/?key={TOKEN}"})
    with pytest.raises(StoreError, match="does not come from a Qdrant server") as caught:
        MultimodalIndex(ColorEmbedder(), QdrantStore("photos", url=url, api_key=TOKEN))
    error: BaseException | None = caught.value
    while error is not None:
        assert TOKEN not in f"{error!r} {vars(error)!r}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("between", ["", "\u200b", "\n"])
def test_the_key_of_qdrant_is_not_shown_when_it_comes_back(between: str, answering: Callable[..., str]) -> None:
    """Nor on what hangs on the error: `from None` hides that from tracebacks, and not from tools that report errors."""
    url = answering(403, lambda sent: sent.replace("token", f"tok{between}en").encode(), {"X-Key": TOKEN})
    client = QdrantClient(url=url, headers={"api-key": TOKEN}, check_compatibility=False)
    client.init_options["api_key"] = TOKEN  # as if given so, which warns of the plain http
    for store in (QdrantStore("photos", url=url, api_key=TOKEN), QdrantStore("photos", client=client)):
        with pytest.raises(MultimodalSearchError) as caught:
            MultimodalIndex(ColorEmbedder(), store)
        assert "***" in str(caught.value)
        assert "en-123" not in said_by(caught.value)
    client.close()


def test_no_token_is_pickled() -> None:
    """A pickle is a file that others may read."""
    with pytest.raises(TypeError, match=r"AlephAlphaEmbedder\(host=\.\.\., token=\.\.\.\)"):
        pickle.dumps(AlephAlphaEmbedder("https://h.example", TOKEN))
