"""What embedders of services share, each against its strict local server: errors, retries, deadlines, secrecy."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty_server import TOKEN, Kind
from service_cases import SERVICES, Service, free_port, shown
from tiny_embedder import image
from urllib3.response import HTTPResponse

from multimodal_search import MemoryStore, MultimodalIndex, Record
from multimodal_search._relevance.reference_texts import REFERENCE_TEXTS
from multimodal_search.contents import Image, Text
from multimodal_search.embedders.limiter import ConcurrencyLimiter, backoff_s
from multimodal_search.embedders.service.answers import retry_after
from multimodal_search.embedders.service.exchanges import THREAD_NAME
from multimodal_search.errors import (
    ContentError,
    EmbedderAuthError,
    EmbedderError,
    EmbedderQuotaError,
    EmbedderResponseError,
    EmbedderUnavailableError,
)

A = [Text("a")]


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Service:
    return SERVICES[request.param]


@pytest.fixture(params=["aleph-alpha", "infinity"])
def one_of_each(request: pytest.FixtureRequest) -> Service:
    """For what takes seconds: one through the official client, one without."""
    return SERVICES[request.param]


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries after hundredths of a second, for tests that aren't about time."""
    monkeypatch.setattr("multimodal_search.embedders.limiter._FIRST_PAUSE_S", 0.02)


# -- what the service refuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "attempts"),
    [
        (302, EmbedderError, 1),
        (401, EmbedderAuthError, 1),
        (402, EmbedderQuotaError, 1),
        (403, EmbedderAuthError, 1),
        (404, EmbedderError, 1),
        (405, EmbedderError, 1),
        (408, EmbedderUnavailableError, 3),
        (418, EmbedderError, 1),
        (429, EmbedderUnavailableError, 3),
        (500, EmbedderUnavailableError, 3),
        (502, EmbedderUnavailableError, 3),
        (503, EmbedderUnavailableError, 3),
        (504, EmbedderUnavailableError, 3),
    ],
)
@pytest.mark.usefixtures("short_pauses")
def test_each_status_gives_its_error(service: Service, status: int, kind: type[Exception], attempts: int) -> None:
    """Trouble that stays stops at once, trouble that may pass is retried; all name address, model and what was said.

    The answer holds the token, as debugging proxies do: no text of the whole chain of errors may.
    """
    with service.server() as server, service.embedder(server, timeout_s=20, retries=2) as embedder:
        _ = embedder.prepare(A[0])  # infinity is asked what it serves
        headers = {"Location": f"http://x.example/{TOKEN}"}
        server.answer_with(status, "<p>Because\n of {authorization}</p>", headers=headers)
        with pytest.raises((EmbedderError, ContentError)) as caught:
            embedder.embed(A, role="query")
        assert type(caught.value) is kind
        assert len(server.requests) == attempts
        message = str(caught.value)
        assert server.url in message
        assert ("luminous-base" if service.name == "aleph-alpha" else "tiny") in message or service.name == "infinity"
        assert str(status) in message
        assert "***" in message
        assert TOKEN not in shown(caught.value)


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("body", ["{authorization}", '{{"said": "{authorization}"}}', "x" * 190 + " {authorization}"])
def test_a_token_is_masked_before_the_text_is_cut(service: Service, body: str) -> None:
    """Half a token is a secret too."""
    with service.server() as server, service.embedder(server) as embedder:
        server.answer_with(401, body)
        with pytest.raises(EmbedderAuthError) as caught:
            embedder.embed(A, role="query")
    assert TOKEN[:8] not in shown(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "body",
    [
        '{"detail":[{"type":"too_long","loc":["body","input"],"msg":"List too long","input":["my secret words"]}]}',
        "{\"error\":{\"message\":\"[{'type': 'missing', 'input': {'a': 'my secret words'}}]\"}}",
        "1 validation error: Field required [type=missing, input_value={'a': 'my secret words'}, input_type=dict]",
        '{"message":"cannot read data:image/png;base64,mysecretwordsmysecretwords=="}',
    ],
    ids=["infinity", "vllm", "pydantic", "data URI"],
)
def test_what_an_answer_repeats_of_the_request_is_not_shown(service: Service, body: str) -> None:
    """FastAPI's refusals hold the whole input; images in base64 and private texts do not belong in logs."""
    with service.server() as server, service.embedder(server) as embedder:
        server.answer_with(422, body)
        with pytest.raises(EmbedderError, match="422") as caught:
            embedder.embed(A, role="document")
    assert "secret" not in shown(caught.value)


