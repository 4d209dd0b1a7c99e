"""Hits as a page for a browser and as a piece of a notebook: what is in them, and that nothing foreign acts."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from multimodal_search._text import printable
from multimodal_search.errors import ConfigurationError
from multimodal_search.results import SearchHit, SearchResults

RED, BLUE = (220, 20, 20), (20, 20, 220)

NASTY = [
    "<script>document.title = 'owned'</script>.png",
    '"><img src=x onerror="document.title=1">.png',
    "' onmouseover='document.title=1' x='.png",
    "javascript:document.title=1.png",
    "</title></style></pre></svg><script>document.title=1</script>.png",
    "<!--.png",
    "]]>&lt;&#60;.png",
    "{{7*7}} ${7*7}.png",
    "x" * 5000 + ".png",
    "\u202egpj.exe",
    "nul\0 \x1b[31m.png",
    "surrogate\udcff.png",
    "תמונה מהים.png",
    "صورة.png",
    "👩‍👩‍👧 🏖.png",
    "line\nbreak.png",
]

TAGS = re.compile(
    "html|head|meta|title|style|body|main|div|h1|h2|p|b|bdi|span|ol|ul|li|img|svg|rect|details|summary|pre"
)
ATTRIBUTES = re.compile(
    "lang|charset|http-equiv|content|name|class|title|dir|alt|src|width|height|decoding|tabindex|role|aria-label|"
    "aria-hidden|focusable|viewbox|preserveaspectratio|fill|fill-opacity"
)


class Reader(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in ("meta", "img", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.words)

    def values(self, tag: str, name: str) -> list[str]:
        return [value for each, attribute, value in self.attributes if (each, attribute) == (tag, name)]

    @property
    def images(self) -> list[PIL.Image.Image]:
        found = []
        for source in self.values("img", "src"):
            kind, _, data = source.partition(";base64,")
            assert kind in ("data:image/jpeg", "data:image/png")
            found.append(PIL.Image.open(io.BytesIO(base64.b64decode(data, validate=True))))
        return found


def hit_of(root: Path, filename: str, *, score: float = 0.5, **fields: Any) -> SearchHit:
    known = {name: fields.pop(name) for name in ("relevance", "group", "duplicates") if name in fields}
    payload = {"filename": filename, "root": str(root), "modality": "image", **fields}
    return SearchHit(id=1, score=score, payload=payload, **known)


def text_hit(text: str, **known: Any) -> SearchHit:
    return SearchHit(id=7, score=0.4, payload={"modality": "text", "text": text}, **known)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With red.png, broken.jpg, and a photo that lies on its side in its file."""
    folder = tmp_path / "the secret place"
    folder.mkdir()
    PIL.Image.new("RGB", (300, 300), RED).save(folder / "red.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(noise).resize((2000, 1500)).save(folder / "phone.jpg", exif=exif)
    return folder


def test_a_page_holds_what_a_person_wants_to_see(folder: Path) -> None:
    hits = [
        hit_of(folder, "red.png", score=0.3124, relevance=0.979, caption="a red wall", year=2020),
        hit_of(folder, "broken.jpg"),
        hit_of(folder, "gone.jpg"),
        text_hit("A surfer rides a wave."),
    ]
    page = Reader(SearchResults(hits, "Surfing").to_html())
    assert page.open == []
    assert page.tags[0] == "html"
    assert page.values("html", "lang") == ["en"]
    for words in ("Surfing", "4 hits", "0.312", "97 %", "red.png", "a red wall", "A surfer rides a wave.", "id 7"):
        assert words in page.text
    assert "JPEG: damaged" in page.text
    assert "no such file" in page.text
    assert '"year": 2020' in page.text
    assert page.values("img", "alt") == ["a red wall"]
    [image] = page.images
    assert (image.size, image.convert("RGB").getpixel((150, 150))) == ((300, 300), RED)


def test_no_hits_is_a_page_too() -> None:
    """A report script writes whatever comes."""
    page = Reader(SearchResults([], "Surfing").to_html())
    assert "no hits" in page.text
    assert "Surfing" in page.text


def test_thumbnails_are_upright_keep_their_shape_and_are_small(folder: Path) -> None:
    """A photo of 3 megapixels becomes one that is sharp at 320 pixels on a screen with dense pixels."""
    text = SearchResults([hit_of(folder, "phone.jpg")], "x").to_html()
    [image] = Reader(text).images
    assert (image.format, image.size) == ("JPEG", (480, 640))
    assert len(text) < 300_000
    assert not image.getexif()


def test_the_page_allows_its_style_and_its_thumbnails_and_nothing_else(folder: Path) -> None:
    """Should a name ever get through unescaped, the browser still refuses to act on it."""
    text = SearchResults([hit_of(folder, "red.png")], "x").to_html()
    page = Reader(text)
    policy = page.values("meta", "content")[0]
    assert page.values("meta", "http-equiv") == ["Content-Security-Policy"]
    style = re.search(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert text.index("Content-Security-Policy") < text.index("<style>") < text.index("<body>")
    assert "url(" not in style[1]
    assert "@import" not in style[1]


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("render", ["to_html", "_repr_html_"])
def test_foreign_text_stays_text(tmp_path: Path, name: str, render: str) -> None:
    """Names, captions, fields, groups and queries come from other people's disks."""
    behind = tuple(hit_of(tmp_path, name) for _ in range(2))
    hits = [
        hit_of(tmp_path, name, caption=name, group=name, duplicates=behind, **{name: [name, {name: name}]}),
        hit_of(tmp_path, f"../{name}", group=name),
        text_hit(name),
    ]
    for query, shown in ((name, hits), (name, [replace(hit, group=None) for hit in hits]), (name, [])):
        text = getattr(SearchResults(shown, query), render)()
        page = Reader(text)
        assert page.open == []
        assert [tag for tag in page.tags if not TAGS.fullmatch(tag)] == []
        assert [name for _, name, _ in page.attributes if not ATTRIBUTES.fullmatch(name)] == []
        text.encode("utf-8")
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
        assert not shown or len(name) > 200 or printable(name) in page.words


def test_the_folder_of_this_machine_is_not_in_it(folder: Path) -> None:
    """A page is sent to others; where the images lie here is nobody's business."""
    hits = [hit_of(folder, name) for name in ("red.png", "broken.jpg", "gone.jpg", "../x.jpg")]
    hits.append(replace(hits[0], duplicates=tuple(hits)))
    assert "secret place" not in SearchResults(hits, "x").to_html()


def test_a_text_of_megabytes_is_shown_in_part(tmp_path: Path) -> None:
    hits = [text_hit("word " * 1_000_000), hit_of(tmp_path, "a.jpg", caption="<" * 1_000_000)]
    text = SearchResults(hits, "x" * 1_000_000).to_html()
    assert len(text) < 200_000
    assert "…" in text


def test_duplicates_and_groups_are_shown(folder: Path) -> None:
    behind = tuple(hit_of(folder, "red.png", score=0.99) for _ in range(3))
    hits = [
        hit_of(folder, "red.png", group="beach", duplicates=behind),
        hit_of(folder, "red.png", group="town"),
        hit_of(folder, "red.png", group="beach"),
        hit_of(folder, "red.png"),
    ]
    text = SearchResults(hits, "x").to_html()
    page = Reader(text)
    assert "+3 near-duplicates" in page.text
    assert sorted(image.width for image in page.images) == [160] * 3 + [300] * 4
    assert re.findall(r"<h2><bdi>(.*?)</bdi></h2>", text) == ["beach", "town", "without a group"]
    assert re.findall(r"<b>(\d)</b>", text) == ["1", "3", "2", "4"]
    single = SearchResults(hits[:2], "x").to_html()
    assert "<h2>" not in single, "a heading over each card would be a list of headings"
    assert "town" in Reader(single).text


def test_a_duplicate_whose_file_is_gone_is_drawn_as_that(folder: Path) -> None:
    """Among its neighbours a bare name would look like a mistake of the page."""
    behind = (hit_of(folder, "red.png"), hit_of(folder, "gone.jpg"), text_hit("a wave"))
    text = SearchResults([hit_of(folder, "red.png", duplicates=behind)], "x").to_html()
    (duplicates,) = re.findall(r"<ul>(.*?)</ul>", text)
    items = [re.sub(r"<img [^>]*>", "<img>", item).split("<bdi>")[0] for item in duplicates.split("<li>")[1:]]
    assert items == [
        "<img>",
        '<div class="frame none broken"><p>no such file</p></div>',
        '<div class="frame none"><p>a wave</p></div>',
    ]
    assert Reader(text).open == []


def test_a_page_is_written_whole_or_not_at_all(folder: Path, tmp_path: Path) -> None:
    results = SearchResults([hit_of(folder, "red.png")], "Größe")
    place = tmp_path / "hits.html"
    place.write_text("before")
    assert results.to_html(place) == place.read_text("utf-8") == results.to_html()
    assert results.to_html(str(place))
    with pytest.raises(ConfigurationError, match=r"the page cannot be written to .*hits\.html: no such file"):
        results.to_html(tmp_path / "missing" / "hits.html")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        results.to_html(tmp_path)
    with pytest.raises(ConfigurationError, match="spell"):
        results.to_html("nul\0.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hits.html", "the secret place"]


def test_a_page_goes_to_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    SearchResults([text_hit("x")], "x").to_html("~/hits.html")
    assert [path.name for path in tmp_path.iterdir()] == ["hits.html"]


def test_a_page_that_would_fill_the_disk_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"10,000 hits.*results\[:100\]"):
        SearchResults([text_hit("x")] * 10_000, "x").to_html()


def test_no_file_that_programs_trip_over_costs_the_page(shared_data: Path) -> None:
    """Truncated, corrupt, bombs, no images at all: each becomes a card."""
    place = shared_data / "corner" / "files"
    names = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())[::5]
    page = Reader(SearchResults([hit_of(place, name) for name in names], "x").to_html())
    assert page.open == []
    assert page.tags.count("pre") == len(names)


