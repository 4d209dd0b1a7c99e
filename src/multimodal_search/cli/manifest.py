"""Manifests: CSV, TSV or JSON Lines files that list images and their payload fields."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from multimodal_search._files import open_regular
from multimodal_search._payload import RESERVED
from multimodal_search._text import brief, is_unicode
from multimodal_search.contents import Image
from multimodal_search.errors import ConfigurationError
from multimodal_search.ids import as_point_id
from multimodal_search.report import Failure
from multimodal_search.types import Item, PointId

_DELIMITERS = {".csv": ",;\t|", ".tsv": "\t", ".tab": "\t"}  # in the order in which they are tried
_JSON_LINES = (".jsonl", ".ndjson")
_FILENAME = ("filename", "file_name")
_ID = "id"
_SHOWN = 3  # rows that a message names
_OWN = RESERVED - {"filename"}

_MAX_LINE_CHARACTERS = 16 * 1024 * 1024  # a file without line ends must not fill the memory
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+([eE][+-]?[0-9]{1,3})?", re.ASCII)
_INTEGER_ID = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)


class _BadRowError(Exception):
    """One row is invalid; the others are not affected."""


class Repeats:
    """Rows of a manifest that replace earlier ones because they have the same file or id.

    Takes about 150 bytes of memory for each row.
    """

    def __init__(self) -> None:
        self._lines: dict[bytes, int] = {}  # of the last row so far, by a hash of its file or id
        self._shown: list[str] = []
        self.count = 0

    def note(self, item: Item, line: int) -> None:
        """Note a row and the number of its first line."""
        assert isinstance(item.content, Image)  # noqa: S101 (as `_item` makes them)
        named = f"id {item.id}" if item.id is not None else item.content.label
        key = hashlib.blake2b(named.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        earlier, self._lines[key] = self._lines.get(key), line
        if earlier is not None:
            self.count += 1
            if len(self._shown) < _SHOWN:
                self._shown.append(f"line {line} names {named} as line {earlier} does")

    def __str__(self) -> str:
        more = ["..."] if self.count > len(self._shown) else []
        rows = "1 row replaces an earlier one" if self.count == 1 else (f"{self.count:,} rows replace earlier ones")
        return f"{rows}: {'; '.join([*self._shown, *more])}. To keep all rows, give each its own id"


def items(manifest: Path, folder: Path, repeats: Repeats | None = None) -> Iterator[Item | Failure]:
    """Read the images listed in a manifest, lazily and in order.

    The file is UTF-8, with or without a byte order mark. A CSV file begins with the names of its columns, separated by
    commas, semicolons (as Excel writes it in many countries), tabs or bars; a JSON Lines file holds an object a line.

    - `filename` (or `file_name`, as in COCO and in Hugging Face's datasets) is the image's path, below `folder` or
      absolute. A relative path that leads out of `folder` is refused.
    - `id`, if there is one and it is not empty, is the point's id: an integer from 0 to 2^64-1, or a UUID.
    - `text`, as captions are called in Hugging Face's datasets, becomes the field `caption`, since the index stores
      indexed texts in `text`.
    - Everything else goes to the payload. Values of JSON Lines keep their types. A cell of a CSV file becomes a number
      if it is written as one, such as `7`, `-0.5` or `1.5e-7`; all else is text, including `007`, `1,5`, `1e5` and
      `true`. Empty cells, and columns without a name, are left out.

    An invalid row is yielded as a failure with its line number; the others are read. All rows of one file are yielded:
    with different ids they are different points, otherwise an index keeps the last one.

    Args:
        manifest: Its name ends in `.csv`, `.tsv`, `.tab`, `.jsonl` or `.ndjson`.
        folder: The folder that filenames are relative to.
        repeats: Collects the rows that replace earlier ones.

    Raises:
        ConfigurationError: At the call, not while iterating: there is no such file, or of another kind; no column
            holds filenames, two have the same name, or one has a name that the index itself writes.
    """
    suffix = manifest.suffix.lower()
    if suffix not in _DELIMITERS and suffix not in _JSON_LINES:
        raise ConfigurationError(
            f"{manifest}: a manifest's name ends in {', '.join((*_DELIMITERS, *_JSON_LINES))}, not {suffix!r}"
        )
    try:
        with open_regular(manifest) as file:  # it is read twice, so it cannot be a pipe
            if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                raise ConfigurationError(f"{manifest}: the file is UTF-16; save it as UTF-8 (Excel: 'CSV UTF-8')")
        root = Path(os.path.normpath(folder.absolute()))
        if suffix in _JSON_LINES:
            return _from_json_lines(manifest, root, repeats)
        with _opened(manifest) as text:
            delimiter, columns = _header(manifest, _Lines(text), _DELIMITERS[suffix])
    except OSError as error:
        raise ConfigurationError(f"{manifest}: {error.strerror or error}") from error
    return _from_csv(manifest, root, delimiter, columns, repeats)


def _opened(manifest: Path) -> TextIO:
    # Invalid UTF-8 becomes lone surrogates, so that the row which holds it is known.
    return manifest.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


# -- JSON Lines --------------------------------------------------------------------------------------------------------


def _from_json_lines(manifest: Path, root: Path, repeats: Repeats | None) -> Iterator[Item | Failure]:
    with _opened(manifest) as text:
        lines = _Lines(text)
        while True:
            number = lines.begin_row()
            try:
                line = next(lines)
                if line.strip():
                    yield _item(_json_object(line), root, repeats, number)
            except StopIteration:
                return
            except _BadRowError as error:
                yield _failure(manifest, number, error)


def _json_object(line: str) -> dict[str, Any]:
    _check_unicode(line)
    try:
        fields = json.loads(line, parse_constant=_refuse_constant)
    except RecursionError:
        raise _BadRowError("is nested too deeply") from None
    except ValueError as error:
        raise _BadRowError(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise _BadRowError(f"a JSON object was expected, not {type(fields).__name__}")
    if "\\ud" in line.lower():  # a lone surrogate can also be written as an escape
        _check_unicode(json.dumps(fields, ensure_ascii=False))
    return fields


def _refuse_constant(name: str) -> object:
    raise _BadRowError(f"not JSON: {name} is not a number")


# -- CSV ---------------------------------------------------------------------------------------------------------------


def _header(manifest: Path, lines: _Lines, delimiters: str) -> tuple[str, list[str]]:
    """The delimiter and the names of the columns, from the first line.

    The delimiter is the one that gives a column of filenames, which is more reliable than counting characters.
    """
    found: list[str] = []
    try:
        first = next(lines, "")
        _check_unicode(first)
    except _BadRowError as error:
        raise ConfigurationError(f"{manifest}: the first line {error}") from None
    for delimiter in delimiters:
        try:
            columns = [name.strip() for name in next(csv.reader([first], delimiter=delimiter, strict=True), [])]
        except csv.Error:
            continue
        if set(_FILENAME) & set(columns):
            break
        found = max(found, columns, key=len)
    else:
        raise ConfigurationError(
            f"{manifest}: its first line must name the columns, one of them 'filename'; found: {found or 'nothing'}"
        )
    named = [name for name in columns if name]
    if len(set(named)) < len(named):
        raise ConfigurationError(f"{manifest}: two columns have the same name: {columns}")
    if own := sorted(_OWN.intersection(_renamed(dict.fromkeys(named)))):
        raise ConfigurationError(f"{manifest}: rename the columns {own}: the index itself writes fields of that name")
    return delimiter, columns


def _from_csv(
    manifest: Path, root: Path, delimiter: str, columns: list[str], repeats: Repeats | None
) -> Iterator[Item | Failure]:
    with _opened(manifest) as text:
        lines = _Lines(text)
        next(lines, None)
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            first = lines.begin_row()
            try:
                cells = next(rows)
                if any(cells):
                    yield _item(_fields(columns, cells), root, repeats, first)
            except StopIteration:
                return
            except csv.Error as error:
                # A stray quotation mark spans many lines; all but the first are parsed again.
                lines.end_row_after_first_line()
                yield _failure(manifest, first, f"not CSV: {error}")
            except _BadRowError as error:
                yield _failure(manifest, first, error)


def _fields(columns: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(columns):
        raise _BadRowError(f"has {len(cells)} fields where the first line has {len(columns)}")
    _check_unicode("".join(cells))
    named = {name: cell for name, cell in zip(columns, cells, strict=True) if name and cell}
    return {name: cell if name in _FILENAME else _number_or_text(cell, name) for name, cell in named.items()}


def _number_or_text(cell: str, name: str) -> int | float | str:
    if (_INTEGER_ID if name == _ID else _INTEGER).fullmatch(cell):
        return int(cell)
    if name != _ID and _FLOAT.fullmatch(cell) and math.isfinite(number := float(cell)):
        return number
    return cell


# -- both --------------------------------------------------------------------------------------------------------------


class _Lines(Iterator[str]):
    """The physical lines of a file, counted; those of a row can be read again.

    Attributes:
        number: Number of the last line, from 1.
    """

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self._row: list[str] = []
        self.number = 0

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._text.readline(_MAX_LINE_CHARACTERS)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == _MAX_LINE_CHARACTERS:
            while line and not line.endswith(("\n", "\r")):
                line = self._text.readline(_MAX_LINE_CHARACTERS)
            raise _BadRowError(f"has more than {_MAX_LINE_CHARACTERS:,} characters without an end of line")
        self._row.append(line)
        return line

    def begin_row(self) -> int:
        """Start a row; returns the number of its first line."""
        self._row.clear()
        return self.number + 1

    def end_row_after_first_line(self) -> None:
        """End the row after its first line; the others are read again."""
        self._again.extendleft(reversed(self._row[1:]))
        self.number -= len(self._row[1:])
        self._row.clear()


def _item(fields: Mapping[str, Any], root: Path, repeats: Repeats | None, line: int) -> Item:
    name_field = next((name for name in _FILENAME if fields.get(name) is not None), None)
    if name_field is None:
        raise _BadRowError("has no file: 'filename' is missing or empty")
    filename = fields[name_field]
    if not isinstance(filename, str):
        raise _BadRowError(f"{name_field!r} must be text, not {brief(filename)}")
    payload = _renamed({name: value for name, value in fields.items() if name not in ("filename", name_field, _ID)})
    if own := sorted(_OWN.intersection(payload)):
        raise _BadRowError(f"the index itself writes fields called {own}: rename yours")
    item = Item(Image(_path(filename, root)), id=_point_id(fields.get(_ID)), payload=payload)
    if repeats is not None:
        repeats.note(item, line)
    return item


def _renamed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with `text` renamed to `caption`, unless there is one."""
    return {"caption" if name == "text" and "caption" not in fields else name: fields[name] for name in fields}


def _path(filename: str, root: Path) -> Path:
    if "\0" in filename or not filename.strip():
        raise _BadRowError(f"{filename!r} is not a file name")
    path = Path(os.path.normpath(root / filename))
    if not Path(filename).is_absolute() and not path.is_relative_to(root):
        raise _BadRowError(f"{filename!r} is outside of {str(root)!r}")
    if path == root:
        raise _BadRowError(f"{filename!r} is not a file name")
    return path


def _point_id(value: object) -> PointId | None:
    if value is None:
        return None
    try:
        return as_point_id(value)
    except ConfigurationError as error:
        raise _BadRowError(str(error)) from None


def _check_unicode(text: str) -> None:
    if not is_unicode(text):
        raise _BadRowError("is not valid UTF-8")


def _failure(manifest: Path, line: int, reason: object) -> Failure:
    return Failure(name=f"{manifest}, line {line}", stage="scan", reason=str(reason))