def test_one_bad_content_fails_its_request_as_a_content(service: Service) -> None:
    """The index halves batches on `ContentError` until the culprit stands alone, and shows its name."""
    with service.server() as server, service.embedder(server) as embedder:
        server.bad_prompts.add("evil")
        with pytest.raises(ContentError, match="'evil'"):
            embedder.embed([Text("evil")], role="document")
        many = embedder.spec.max_batch_size > 1
        if many:
            with pytest.raises(ContentError, match="one of 2 contents"):
                embedder.embed([Text("good"), Text("evil")], role="document")
        assert embedder.embed([Text("good")], role="document").shape == (1, embedder.spec.dimension)


def test_a_wrong_token_is_an_auth_error(service: Service) -> None:
    """The commonest mistake of all."""
    with (
        service.server() as server,
        service.embedder(server, key="other-token") as embedder,
        pytest.raises(EmbedderAuthError, match=r"refuses the (token|api_key)") as caught,
    ):
        embedder.embed(A, role="query")
    assert "other-token" not in shown(caught.value)


def test_a_redirect_never_takes_the_token_elsewhere(service: Service) -> None:
    """307 would send images and token to another host; 302 would turn POST into GET."""
    with service.server() as other, service.server() as server, service.embedder(server) as embedder:
        for status in (301, 302, 307, 308):
            server.behave()
            server.answer_with(status, headers={"Location": f"{other.url}/embed"})
            with pytest.raises(EmbedderError, match=rf"redirects.*{other.url}.*as (host|url)"):
                embedder.embed(A, role="query")
        assert other.requests == []
        assert len(server.requests) == 4


# -- what is no answer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("<html><title>Login</title></html>", "Login"),
        ("", "begins with ''"),
        ('{"data": [{"embedding": [1', "not with the JSON"),
        ("[1, 2]", "not with the JSON"),
        ("null", "not with the JSON"),
        ('{"model": "tiny"}', "without the field"),
        ('{"data": null, "embeddings": {"float": null}}', "not with the JSON|without the field"),
        ("[" * 100_000, "not with the JSON"),
    ],
    ids=["html", "empty", "half", "list", "null", "field missing", "field null", "deep"],
)
def test_anything_else_than_an_embedding_is_a_response_error(service: Service, body: str, says: str) -> None:
    """A login page with status 200, for one. It stays, so it isn't retried."""
    with service.server() as server, service.embedder(server) as embedder:
        server.answer_with(200, body)
        with pytest.raises(EmbedderResponseError, match=says) as caught:
            embedder.embed(A, role="query")
        assert "path" in str(caught.value)
        assert caught.value.__context__ is None
        assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["one_too_few", "one_too_many", "ragged", "not_numbers", "nan", "infinity"])
def test_wrong_vectors_never_come_out(service: Service, kind: Kind) -> None:
    """In a store they spoil searches silently."""
    with service.server() as server, service.embedder(server) as embedder:
        count = min(3, embedder.spec.max_batch_size)
        server.misbehave(kind)
        before = len(server.requests)
        with pytest.raises(EmbedderResponseError):
            embedder.embed([Text(f"text {number}") for number in range(count)], role="document")
        assert len(server.requests) == before + 1