class TestNotebook:
    def test_it_shows_twenty_and_how_many_more(self, folder: Path) -> None:
        page = Reader(SearchResults([hit_of(folder, "red.png")] * 33, "Surfing")._repr_html_())
        assert page.open == []
        assert len(page.images) == 20
        assert "33 hits" in page.text
        assert "and 13 more" in page.text

    def test_its_thumbnails_are_small(self, folder: Path) -> None:
        """They are saved inside the notebook."""
        text = SearchResults([hit_of(folder, "phone.jpg")], "x")._repr_html_()
        assert [image.size for image in Reader(text).images] == [(240, 320)]
        assert len(text) < 60_000

    def test_its_style_changes_nothing_else_in_the_notebook(self, folder: Path) -> None:
        text = SearchResults([hit_of(folder, "red.png")], "x")._repr_html_()
        style = re.search(r"<style>(.*?)</style>", text, flags=re.DOTALL)
        assert style is not None
        rules = re.sub(r"@container \([^{}]*\)\{", "", style[1])
        for selectors in re.findall(r"([^{}]+)\{", rules):
            for selector in selectors.split(","):
                assert selector.strip().startswith(".mms"), selector

    def test_it_brings_no_colours_of_its_own_for_letters_and_ground(self, folder: Path) -> None:
        """What is dark on light in one notebook is light on dark in the next."""
        text = SearchResults([hit_of(folder, "red.png"), text_hit("x")], "x")._repr_html_()
        assert not re.search(r"[;{]color:(?!inherit)", text)
        assert not re.search(r"background:#", text)

    def test_it_never_raises(self) -> None:
        """A notebook would show the traceback in the place of the hits."""
        loop: dict[str, Any] = {}
        loop["self"] = loop
        for hit in (
            SearchHit(id=1, score="<b>"),  # type: ignore[arg-type]
            SearchHit(id=1, score=0.5, payload=loop),
            SearchHit(id=1, score=0.5, payload=None),  # type: ignore[arg-type]
            SearchHit(id=1, score=float("nan"), relevance=float("nan")),
        ):
            text = SearchResults([hit], "<b>")._repr_html_()
            assert "<b>" not in re.sub(r"<b>(1</b>|<bdi>)", "", text)


