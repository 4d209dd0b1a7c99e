"""The field's words, and one word for one thing: none of the old ones stands where a reader can see it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import multimodal_search

PACKAGE = Path(multimodal_search.__file__).parent
CHECKOUT = PACKAGE.parents[1]

OLD_WORDS = {
    "image": r"\bpictures?\b",
    "Progress": r"IndexProgress",
    "SupportsIndexMetadata": r"SupportsNotes",
    "get_index_metadata, set_index_metadata": r"\b(read|write)_note\b",
    "keyword_weight, keyword_fields": r"\btext[_-](weight|fields)\b",
    "max_batch_size": r"\bmax_batch\b",
    "deduplicate, duplicates": r"(?<![a-z])fold(ed|s|ing)?(?![a-z])",
    "weighted": r"\bweighed\b",
    "MAX_, MIN_": r"\b_?(MOST|LEAST|LONGEST)(_[A-Z_]+)?\b",
    "And, Or, In, NumberRange, DatetimeRange, Prefix": r"\bclass (All|AnyOf|OneOf|Between|During|StartsWith)\b",
    "ConcurrencyLimiter, Font, RunStats, WorkerPool": r"\b(class|import) (Pace|Lettering|Tally|Workers)\b",
    "RetryingStore": r"PatientStore|patient_store",
    "GuardedEmbedder": r"CheckedEmbedder",
    "system files": r"\bRUBBISH\b",
    "~/photos": r"~/(Pictures|Images)\b",
}
"""What is said now, and the pattern of what was said before."""

DATA = {"reference_texts.py"}
"""Texts that are data: what people search for, in their own words."""

COMMANDS = ("", "demo", "index", "search", "duplicates", "status", "verify")


def _read_by_people() -> Iterator[Path]:
    yield from (path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".css") and path.name not in DATA)
    for folder, kind in (("docs", "*.md"), ("docs", "*.json"), ("docs", "*.py"), ("examples", "*.py")):
        yield from (CHECKOUT / folder).rglob(kind)
    yield from (path for name in ("README.md", "CHANGELOG.md", "pyproject.toml") if (path := CHECKOUT / name).exists())


FILES = {path.relative_to(CHECKOUT).as_posix(): path for path in sorted(_read_by_people())}


def _old_words(text: str) -> list[str]:
    return [
        f"line {number}: {found[0]!r} is {new} now"
        for number, line in enumerate(text.splitlines(), start=1)
        for new, pattern in OLD_WORDS.items()
        if (found := re.search(pattern, line, re.IGNORECASE if pattern.islower() else 0))
    ]


@pytest.mark.parametrize("name", FILES)
def test_no_old_word_stands_in_code_and_docs(name: str) -> None:
    """Who meets two words for one thing looks for two things."""
    assert _old_words(FILES[name].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_no_old_word_stands_in_the_help(command: str) -> None:
    arguments = [sys.executable, "-m", "multimodal_search", *command.split(), "--help"]
    run = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "Usage: " in run.stdout
    assert _old_words(run.stdout) == []


def test_old_words_are_found() -> None:
    """So that the patterns stay able to fail."""
    old = ["Two Pictures", "IndexProgress", "SupportsNotes", "read_note(", "--text-weight", "max_batch=2", "hit.folded"]
    old += ["weighed", "_MOST_ROWS", "class During", "import Tally", "PatientStore", "CheckedEmbedder", "RUBBISH"]
    assert [len(_old_words(text)) for text in [*old, "~/Images"]] == [1] * len(OLD_WORDS)
    assert _old_words("max_batch_size=1 manifold folder unfolded, class AllRight, at most, write_notes, ~/photos") == []