# -- trouble that passes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reset", "cut", "cut_chunked"])
@pytest.mark.usefixtures("short_pauses")
def test_a_broken_connection_is_tried_again(service: Service, kind: Kind) -> None:
    """Load balancers drop connections every day; half an answer is no answer."""
    with service.server() as server, service.embedder(server, retries=2) as embedder:
        server.misbehave(kind, times=2)
        assert embedder.embed(A, role="query").shape == (1, server_dimension(server))
        assert len(server.requests) == 3
        server.misbehave(kind)
        with pytest.raises(EmbedderUnavailableError, match="gave no complete answer after 3 attempts") as caught:
            embedder.embed(A, role="query")
        assert ("reset" if kind == "reset" else "broke off") in str(caught.value)
        assert TOKEN not in shown(caught.value)


def server_dimension(server: Any) -> int:
    return getattr(server, "dimension", 128)


@pytest.mark.usefixtures("short_pauses")
def test_retry_after_is_honoured(service: Service) -> None:
    """Coming back earlier makes a service that is busy busier."""
    with service.server() as server, service.embedder(server) as embedder:
        server.answer_with(429, "slow down", headers={"Retry-After": "1"}, times=1)
        began = time.monotonic()
        embedder.embed(A, role="query")
        assert time.monotonic() - began >= 1.0


@pytest.mark.usefixtures("short_pauses")
def test_retry_after_may_be_a_date_on_the_servers_clock(one_of_each: Service) -> None:
    """A date by a clock that is an hour ahead must not mean an hour's wait."""
    with one_of_each.server() as server, one_of_each.embedder(server) as embedder:
        ahead = time.time() + 3600
        headers = {"Date": formatdate(ahead, usegmt=True), "Retry-After": formatdate(ahead + 1, usegmt=True)}
        server.answer_with(503, headers=headers, times=1)
        began = time.monotonic()
        embedder.embed(A, role="query")
        assert 1.0 <= time.monotonic() - began < 60


def test_a_wait_past_the_deadline_is_not_begun(service: Service) -> None:
    """The caller learns at once what the service asks for, and can decide."""
    with service.server() as server, service.embedder(server, timeout_s=20) as embedder:
        server.answer_with(429, headers={"Retry-After": "3600"})
        began = time.monotonic()
        with pytest.raises(EmbedderUnavailableError) as caught:
            embedder.embed(A, role="query")
        assert caught.value.retry_after_s == 3600
        assert time.monotonic() - began < 10
        assert len(server.requests) == 1


def test_no_retries_means_one_attempt(service: Service) -> None:
    """For callers with a retry loop of their own."""
    with service.server() as server, service.embedder(server, retries=0) as embedder:
        server.queue_full()
        with pytest.raises(EmbedderUnavailableError, match="after 1 attempt "):
            embedder.embed(A, role="query")
        assert len(server.requests) == 1


def test_pauses_grow_and_differ(one_of_each: Service) -> None:
    """0.5 s and 1 s, less up to half: doubling spares the service, chance keeps callers from coming back together."""
    with one_of_each.server() as server, one_of_each.embedder(server, retries=2) as embedder:
        server.queue_full()
        began = time.monotonic()
        with pytest.raises(EmbedderUnavailableError):
            embedder.embed(A, role="query")
        assert 0.75 <= time.monotonic() - began < 5


@pytest.mark.parametrize("kind", ["hang", "drip", "drip_headers"])
def test_the_deadline_holds_whatever_the_server_does(one_of_each: Service, kind: Kind) -> None:
    """The time-out of a socket starts anew with every byte; a whole call must end when it was said to end."""
    with one_of_each.server() as server, one_of_each.embedder(server, timeout_s=0.6) as embedder:
        embedder.prepare(A[0])
        server.misbehave(kind)
        began = time.monotonic()
        with pytest.raises(EmbedderUnavailableError, match="timed out"):
            embedder.embed(A, role="query")
        assert 0.5 < time.monotonic() - began < 5


def test_a_dead_host_is_told_soon(one_of_each: Service) -> None:
    """The official client of Aleph Alpha takes 64 seconds to say that the address is wrong."""
    host = f"http://127.0.0.1:{free_port()}"
    with one_of_each.server() as server, one_of_each.embedder(server, url=host) as embedder:
        began = time.monotonic()
        with pytest.raises(EmbedderUnavailableError, match=r"cannot be reached after 3 attempts .*refused") as caught:
            embedder.embed(A, role="query")
        assert time.monotonic() - began < 10
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert TOKEN not in shown(caught.value)