# -- in a real browser -------------------------------------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LOOK = """<!DOCTYPE html><meta charset="utf-8"><title>look</title>
<iframe src="page.html" width="1000" height="800"></iframe><pre id="seen"></pre>
<script>
document.querySelector("iframe").onload = event => {
  const page = event.target.contentDocument
  document.querySelector("#seen").textContent = JSON.stringify({
    title: page.title,
    names: [...page.querySelectorAll(".name")].map(name => name.textContent),
    widths: [...page.images].map(image => image.naturalWidth),
    shown: [...page.images].map(image => Math.round(image.getBoundingClientRect().width)),
    scripts: page.scripts.length,
    requests: event.target.contentWindow.performance.getEntriesByType("resource").map(each => each.name),
    words: [...page.querySelectorAll(".words")].map(words => {
      const style = getComputedStyle(words), inner = words.clientHeight - 2 * parseFloat(style.paddingTop)
      return {
        lines: words.firstChild.clientHeight / parseFloat(style.lineHeight),
        free: inner - words.firstChild.clientHeight,
        bar: words.offsetWidth - words.clientWidth - parseFloat(style.borderInlineStartWidth),
      }
    }),
    styled: getComputedStyle(page.querySelector(".mms")).maxWidth,
    overflows: page.documentElement.scrollWidth > page.documentElement.clientWidth,
  })
}
</script>"""


class Browser:
    """Opens pages in headless Chromium, from a local server that notes what it is asked for."""

    def __init__(self, program: str, place: Path) -> None:
        self.program = program
        self.place = place
        self.asked: list[str] = []
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(place / "site"))

            def log_message(self, *arguments: Any) -> None:
                asked.append(self.path)

        (place / "site").mkdir()
        (place / "site" / "look.html").write_text(LOOK)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def look(self, page: str) -> tuple[dict[str, Any], list[str]]:
        """What is to be seen in a page, and what the browser's console says."""
        (self.place / "site" / "page.html").write_text(page, "utf-8")
        done = subprocess.run(
            [
                self.program,
                *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server"),
                *("--enable-logging=stderr", "--virtual-time-budget=10000", "--disable-background-networking"),
                *(f"--user-data-dir={self.place / 'profile'}", "--dump-dom"),
                f"http://127.0.0.1:{self.server.server_address[1]}/look.html",
            ],
            capture_output=True,
            timeout=100,
            env={**os.environ, "HOME": str(self.place)},
        )
        seen = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout.decode(), flags=re.DOTALL)
        assert seen is not None, done.stderr.decode()[-2000:]
        assert seen[1], done.stderr.decode()[-2000:]
        entities = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&nbsp;": "\xa0", "&amp;": "&"}
        told = re.sub("&(?:lt|gt|quot|nbsp|amp);", lambda match: entities[match[0]], seen[1])
        said = [line for line in done.stderr.decode().splitlines() if "CONSOLE" in line]
        return json.loads(told), said


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}; on Debian: apt-get install chromium")
    browser = Browser(program, tmp_path_factory.mktemp("browser"))
    yield browser
    browser.server.shutdown()
    browser.server.server_close()


