"""README and docs: their code runs, their commands exist, their links lead somewhere."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import tiny_models
from aleph_alpha_server import AlephAlphaServer
from hub_server import HubServer
from paths import ROOT
from qdrant_client import QdrantClient

import multimodal_search
from multimodal_search import QdrantStore
from multimodal_search.cli import demo_images as _demo
from multimodal_search.embedders.onnx.catalogue import DEFAULT_MODEL

PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

FENCE = re.compile(
    r"(?:<!-- (?P<comment>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
NOT_RUN = "not run: "
"""A comment `<!-- not run: REASON -->` right above a block keeps it from being run."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is its first line's number."""

    page: Path
    line: int
    language: str
    code: str
    comment: str


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text("utf-8")
    found = [
        Block(
            page, text[: match.start("code")].count("\n") + 1, match["language"], match["code"], match["comment"] or ""
        )
        for match in FENCE.finditer(text)
    ]
    return [block for block in found if block.language in languages]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# -- code --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("painted")
    _demo.paint(folder)
    return folder


@pytest.fixture
def surroundings(painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Where the code of a page runs: with images in the working directory, and a local server for each real one."""
    clients: list[QdrantClient] = []

    def local_store(collection: str, *, url: str) -> QdrantStore:
        clients.append(QdrantClient(":memory:"))
        return QdrantStore(collection, client=clients[-1])

    shutil.copytree(painted, tmp_path / "photos")
    (tmp_path / "val2017").mkdir()
    for path in sorted(painted.iterdir())[::4]:
        shutil.copy(path, tmp_path / "val2017")
    shutil.copy(painted / "red apple.jpg", tmp_path / "query.jpg")
    shutil.copy(painted / "the sea at noon.jpg", tmp_path / "val2017" / "000000000139.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(multimodal_search, "QdrantStore", local_store)
    for vendor in ("COHERE", "VOYAGE", "JINA"):
        monkeypatch.setenv(f"{vendor}_API_KEY", "a-key")
    if not importlib.util.find_spec("onnx") or not importlib.util.find_spec("onnxruntime"):
        pytest.skip("the pages use local models: the extra local, or onnx, is not installed")
    tiny_models.siglip2(tmp_path / "of-hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    with AlephAlphaServer() as server, HubServer({DEFAULT_MODEL: tmp_path / "of-hub"}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("AA_HOST", server.url)
        monkeypatch.setenv("AA_TOKEN", server.token)
        yield {"__name__": "a_page", "HOST": server.url, "TOKEN": server.token}
    for client in clients:
        client.close()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_the_python_code_of_a_page_runs_from_top_to_bottom(page: Path, surroundings: dict[str, Any]) -> None:
    """What people copy first is what rots first. Each block may use what those above it have made."""
    for block in blocks(page, "python"):
        if block.comment.startswith(NOT_RUN):
            continue
        # Blank lines before it: a traceback then shows the line of the page.
        code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")
        exec(code, surroundings)  # it is our own
    for value in surroundings.values():
        if isinstance(value, multimodal_search.MultimodalIndex):
            value.close()
    for image in Path().glob("*.png"):
        with PIL.Image.open(image) as sheet:
            assert sheet.width > 240
    if page.name == "searching.md":
        for shown in re.findall(r"\]\(images/([\w-]+\.png)\)", page.read_text("utf-8")):
            assert Path(shown).exists() or shown == "hits-page.png", "it shows an image that its code does not make"
        assert Path("hits.html").exists()


def test_code_that_is_not_run_says_why() -> None:
    for page in PAGES:
        for block in blocks(page, "python"):
            if block.comment.startswith("not run"):
                assert len(block.comment) > len(NOT_RUN) + 10, f"{name_of(page)}:{block.line}"


def test_the_answers_of_the_tutorial_are_those_it_tells(surroundings: dict[str, Any]) -> None:
    """It says that a photo finds itself first with a score of 1, and that words find three."""
    for block in blocks(ROOT / "docs" / "tutorial.md", "python"):
        exec(block.code, surroundings)
        results = surroundings.get("results")
        if results is not None and results.query.endswith(".jpg"):
            assert (results[0].filename, round(results[0].score, 6)) == ("000000000139.jpg", 1)
    assert surroundings["results"].query == "Surfing"
    assert len(surroundings["results"]) == 3
    assert Path("surfing.png").exists()


@pytest.mark.parametrize(
    ("page", "shown"), [("writing-a-store.md", "SQLiteStore"), ("writing-an-embedder.md", "ThumbnailEmbedder")]
)
def test_the_file_of_tests_of_a_page_passes(page: str, shown: str, tmp_path: Path) -> None:
    """As it stands there: with the package `my_package`, which is what the page shows above it."""
    (tests,) = [block.code for block in blocks(ROOT / "docs" / page, "python") if "Contract" in block.code]
    (tmp_path / "my_package.py").write_text(f"from documented import {shown} as {shown}\n", "utf-8")
    (tmp_path / "test_it.py").write_text(f"from my_package import {shown}\n{tests}", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "survives or process or starts_empty"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


# -- docstrings --------------------------------------------------------------------------------------------------------

METHODS = "open add add_images sync_folder add_texts add_vectors search search_many search_all similar duplicates get"
WITH_EXAMPLE = {
    "AlephAlphaEmbedder",
    "AsyncMultimodalIndex",
    "ColorEmbedder",
    "ContentIds",
    "EmbedderSpec",
    "Image",
    "Item",
    "MemoryStore",
    "Mixed",
    "MultimodalIndex",
    *(f"MultimodalIndex.{method}" for method in [*METHODS.split(), "delete", "count"]),
    "OnnxEmbedder",
    "PathIds",
    "QdrantEdgeStore",
    "QdrantStore",
    "Record",
    "SearchHit",
    "SearchResults",
    "SequentialIds",
    "Stored",
    "Text",
    "Vector",
}
"""The classes that people make or are given, and the methods of the index."""


def documented() -> dict[str, Any]:
    """The public classes and functions, and their members, by name."""
    found: dict[str, Any] = {}
    for name in multimodal_search.__all__:
        value = getattr(multimodal_search, name)
        if inspect.isclass(value):
            members = {f"{name}.{each}": getattr(value, each) for each in vars(value) if not each.startswith("_")}
            found |= {name: value} | members
    return found


EXAMPLES = {
    name: example
    for name, value in documented().items()
    if (example := doctest.DocTestParser().get_doctest(inspect.getdoc(value) or "", {}, name, None, None)).examples
}


@pytest.fixture
def colors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What an example in a docstring may use: the public names, three images, and an index of them."""
    (tmp_path / "photos").mkdir()
    for color in ("red", "green", "blue"):
        PIL.Image.new("RGB", (40, 30), color).save(tmp_path / "photos" / f"{color}.jpg")
    PIL.Image.new("RGB", (40, 30), "crimson").save(tmp_path / "query.jpg")
    monkeypatch.chdir(tmp_path)
    names = {name: getattr(multimodal_search, name) for name in multimodal_search.__all__}
    with multimodal_search.MultimodalIndex(names["ColorEmbedder"](), names["MemoryStore"]()) as index:
        index.add_images("photos")
        yield {**names, "Path": Path, "index": index}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_examples_in_docstrings_give_what_they_say(name: str, colors: dict[str, Any]) -> None:
    example = EXAMPLES[name]
    if name == "AlephAlphaEmbedder":
        pytest.importorskip("aleph_alpha_client")
    if name == "OnnxEmbedder":
        pytest.importorskip("onnxruntime", reason="the extra local is not installed")
    if name == "SentenceTransformersEmbedder":
        pytest.importorskip("sentence_transformers", reason="the extra torch is not installed")
    example.globs = colors
    told: list[str] = []
    failed, tried = doctest.DocTestRunner().run(example, out=told.append)
    assert (failed, tried) == (0, len(example.examples)), "".join(told)


def test_what_people_use_has_an_example() -> None:
    assert WITH_EXAMPLE - set(EXAMPLES) == set()


# -- commands ----------------------------------------------------------------------------------------------------------


def test_readme_has_the_two_commands_that_newcomers_need() -> None:
    """They are marked, and the gate runs what it finds below the marks."""
    commands = {block.comment: block.code for block in blocks(ROOT / "README.md", "shell") if block.comment}
    assert commands["command: demo"].rstrip().endswith("multimodal-search demo")
    assert commands["command: tests"].rstrip().endswith("python -m pytest -n auto --dist loadfile")
    for command in commands.values():
        assert command.count("\n") == 1, "one line to copy"


def test_shell_commands_in_the_pages_exist_with_their_options() -> None:
    import typer.main

    from multimodal_search.cli.app import app

    command = typer.main.get_command(app)
    seen = set()
    for block in [block for page in PAGES for block in blocks(page, "shell")]:
        for line in re.split(r"\n| && ", block.code):
            if line.startswith("multimodal-search "):
                name, *arguments = shlex.split(line)[1:]
                command.commands[name].make_context(name, arguments)  # type: ignore[attr-defined]
                seen.add(name)
            for script in re.findall(r"\b(?:examples|benchmarks)/\w+\.py", line):
                assert (ROOT / script).is_file()
    assert seen == set(command.commands)  # type: ignore[attr-defined]


# -- the rest ----------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name_of(page)} links to {target}"
        assert linked.is_relative_to(ROOT)
        if anchor:
            assert anchor in anchors(linked), f"{name_of(page)} links to {target}"


def test_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for page in PAGES[1:]:
        assert f"]({name_of(page)})" in readme, f"nobody finds {name_of(page)}"


def test_the_page_about_architecture_names_rooms_and_files_that_are_there() -> None:
    """A map of what was is worse than none."""
    package = ROOT / "src" / "multimodal_search"
    text = FENCE.sub("", (ROOT / "docs" / "architecture.md").read_text("utf-8"))
    named = set(re.findall(r"`((?:_?[a-z]+/)+[a-z_]*)", text))
    assert len(named) > 15
    missing = [name for name in named if not (package / name).is_dir() and not (package / f"{name}.py").is_file()]
    assert [name for name in missing if not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists()] == []


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "images").iterdir()), ids=lambda path: path.name)
def test_images_are_small_enough_to_show(path: Path) -> None:
    assert path.stat().st_size < 300_000
    with PIL.Image.open(path) as image:
        assert (image.format, image.width > 800) == ("PNG", True)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_say_nothing_about_the_machine_they_were_written_on(page: Path) -> None:
    text = page.read_text("utf-8")
    for pattern in (r"/work\b", r"/root\b", r"/tmp\b", r"\bTODO\b", r"\bFIXME\b", r"\bXXX\b"):
        assert re.search(pattern, text) is None, f"{name_of(page)} has {pattern}"