def test_an_unknown_name_is_told_soon(one_of_each: Service) -> None:
    """A typing error in the address."""
    url = "https://no-such-host.invalid"
    with one_of_each.server() as server, one_of_each.embedder(server, url=url, timeout_s=10) as embedder:
        began = time.monotonic()
        with pytest.raises(EmbedderUnavailableError, match=r"no-such-host\.invalid"):
            embedder.embed(A, role="query")
        assert time.monotonic() - began < 15


def certificate_for(name: str, folder: Path) -> tuple[str, str]:
    """Files of a certificate of its own authority, and of its key."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", f"subjectAltName={name}", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the openssl program to make a certificate")
    return str(certificate), str(key)


def test_a_certificate_that_is_not_trusted_is_not_retried(
    one_of_each: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On-premise installations often have an authority of their own: say how to name it."""
    certificate = certificate_for("IP:127.0.0.1", tmp_path)
    with one_of_each.server(certificate=certificate) as server:
        with (
            one_of_each.embedder(server) as embedder,
            pytest.raises(EmbedderError, match="REQUESTS_CA_BUNDLE") as caught,
        ):
            embedder.embed(A, role="query")
        assert type(caught.value) is EmbedderError
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate[0])
        with one_of_each.embedder(server) as embedder:
            assert len(embedder.embed(A, role="query")) == 1


