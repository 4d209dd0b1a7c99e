"""The shape of the package: eight floors of rooms, imports that only go down, and files short enough to read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from paths import ROOT

import multimodal_search

PACKAGE = Path(multimodal_search.__file__).parent

VOCABULARY = [
    {"_secrets", "_ctrl_c"},
    {"_text"},
    {"report"},
    {"errors"},
    {"_bounds", "_closing", "_extras", "_files", "_threads"},
    {"contents", "_path_text", "_plugins", "_progress"},
    {"types", "_payload"},
    {"filters", "ids", "protocols", "vectors"},
    {"_parquet", "query"},
]
"""The files of the first floor, from the bottom up; those of one row do not import each other."""

FLOORS = [
    set[str]().union(*VOCABULARY),
    {"media"},
    {"embedders", "stores", "_rendering"},
    {"results"},
    {"_relevance"},
    {"_searching", "_indexing"},
    {"index", "aio"},
    {"cli", "testing", "__main__"},
]
"""From the bottom up. A room imports only from floors below its own; rooms of one floor do not know each other."""

INSIDE_A_FLOOR = {("aio", "index"), ("__main__", "cli")}
TESTING_MAY_IMPORT = FLOORS[0]

MAX_LINES = 400
LONGER = {"index", "protocols"}  # most of them is documentation, and each has the virtue of being one page


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
del FILES[""]  # the package's own __init__ names everything


def _imported(path: Path) -> Iterator[str]:
    """The modules of this package that a file imports, wherever in the file, for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "multimodal_search":
            module = (node.module or "").removeprefix("multimodal_search").lstrip(".")
            for alias in node.names:
                full = f"{module}.{alias.name}".lstrip(".")
                yield full if full in FILES else module
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix("multimodal_search").lstrip(".")
                for alias in node.names
                if alias.name.split(".")[0] == "multimodal_search"
            )
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path} imports relatively"


IMPORTS: Mapping[str, set[str]] = {name: set(_imported(path)) - {name} for name, path in FILES.items()}


def _room(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def _row_of(room: str, rows: list[set[str]]) -> int:
    found = [number for number, names in enumerate(rows) if room in names]
    assert len(found) == 1, f"{room} has no floor yet: give it one"
    return found[0]


@pytest.mark.parametrize("module", FILES)
def test_imports_only_go_down(module: str) -> None:
    """A file can be read knowing only what lies below it."""
    room = _room(module)
    for other in IMPORTS[module]:
        assert other, f"{module} imports the package itself"
        below = _room(other)
        if below == room or (room, below) in INSIDE_A_FLOOR:
            continue
        floor, lower = _row_of(room, FLOORS), _row_of(below, FLOORS)
        if floor == lower == 0:
            floor, lower = _row_of(room, VOCABULARY), _row_of(below, VOCABULARY)
        assert lower < floor, f"{module} climbs to {other}"
        if room == "testing":
            assert below in TESTING_MAY_IMPORT, f"{module} imports {other}: other people's stores need not load it"


def test_there_is_no_cycle() -> None:
    """Neither between files, nor between the rooms' parts."""
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' -> '.join(reversed(error.args[1]))}")


def test_an_underscore_stands_only_at_the_door_of_a_room() -> None:
    """Only the kit of tests has files of its own that others should not import."""
    behind = [name for name in FILES if any(part.startswith("_") for part in name.split(".")[1:])]
    assert [name for name in behind if _room(name) != "testing"] == []


@pytest.mark.parametrize("package", [name for name, path in FILES.items() if path.name == "__init__.py"])
def test_a_room_says_what_its_files_are(package: str) -> None:
    doc = ast.get_docstring(ast.parse(FILES[package].read_text(encoding="utf-8"))) or ""
    parts = [name.removeprefix(f"{package}.") for name in FILES if name.startswith(f"{package}.")]
    missing = [part for part in parts if "." not in part and f"{part}" not in doc.split()]
    assert missing == [], f"the docstring of {package} does not say what these files are"


def test_no_file_is_too_long_to_read() -> None:
    """Past some 400 lines a file holds more than one noun."""
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES and name not in LONGER} == {}


def test_the_settings_of_tools_name_files_that_are_there() -> None:
    """The session that changes the code at random runs no test of a file that was renamed."""
    text = (ROOT / "pyproject.toml").read_text("utf-8") + (ROOT / "noxfile.py").read_text("utf-8")
    named = re.findall(r'"((?:src|tests)/[^"]+)"', text) + re.findall(r"# (tests/[^,\n]+)", text)
    assert [path for path in named if not list(ROOT.glob(path))] == []
