"""Vectors out of an index and into one again, as Parquet files.

Parquet and nothing else, because it is the one format that holds ids, vectors and payloads together, is written and
read piece by piece, and opens in pandas, Polars, DuckDB and Spark as it is. NumPy's `.npz` would need a second file for
ids and payloads, and the number of rows before the first one.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from multimodal_search._extras import require
from multimodal_search._files import atomic_write, open_regular
from multimodal_search._text import is_unicode
from multimodal_search.errors import ConfigurationError, ContentError, MultimodalSearchError, UnreadableContentError
from multimodal_search.ids import PathIds, as_point_id
from multimodal_search.types import FloatArray, PointId, Record, StoreSchema
from multimodal_search.vectors import as_vector

VECTOR_COLUMNS = ("vector", "embedding", "embeddings", "values")
"""What the column of vectors may be called in files of other programs; the first that there is counts."""

_SCHEMA_KEY = b"multimodal_search.schema"
_GROUP_BYTES = 8 * 1024 * 1024  # of vectors and payloads in one row group, which is held in memory
_READ_BYTES = 4 * 1024 * 1024
_INTEGER_ID = re.compile("[0-9]+", re.ASCII)


def write(path: Path, records: Iterator[Record], schema: StoreSchema) -> int:
    """Write records to a Parquet file, in memory that does not depend on their number.

    The columns are `id` (text: the digits of an integer, or a UUID), `vector` (a list of 32-bit floats), `payload`
    (JSON), and for other programs' convenience the `filename` of the payload. The file's metadata holds `schema`.
    An existing file is replaced when the new one is complete and safe on the disk, and left alone if that fails.

    Args:
        path: The file.
        records: With vectors of `schema.dimension` numbers.
        schema: What the records come from.

    Returns:
        How many records were written.

    Raises:
        ConfigurationError: A record has no vector, or one of another dimension.
        ContentError: A payload holds what JSON cannot hold.
        MissingExtraError: The extra `parquet` is not installed.
        OSError: The file cannot be written.
    """
    pa = _pyarrow("pyarrow")
    pq = _pyarrow("pyarrow.parquet")
    arrow_schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), schema.dimension)),
            pa.field("payload", pa.string(), nullable=False),
            pa.field("filename", pa.string()),
        ],
        metadata={_SCHEMA_KEY: json.dumps(schema.to_dict()).encode()},
    )
    count = 0
    with (
        atomic_write(path) as file,
        pq.ParquetWriter(
            file,
            arrow_schema,
            compression="zstd",
            use_dictionary=False,
            write_statistics=["id", "filename"],
            write_page_checksum=True,
        ) as writer,
    ):
        for rows in _groups(records, schema.dimension):
            writer.write_table(_table(pa, rows, arrow_schema), row_group_size=len(rows))
            count += len(rows)
    return count


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell why a file cannot be written.

    Raises:
        ConfigurationError: There is no such folder, no room, no permission, or something else has the name.
    """
    try:
        yield
    except MultimodalSearchError:  # the store's: some are OSErrors as well
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.absolute().parent.is_dir():
            reason = f"there is no folder {path.absolute().parent}"
        else:
            reason = (error.strerror or str(error)).lower()
        raise ConfigurationError(f"the export cannot be written to {path}: {reason}") from error


def read(path: Path) -> tuple[StoreSchema | None, Iterator[Record]]:
    """Read records from a Parquet file, in memory that does not depend on their number.

    Files of other programs are read too, without a schema. The vectors are in a column of lists of floats called
    `vector`, `embedding`, `embeddings` or `values`. `id`, if there is one, holds integers from 0 to 2^64-1, their
    digits, or UUIDs; a row without gets the id that indexing the file `filename` would give, or else one made of its
    vector. All other columns of numbers, truth values and text become the payload, except where they are empty; a
    column `payload` of JSON objects is added to that. Other columns are left out.

    Returns:
        The schema that `write` was given, or None for files of other programs; and the records, lazily.

    Raises:
        ConfigurationError: There is no such file, or no such column in it.
        UnreadableContentError: The file is not Parquet, is cut off or damaged, or a row makes no sense; while
            iterating, too, and then with the number of the row, from 0.
        MissingExtraError: The extra `parquet` is not installed.
    """
    pq = _pyarrow("pyarrow.parquet")
    _check_form(path)
    with _translated(path):
        # Without pre_buffer=False pyarrow keeps the whole compressed file, without buffer_size a whole row group.
        file = pq.ParquetFile(str(path), pre_buffer=False, buffer_size=1024 * 1024, page_checksum_verification=True)
    schema = _stored_schema(path, file.schema_arrow)
    vectors, fields = _columns(path, file.schema_arrow)
    if schema is not None:
        fields = [name for name in fields if name == "payload"]
    return schema, _records(path, file, vectors, fields, None if schema is None else schema.dimension)