def test_a_certificate_of_another_host_is_refused(
    one_of_each: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key must not go to whoever answers in a host's place."""
    certificate = certificate_for("DNS:elsewhere.example", tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate[0])
    with (
        one_of_each.server(certificate=certificate) as server,
        one_of_each.embedder(server, retries=0) as embedder,
        pytest.raises(EmbedderError, match=r"127\.0\.0\.1"),
    ):
        embedder.embed(A, role="query")
    assert server.requests == []


# -- many threads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aleph-alpha", "cohere"])
def test_the_client_is_loaded_beside_the_first_images(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes up to a second, in which images can be decoded."""
    with SERVICES[name].server() as server, SERVICES[name].embedder(server) as embedder:
        embedder.prepare(Text("a"))
        connected = threading.Event()
        connect = embedder._connected

        def connecting() -> Any:
            assert threading.current_thread() is not threading.main_thread()
            service = connect()
            connected.set()
            return service

        monkeypatch.setattr(embedder, "_connected", connecting)
        for number in range(3):
            embedder.prepare(Image(image(number)))
        assert connected.wait(30)
        monkeypatch.undo()
        assert embedder.embed([Image(image(0))], role="document").shape[0] == 1


def test_as_many_requests_are_in_flight_as_allowed_and_no_more(service: Service) -> None:
    """The speed of indexing is the number of requests in flight; past the limit a service refuses."""
    with (
        service.server(latency_s=0.1) as server,
        service.embedder(server, max_concurrency=8) as embedder,
        ThreadPoolExecutor(24) as threads,
    ):
        list(threads.map(lambda _: embedder.embed(A, role="query"), range(48)))
        assert server.most_in_flight == 8


def test_a_calibration_through_an_api_sends_its_requests_side_by_side(one_of_each: Service) -> None:
    """Sixteen requests one after the other take sixteen times as long as one."""
    with (
        one_of_each.server(latency_s=0.3) as server,
        one_of_each.embedder(server, max_batch_size=8, max_concurrency=4) as embedder,
        MultimodalIndex(embedder, MemoryStore()) as index,
    ):
        rows = np.random.default_rng(0).standard_normal((30, embedder.spec.dimension)).astype(np.float32)
        index.add_vectors([Record(at, {"modality": "image"}, vector=row) for at, row in enumerate(rows)])
        assert 1 < server.most_in_flight <= 4
        assert len(server.requests) >= len(REFERENCE_TEXTS) / 8
        assert index.search("a dog").verdict is not None


@pytest.mark.usefixtures("short_pauses")
def test_the_number_in_flight_adapts_to_what_the_service_takes(service: Service) -> None:
    """429 for too many in parallel is no reason to fail: fewer at once, and all get through."""
    with (
        service.server(latency_s=0.02, max_in_flight=3) as server,
        service.embedder(server, max_concurrency=16) as embedder,
        ThreadPoolExecutor(16) as threads,
    ):
        texts = [f"text {number}" for number in range(96)]
        rows = list(threads.map(lambda text: embedder.embed([Text(text)], role="document")[0], texts))
        refused = len(server.requests) - len(texts)
        server.max_in_flight, server.latency_s = None, 0.0
        expected = [embedder.embed([Text(text)], role="document")[0] for text in texts]
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert 0 < refused < len(texts)


def test_answers_do_not_get_mixed_up_between_threads(service: Service) -> None:
    """Each caller gets its own rows, also while others fail."""
    texts = [f"word{number} {colour}" for number in range(30) for colour in ("red", "sea", "snow")]
    with service.server() as server, service.embedder(server) as embedder, ThreadPoolExecutor(12) as threads:
        alone = [embedder.embed([Text(text)], role="query")[0] for text in texts[::9]]
        server.misbehave("reset", at=range(20, 60, 7))
        rows = list(threads.map(lambda text: embedder.embed([Text(text)], role="query")[0], texts))
    np.testing.assert_allclose(rows[::9], alone, atol=1e-6)


@pytest.mark.parametrize(
    ("attempts", "most_s"), [(1, 0.5), (2, 1.0), (6, 16.0), (7, 30.0), (1_025, 30.0), (10**9, 30.0)]
)
def test_pauses_end_at_half_a_minute_however_many_there_were(attempts: int, most_s: float) -> None:
    assert most_s / 2 <= backoff_s(attempts) <= most_s


def test_the_limit_halves_once_for_requests_sent_together() -> None:
    """Thirty refusals at once are one sign of overload, not thirty."""
    limiter = ConcurrencyLimiter(8)
    sent_at = time.monotonic()
    for _ in range(5):
        limiter.on_overload(since=sent_at)
    far = time.monotonic() + 5

    def free_places() -> int:
        turns = []
        soon = time.monotonic() + 0.02
        try:
            while True:
                turns.append(limiter.slot(soon))
                turns[-1].__enter__()
                if time.monotonic() >= soon:
                    return len(turns) - 1
        finally:
            for slot in turns:
                slot.__exit__(None, None, None)

    assert free_places() == 4
    for _ in range(4):  # one round of successes
        with limiter.slot(far):
            pass
        limiter.on_success()
    assert free_places() == 4  # 4 + 1/4 + 1/4.25 + ... is just short of 5
    limiter.on_success()
    assert free_places() == 5
    for _ in range(50):
        limiter.on_success()
    assert free_places() == 8


# -- interrupting and closing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "interrupt"])
@pytest.mark.parametrize("waiting", ["back-off", "hang"])
def test_a_call_under_way_can_be_ended(service: Service, waiting: str, end: str) -> None:
    """An application that shuts down, or gets Ctrl-C, must not wait for a service that is out of order."""
    with service.server() as server, service.embedder(server) as embedder, ThreadPoolExecutor(1) as threads:
        embedder.prepare(A[0])
        if waiting == "hang":
            server.misbehave("hang")
        else:
            server.answer_with(503, headers={"Retry-After": "30"})
        call = threads.submit(embedder.embed, A, role="query")
        while not server.requests:
            time.sleep(0.01)
        time.sleep(0.1)
        began = time.monotonic()
        getattr(embedder, end)()
        error = call.exception(timeout=10)
        assert time.monotonic() - began < 5
        assert type(error) is EmbedderError
        assert ("closed" if end == "close" else "interrupted") in str(error)
        if end == "interrupt":
            server.behave()
            assert len(embedder.embed(A, role="query")) == 1


def test_a_closed_embedder_says_so(service: Service) -> None:
    """Closing twice, or before the first use, is fine; using it afterwards is a mistake."""
    with service.server() as server:
        for used in (False, True):
            embedder = service.embedder(server)
            if used:
                embedder.embed(A, role="query")
            embedder.close()
            embedder.close()
            with pytest.raises(EmbedderError, match="closed"):
                embedder.embed(A, role="query")


def test_a_hanging_request_does_not_keep_the_program_from_ending(one_of_each: Service) -> None:
    """A script that gives up must end."""
    with one_of_each.server(token="t") as server:
        server.misbehave("hang")
        kind = type(one_of_each.embedder(server)).__name__
        model = "luminous-base" if one_of_each.name == "aleph-alpha" else "tiny"
        key = "token" if one_of_each.name == "aleph-alpha" else "api_key"
        settings = {key: "t", "timeout_s": 2, **one_of_each.settings}
        script = (
            "import sys\n"
            f"from multimodal_search import {kind}, EmbedderUnavailableError, Text\n"
            "try:\n"
            f"    {kind}({server.url!r}, model={model!r}, **{settings!r}).embed([Text('a')], role='query')\n"
            "except EmbedderUnavailableError:\n"
            "    sys.exit(7)\n"
        )
        assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 7


def test_no_thread_is_left_behind(one_of_each: Service) -> None:
    """A service that embeds for months must not collect threads."""
    with one_of_each.server() as server, one_of_each.embedder(server, timeout_s=0.5) as embedder:
        # Before urllib3 2.1 a body can't be read as it arrives: that thread stays until the server is through.
        kinds: tuple[Kind, ...] = ("hang", "drip") if hasattr(HTTPResponse, "read1") else ("hang",)
        embedder.prepare(A[0])
        for kind in kinds:
            server.behave()
            server.misbehave(kind)
            with pytest.raises(EmbedderUnavailableError):
                embedder.embed(A, role="query")
        deadline = time.monotonic() + 10
        while any(thread.name == THREAD_NAME for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.02)


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_secrets_show_in_no_repr_and_no_log(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Logs are copied into bug reports."""
    caplog.set_level(logging.DEBUG)
    with service.server() as server, service.embedder(server) as embedder:
        server.answer_with(503, "{authorization}", times=1)
        embedder.embed(A, role="query")
        assert "='***'" in repr(embedder)
        assert "503" in caplog.text
        assert TOKEN not in repr(embedder) + str(embedder.spec) + caplog.text


def test_a_pickle_is_refused_in_words(service: Service) -> None:
    """It would carry the key to wherever it is written."""
    with (
        service.server() as server,
        service.embedder(server) as embedder,
        pytest.raises(TypeError, match=f"{type(embedder).__name__} cannot be pickled") as caught,
    ):
        pickle.dumps(embedder)
    assert TOKEN not in shown(caught.value)


def test_a_token_from_a_file_may_end_with_a_newline(service: Service) -> None:
    """`open("token").read()` brings one; some clients print the token then."""
    with service.server() as server, service.embedder(server, key=f" {TOKEN}\n") as embedder:
        assert len(embedder.embed(A, role="query")) == 1


def test_a_netrc_entry_does_not_replace_the_token(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`requests` prefers a password from netrc to any header: the client gets 401 for no visible reason."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password secret\ndefault login someone password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with service.server() as server, service.embedder(server) as embedder:
        embedder.embed(A, role="query")
        assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_a_proxy_of_the_environment_is_used_and_its_password_is_not_shown(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Firms have one, with a password in its address."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://someone:proxy-password@127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    url = "http://inference.example.org"
    with service.server() as server, service.embedder(server, url=url, retries=0) as embedder:
        with pytest.raises(EmbedderUnavailableError, match=r"cannot be reached.*refused") as caught:
            embedder.embed(A, role="query")
        assert server.requests == []
    assert "proxy-password" not in shown(caught.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 0.5 "}, 0.5),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:09 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 9.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:09 GMT", "Date": "today"}, None),
    ],
)
def test_retry_after_headers_are_read(headers: dict[str, str], seconds: float | None) -> None:
    """RFC 9110, section 10.2.3; what makes no sense counts as absent."""
    assert retry_after(headers) == seconds