def test_a_browser_shows_the_page_and_nothing_acts(browser: Browser, folder: Path) -> None:
    """No script runs, nothing is fetched, the console is silent, every thumbnail is there, names are as they are."""
    names = ["red.png", "phone.jpg", *NASTY]
    hits = [hit_of(folder, name, caption=name, relevance=0.5, note=name) for name in names]
    hits[0] = replace(hits[0], duplicates=(hits[1],))
    seen, said = browser.look(SearchResults(hits, NASTY[0]).to_html())
    assert said == []
    assert seen["title"] == NASTY[0]
    assert seen["names"][:7] == names[:7]
    assert len(seen["names"]) == len(names)
    assert seen["widths"] == [300, 120, 480]
    assert min(seen["shown"][0], seen["shown"][2]) > 200
    assert (seen["scripts"], seen["requests"], seen["styled"], seen["overflows"]) == (0, [], "1800px", False)
    assert {path for path in browser.asked if path != "/favicon.ico"} == {"/look.html", "/page.html"}


def test_the_policy_holds_where_escaping_would_not(browser: Browser, folder: Path) -> None:
    """The second lock: were a name's script in the page, the browser would refuse it, and say so."""
    page = SearchResults([hit_of(folder, "red.png")], "x").to_html()
    evil = "<script>document.title = 'owned'</script><img src='/fetched.png' onerror='document.title=\"owned\"'>"
    seen, said = browser.look(page.replace("</main>", f"{evil}</main>"))
    assert seen["title"] == "x"
    assert len(said) >= 2
    assert all("Content Security Policy" in line for line in said)
    assert not any("fetched" in path for path in browser.asked)


@pytest.mark.parametrize("render", ["to_html", "_repr_html_"])
def test_a_long_text_ends_with_a_whole_line(browser: Browser, render: str) -> None:
    """Half a line at the lower edge looks broken; a scrollbar inside a card, in a dark notebook, is a white stripe."""
    results = SearchResults([text_hit("A surfer rides a wave. " * 50), text_hit("Short.")], "x")
    seen, _ = browser.look(f"<!DOCTYPE html>{getattr(results, render)()}")
    long, short = seen["words"]
    assert long["lines"] == pytest.approx(round(long["lines"]), abs=0.1)
    assert long["lines"] > 5
    assert 0 <= long["free"] < 26, "as much of it as fits"
    assert short["lines"] == pytest.approx(1, abs=0.1)
    assert long["bar"] == short["bar"] == 0