# -- out ---------------------------------------------------------------------------------------------------------------


_Row = tuple[str, FloatArray, str, "str | None"]


def _groups(records: Iterable[Record], dimension: int) -> Iterator[list[_Row]]:
    """Rows for one row group each."""
    rows: list[_Row] = []
    size = 0
    for record in records:
        vector = "no vector" if record.vector is None else as_vector(record.vector, dimension)
        if isinstance(vector, str):
            raise ConfigurationError(f"record {record.id} has {vector}, and cannot be exported")
        payload = _json(record)
        rows.append((str(record.id), vector, payload, _filename(record)))
        size += 4 * dimension + len(payload)
        if size >= _GROUP_BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _table(pa: Any, rows: Sequence[_Row], schema: Any) -> Any:
    ids, vectors, payloads, filenames = zip(*rows, strict=True)
    numbers = pa.array(np.concatenate(vectors))
    columns = [
        pa.array(ids, pa.string()),
        pa.FixedSizeListArray.from_arrays(numbers, schema.field("vector").type.list_size),
        pa.array(payloads, pa.string()),
        pa.array(filenames, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _json(record: Record) -> str:
    try:
        text = json.dumps(dict(record.payload), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if not is_unicode(text):  # the name of a file may not be, and only survives as escapes
            text = json.dumps(dict(record.payload), allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ContentError(f"record {record.id}: its payload does not fit into JSON: {error}") from error
    return text


def _filename(record: Record) -> str | None:
    filename = record.payload.get("filename")
    return filename.encode("utf-8", "replace").decode() if isinstance(filename, str) else None


# -- in ----------------------------------------------------------------------------------------------------------------


def _check_form(path: Path) -> None:
    """Tell apart what pyarrow describes alike: no Parquet at all, and one that is cut off."""
    try:
        with open_regular(path) as file:
            begins = file.read(4)
            file.seek(max(0, path.stat().st_size - 4))
            ends = file.read(4)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    if begins != b"PAR1":
        raise UnreadableContentError(f"{path}: not a Parquet file")
    if ends != b"PAR1":
        raise UnreadableContentError(f"{path}: a Parquet file without its end: it was cut off")


def _stored_schema(path: Path, arrow_schema: Any) -> StoreSchema | None:
    stored = (arrow_schema.metadata or {}).get(_SCHEMA_KEY)
    if stored is None:
        return None
    try:
        return StoreSchema.from_dict(json.loads(stored))
    except (ConfigurationError, ValueError, TypeError) as error:
        raise UnreadableContentError(f"{path}: the schema in its metadata is damaged: {error}") from error


def _columns(path: Path, arrow_schema: Any) -> tuple[str, list[str]]:
    """The name of the column of vectors, and those of the columns that become the payload."""
    types = _pyarrow("pyarrow").types
    vectors = next((name for name in VECTOR_COLUMNS if name in arrow_schema.names), None)
    if vectors is None:
        expected = ", ".join(map(repr, VECTOR_COLUMNS))
        raise ConfigurationError(f"{path}: no column of vectors ({expected}); it has {list(arrow_schema.names)}")
    kind = arrow_schema.field(vectors).type
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if not (is_list and types.is_floating(kind.value_type)):
        raise ConfigurationError(f"{path}: the column {vectors!r} must hold lists of floats, not {kind}")
    kept = (types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_large_string)
    fields = []
    for field in arrow_schema:
        value_type = field.type.value_type if types.is_dictionary(field.type) else field.type
        own = field.name in (vectors, "id") or field.name.startswith("__index_level_")  # as pandas calls an index
        if not own and any(is_kept(value_type) for is_kept in kept):
            fields.append(field.name)
    return vectors, fields


def _records(path: Path, file: Any, vectors: str, fields: Sequence[str], dimension: int | None) -> Iterator[Record]:
    others = [*fields, *(["id"] if "id" in file.schema_arrow.names else [])]
    batch_rows = 256 if dimension is None else max(1, _READ_BYTES // (4 * dimension))
    first_row = 0
    with file, _translated(path):
        for batch in file.iter_batches(batch_size=batch_rows, columns=[vectors, *others], use_threads=False):
            matrix = _matrix(path, batch.column(vectors), first_row, dimension)
            dimension = matrix.shape[1]
            columns = [batch.column(name).to_pylist() for name in others]
            for i, vector in enumerate(matrix):
                cells = {name: column[i] for name, column in zip(others, columns, strict=True)}
                yield _record(f"{path}: row {first_row + i}", cells, vector.copy())
            first_row += len(matrix)
        if first_row != file.metadata.num_rows:
            expected = f"{file.metadata.num_rows:,} rows were expected"
            raise UnreadableContentError(f"{path}: {expected}, and {first_row:,} were found")


def _matrix(path: Path, column: Any, first_row: int, dimension: int | None) -> FloatArray:
    """The vectors of one batch, shape `(rows, dimension)`; `dimension` None takes that of the first one."""

    def refuse(bad: Any, what: str) -> None:
        rows = np.flatnonzero(bad)
        if len(rows):
            raise UnreadableContentError(f"{path}: row {first_row + rows[0]}: {what}")

    refuse(column.is_null().to_numpy(zero_copy_only=False), "has no vector")
    lengths = _pyarrow("pyarrow.compute").list_value_length(column).to_numpy(zero_copy_only=False)
    expected = int(lengths[0]) if dimension is None and len(lengths) else dimension or 0
    refuse(lengths != expected, f"its vector does not have {expected:,} numbers, as was expected")
    refuse(lengths == 0, "its vector is empty")
    with np.errstate(over="ignore"):  # to infinity, which is refused
        numbers = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    matrix: FloatArray = numbers.reshape(-1, max(expected, 1))
    refuse(~np.isfinite(matrix).all(axis=1), "its vector holds nulls, NaN or infinity, or numbers beyond 32-bit floats")
    return matrix


def _record(where: str, cells: dict[str, Any], vector: FloatArray) -> Record:
    written_id = cells.pop("id", None)
    written_payload = cells.pop("payload", None)
    payload = {name: value for name, value in cells.items() if value is not None and not _is_no_number(value)}
    if written_payload is not None:
        payload |= _json_object(where, written_payload)
    if written_id is None:
        filename = payload.get("filename")
        sha256 = hashlib.sha256(vector.astype("<f4").tobytes()).hexdigest()
        point_id = PathIds().allocate(filename=filename if isinstance(filename, str) else None, sha256=sha256)
        return Record(point_id, payload, vector=vector)
    try:
        return Record(_point_id(written_id), payload, vector=vector)
    except ValueError as error:
        raise UnreadableContentError(f"{where}: {error}") from error


def _point_id(written: object) -> PointId:
    is_number = isinstance(written, str) and _INTEGER_ID.fullmatch(written)
    return as_point_id(int(str(written)) if is_number else written)


def _is_no_number(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _json_object(where: str, text: object) -> Mapping[str, Any]:
    try:
        payload = json.loads(str(text))
    except (ValueError, RecursionError) as error:
        raise UnreadableContentError(f"{where}: its payload is no JSON: {error}") from error
    if not isinstance(payload, dict):
        raise UnreadableContentError(f"{where}: its payload is no JSON object")
    return payload


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    # Named before, as it could not be imported when an iterator is left behind until Python shuts down.
    arrow_error = _pyarrow("pyarrow").ArrowException
    try:
        yield
    except MultimodalSearchError:
        raise
    except (arrow_error, OSError, KeyError, ValueError, MemoryError) as error:
        raise UnreadableContentError(f"{path}: a damaged Parquet file: {error}") from error


def _pyarrow(module: str) -> Any:
    return require(module, extra="parquet", purpose="reading and writing Parquet files")
