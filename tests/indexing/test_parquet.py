"""What `_parquet` promises of Parquet files: what goes out comes back the same, and no memory is taken for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_embedder import TinyEmbedder

from multimodal_search import MemoryStore, MultimodalIndex
from multimodal_search import _parquet as _export
from multimodal_search._parquet import read, write
from multimodal_search.errors import ConfigurationError, ContentError, MissingExtraError, UnreadableContentError
from multimodal_search.ids import PathIds
from multimodal_search.types import Record, StoreSchema

pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
pq = pytest.importorskip("pyarrow.parquet")

SCHEMA = StoreSchema(model="tiny ü", fingerprint="tiny-1", dimension=4)


def record(
    point_id: int | str, payload: Mapping[str, Any] | None = None, vector: Sequence[float] = (1, 2, 3, 4)
) -> Record:
    return Record(point_id, payload or {}, vector=np.array(vector, dtype=np.float32))


def records(count: int) -> Iterator[Record]:
    for n in range(count):
        yield record(n, {"filename": f"{n}.jpg"}, [n, 1, 2, 3])


def same(found: Iterator[Record], expected: Sequence[Record]) -> bool:
    listed = list(found)
    return listed == list(expected) and all(
        a.vector is not None and a.vector.dtype == np.float32 and np.array_equal(a.vector, b.vector)
        for a, b in zip(listed, expected, strict=True)
    )


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def saved(path: Path, columns: Mapping[str, Any]) -> Path:
    """A file as other programs write it."""
    pq.write_table(pa.table(dict(columns)), path)
    return path


def test_everything_comes_back_as_it_went(tmp_path: Path) -> None:
    """Ids of both kinds, integers that a float cannot hold, text of all scripts, None, and each bit of a float."""
    payload = {
        "filename": "Zürich/日本 🏄.jpg",
        "big": 2**53 + 1,
        "bigger": -(2**63) + 1,
        "float": 0.1,
        "whole": 1.0,
        "none": None,
        "yes": True,
        "list": [1, "a", None, {"x": [[]]}],
        "": "an empty name",
        "text": 'quotes " \\ and \u2028 and \x00 and "7"',
    }
    numbers = [float(np.nextafter(np.float32(1), np.float32(2))), -0.0, 1e-45, 3.4028235e38]
    expected = [
        record(0, payload, numbers),
        record(2**64 - 1),
        record("f47ac10b-58cc-4372-a567-0e02b2c3d479", {"filename": None}),
        record(7, {"filename": "not utf8 \udcfc.jpg", "n": 1}),
    ]
    path = tmp_path / "a.parquet"
    assert write(path, iter(expected), SCHEMA) == 4
    schema, found = read(path)
    assert schema == SCHEMA
    assert same(found, expected)
    back = next(read(path)[1])
    assert back.vector is not None
    assert back.vector.tobytes() == np.array(numbers, dtype=np.float32).tobytes()
    assert {name: type(value) for name, value in back.payload.items()} == {
        name: type(value) for name, value in payload.items()
    }


def test_other_programs_find_plain_columns(tmp_path: Path) -> None:
    """Read with pyarrow alone: what pandas and DuckDB see."""
    path = tmp_path / "a.parquet"
    write(path, iter([record(7, {"filename": "ü.jpg", "n": 1}), record(str(uuid.UUID(int=5)))]), SCHEMA)
    table = pq.read_table(path)
    assert table.schema.names == ["id", "vector", "payload", "filename"]
    assert table.schema.field("vector").type == pa.list_(pa.field("element", pa.float32()), 4)
    assert table.to_pylist() == [
        {"id": "7", "vector": [1, 2, 3, 4], "payload": '{"filename":"ü.jpg","n":1}', "filename": "ü.jpg"},
        {"id": str(uuid.UUID(int=5)), "vector": [1, 2, 3, 4], "payload": "{}", "filename": None},
    ]


def test_no_records_make_a_file_of_none(tmp_path: Path) -> None:
    """An empty index can be carried over too."""
    path = tmp_path / "a.parquet"
    assert write(path, iter([]), SCHEMA) == 0
    schema, found = read(path)
    assert schema == SCHEMA
    assert list(found) == []


def test_many_row_groups_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost or doubled where one ends and the next begins."""
    monkeypatch.setattr(_export, "_GROUP_BYTES", 100)
    monkeypatch.setattr(_export, "_READ_BYTES", 64)
    path = tmp_path / "a.parquet"
    write(path, records(101), SCHEMA)
    assert pq.ParquetFile(path).num_row_groups > 10
    assert same(read(path)[1], list(records(101)))


def test_memory_does_not_grow_with_the_number_of_records(tmp_path: Path) -> None:
    """A million vectors are gigabytes. Measured from outside, as pyarrow's memory is not Python's."""
    script = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from multimodal_search._parquet import read, write
        from multimodal_search.types import Record, StoreSchema

        path, dimension = Path(sys.argv[1]), 1024
        schema = StoreSchema(model="m", fingerprint="f", dimension=dimension)

        def records(count):
            noise = np.random.default_rng(0)
            for n in range(count):
                yield Record(n, {"filename": f"{n}.jpg"}, vector=noise.random(dimension, dtype=np.float32))

        def there_and_back(count):
            assert write(path, records(count), schema) == count
            assert sum(found == wanted for found, wanted in zip(read(path)[1], records(count), strict=True)) == count
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        few = there_and_back(4_000)
        print(few, there_and_back(20_000))
    """
    pytest.importorskip("resource", reason="Windows does not tell a process's peak so")
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "a.parquet")]
    few, many = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024
    assert (many - few) * unit < 16_000 * 1024 * 4 / 4  # a quarter of what was added


def test_a_big_row_group_of_another_program_is_read_piece_by_piece(tmp_path: Path) -> None:
    """Many write the whole table as one."""
    path = tmp_path / "a.parquet"
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(np.random.default_rng(0).random(20_000 * 256, dtype=np.float32)), 256
    )
    pq.write_table(pa.table({"vector": vectors}), path, row_group_size=10**9, use_dictionary=False)
    _, found = read(path)
    before = pa.total_allocated_bytes()
    for number, _ in enumerate(found):
        if number % 1000 == 0:
            assert pa.total_allocated_bytes() - before < 5_000_000  # of 20 million
    assert number == 19_999


def test_an_iterator_that_is_left_behind_ends_quietly(tmp_path: Path) -> None:
    """Python throws it away while it shuts down, when nothing can be imported any more."""
    path = tmp_path / "a.parquet"
    write(path, records(10), SCHEMA)
    script = (
        "import sys, pathlib; from multimodal_search._parquet import read; "
        "found = read(pathlib.Path(sys.argv[1]))[1]; next(found); sys.found = found"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script, str(path)], check=True, capture_output=True)
    assert done.stderr == b""


# -- safe --------------------------------------------------------------------------------------------------------------


def failing(count: int) -> Iterator[Record]:
    yield from records(count)
    raise RuntimeError("the store went away")


def test_a_failed_export_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old export may be the only one."""
    monkeypatch.setattr(_export, "_GROUP_BYTES", 100)
    path = tmp_path / "a.parquet"
    write(path, records(5), SCHEMA)
    with pytest.raises(RuntimeError, match="went away"):
        write(path, failing(500), SCHEMA)
    assert names_in(tmp_path) == ["a.parquet"]
    assert same(read(path)[1], list(records(5)))
    write(path, records(6), SCHEMA)
    assert names_in(tmp_path) == ["a.parquet"]
    assert same(read(path)[1], list(records(6)))


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """Before the store is read through."""
    with pytest.raises(FileNotFoundError, match="no-such-folder"):
        write(tmp_path / "no-such-folder" / "a.parquet", failing(0), SCHEMA)


@pytest.fixture
def index() -> MultimodalIndex:
    """An index of 2,000 points, whose export takes some 4 MB."""
    index = MultimodalIndex(TinyEmbedder(), MemoryStore(), auto_calibrate=False)
    rows = np.random.default_rng(0).standard_normal((2_000, 48)).astype(np.float32)
    fields = {"note": str(rows[0].tolist()) * 2}
    index.add_vectors((Record(n, {**fields, "n": n}, vector=row) for n, row in enumerate(rows)), progress=False)
    return index


def test_where_an_export_cannot_be_written_the_reason_is_said(index: MultimodalIndex, tmp_path: Path) -> None:
    """Nothing is left behind, and what has the name is left alone."""
    (tmp_path / "file").write_text("a file")
    cases = {
        tmp_path / "missing" / "a.parquet": f"there is no folder {tmp_path / 'missing'}",
        tmp_path: "it is a folder",
        tmp_path / "file" / "a.parquet": "not a directory",
        tmp_path / f"{'x' * 250}.parquet": "file name too long",
    }
    if os.name != "nt":
        os.mkfifo(tmp_path / "pipe")
        cases[tmp_path / "pipe"] = "it is not a regular file"
    for path, reason in cases.items():
        with pytest.raises(ConfigurationError) as refused:
            index.export(path)
        assert str(refused.value) == f"the export cannot be written to {path}: {reason}"
    assert names_in(tmp_path) == (["file"] if os.name == "nt" else ["file", "pipe"])
    assert index.export(tmp_path / "a.parquet") == 2_000


def test_a_tilde_is_the_home_folder(index: MultimodalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert index.export("~/a.parquet") == 2_000
    assert names_in(tmp_path) == ["a.parquet"]
    assert index.add_export("~/a.parquet", progress=False).updated == 2_000


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on the size of files, which Windows has not")
@pytest.mark.parametrize("named", [False, True])
def test_a_full_disk_costs_nothing_but_the_export(tmp_path: Path, named: bool) -> None:
    """No half a file under the name that was asked for, and none beside it; the one before is still whole."""
    code = """
import resource, sys
import numpy as np
from multimodal_search import *
from multimodal_search import _files as _replacing
if sys.argv[2] == "True":
    _replacing._unnamed_file = lambda folder: None
index = MultimodalIndex(ColorEmbedder(), MemoryStore(), auto_calibrate=False)
rows = np.random.default_rng(0).standard_normal((2000, 88)).astype(np.float32)
index.add_vectors([Record(0, {}, vector=rows[0])], progress=False)
print(index.export(sys.argv[1]))
index.add_vectors((Record(n, {}, vector=row) for n, row in enumerate(rows)), progress=False)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    index.export(sys.argv[1])
except ConfigurationError as error:
    print(error)
"""
    path = tmp_path / "a.parquet"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(named)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"1\nthe export cannot be written to {path}: file too large\n"
    assert names_in(tmp_path) == ["a.parquet"]
    assert len(list(read(path)[1])) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from multimodal_search import _files as _replacing
if sys.argv[2] == "True":
    _replacing._unnamed_file = lambda folder: None
with _replacing.atomic_write(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    if sys.argv[3] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL, which Windows has not")
@pytest.mark.parametrize("named", [False, True])
def test_what_a_killed_export_leaves_is_removed_by_the_next(tmp_path: Path, named: bool) -> None:
    """Up to the size of the whole, under a hidden name that nobody looks for; a writer at work keeps its own."""
    path = tmp_path / "a.parquet"
    (tmp_path / ".a.parquet.mine.part").write_text("of somebody else")
    for _ in range(2):
        run = [sys.executable, "-c", KILLED, str(path), str(named), "kill"]
        assert subprocess.run(run, capture_output=True).returncode == -signal.SIGKILL
    left = set(names_in(tmp_path)) - {".a.parquet.mine.part"}
    assert len(left) == (1 if named else 0), "the second one removed what the first had left"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), str(named), "wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"half\n"
        write(path, records(5), SCHEMA)
        assert len(names_in(tmp_path)) == (3 if named else 2), "its own, the other's, and somebody else's"
        other.communicate()
    assert other.returncode == 0
    assert path.read_bytes() == b"half", "the last one to end is the last one to write"
    assert names_in(tmp_path) == [".a.parquet.mine.part", "a.parquet"]


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (Record(7, {}), ConfigurationError, "record 7 has no vector"),
        (record(7, {}, [1, 2, 3]), ConfigurationError, r"record 7 has a vector of 3 numbers, not of 4"),
        (record(7, {}, [1, 2, 3, float("nan")]), ConfigurationError, "record 7 has a vector that holds NaN"),
        (record(7, {"x": float("inf")}), ContentError, "record 7: its payload does not fit into JSON"),
        (record(7, {"x": {1, 2}}), ContentError, "record 7: its payload does not fit into JSON: .*set"),
    ],
)
def test_a_record_that_cannot_be_kept_is_named(
    bad: Record, error: type[Exception], message: str, tmp_path: Path
) -> None:
    """One that is lost on the way would be missed too late."""
    with pytest.raises(error, match=message):
        write(tmp_path / "a.parquet", iter([record(1), bad]), SCHEMA)
    assert names_in(tmp_path) == []


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    """With its name, and as cut off rather than as no Parquet."""
    path, cut = tmp_path / "a.parquet", tmp_path / "cut.parquet"
    write(path, records(50), SCHEMA)
    whole = path.read_bytes()
    for size in range(0, len(whole), 41):
        cut.write_bytes(whole[:size])
        with pytest.raises(UnreadableContentError, match=r"cut.parquet: .*(cut off|not a Parquet)"):
            read(cut)
    assert size > 1000


def test_damage_is_noticed(tmp_path: Path) -> None:
    """A bit that tipped over in a vector would only make the search worse, silently."""
    path, damaged = tmp_path / "a.parquet", tmp_path / "damaged.parquet"
    write(path, records(50), SCHEMA)
    whole = path.read_bytes()
    reasons: list[str] = []
    pages = len(whole) - int.from_bytes(whole[-8:-4], "little") - 8
    for at in range(4, pages, 17):
        data = bytearray(whole)
        data[at] ^= 0x10
        damaged.write_bytes(data)
        try:
            found = list(read(damaged)[1])
        except UnreadableContentError as error:
            reasons.append(str(error))
        else:
            assert same(iter(found), list(records(50)))  # some bytes of a header mean nothing
    assert len(reasons) > 20
    assert all(reason.startswith(f"{damaged}: ") for reason in reasons)


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    """With its name and what was expected."""
    path = tmp_path / "a.parquet"
    with pytest.raises(ConfigurationError, match=r"a\.parquet: No such file"):
        read(path)
    with pytest.raises(ConfigurationError, match=tmp_path.name):
        read(tmp_path)
    for content in (b"", b"id,vector\n1,2\n", b"PAR"):
        path.write_bytes(content)
        with pytest.raises(UnreadableContentError, match=r"a\.parquet: not a Parquet file"):
            read(path)
    path.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(UnreadableContentError, match=r"a\.parquet: a damaged Parquet file"):
        read(path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for use in (lambda: write(tmp_path / "a", iter([]), SCHEMA), lambda: read(tmp_path / "a")):
        with pytest.raises(MissingExtraError, match=r"multimodal-search\[parquet\]"):
            use()


# -- of other programs -------------------------------------------------------------------------------------------------

ROWS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


@pytest.mark.parametrize("name", ["vector", "embedding", "embeddings", "values"])
@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float32()), pa.list_(pa.float64()), pa.list_(pa.float32(), 2), pa.large_list(pa.float64())],
    ids=str,
)
def test_a_column_of_lists_is_vectors(name: str, kind: Any, tmp_path: Path) -> None:
    """Whatever width their writer took."""
    schema, found = read(
        saved(tmp_path / "a.parquet", {"id": pa.array([3, 2, 2**63], pa.uint64()), name: pa.array(ROWS, kind)})
    )
    assert schema is None
    assert same(found, [record(3, {}, [1, 2]), record(2, {}, [3, 4]), record(2**63, {}, [5, 6])])


@pytest.mark.parametrize("make_ids", [lambda ids: ids, lambda ids: pa.array(ids).dictionary_encode()])
def test_ids_may_be_text(make_ids: Callable[[list[str]], Any], tmp_path: Path) -> None:
    """Digits are an integer, as `write` makes them."""
    ids = ["12", "F47AC10B-58CC-4372-A567-0E02B2C3D479", str(2**64 - 1)]
    _, found = read(saved(tmp_path / "a.parquet", {"id": make_ids(ids), "vector": ROWS}))
    assert [each.id for each in found] == [12, "f47ac10b-58cc-4372-a567-0e02b2c3d479", 2**64 - 1]


def test_rows_without_an_id_get_the_one_that_indexing_gives(tmp_path: Path) -> None:
    """So a folder that is indexed later replaces the points of its images, and reading twice adds nothing."""
    columns = {"filename": ["a.jpg", None, "b/c.jpg"], "vector": ROWS}
    first = [each.id for each in read(saved(tmp_path / "a.parquet", columns))[1]]
    second = [each.id for each in read(saved(tmp_path / "b.parquet", columns | {"id": [None, None, 7]}))[1]]
    assert first[0] == second[0] == PathIds().allocate(filename="a.jpg", sha256="")
    assert first[1] == second[1]
    assert second[2] == 7
    assert len(set(first)) == 3
    assert all(uuid.UUID(str(point_id)).version == 5 for point_id in first)


def test_other_columns_become_the_payload(tmp_path: Path) -> None:
    """Numbers, truth values and text; what is empty, or no such thing, is left out."""
    columns = {
        "embedding": ROWS,
        "filename": ["a.jpg", None, "c.jpg"],
        "label": pa.array(["x", "y", "x"]).dictionary_encode(),
        "year": pa.array([2020, None, 2**53 + 1], pa.int64()),
        "score": [0.5, float("nan"), float("-inf")],
        "ok": [True, False, None],
        "bytes": [b"1", b"2", b"3"],
        "nested": [{"a": 1}] * 3,
        "__index_level_0__": [0, 1, 2],
        "payload": ['{"year": 1, "more": [null]}', None, "{}"],
        "a.b": ["dot"] * 3,
    }
    assert [each.payload for each in read(saved(tmp_path / "a.parquet", columns))[1]] == [
        {"filename": "a.jpg", "label": "x", "year": 1, "score": 0.5, "ok": True, "more": [None], "a.b": "dot"},
        {"label": "y", "ok": False, "a.b": "dot"},
        {"filename": "c.jpg", "label": "x", "year": 2**53 + 1, "a.b": "dot"},
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1], "vec": [[1.0]]}, r"no column of vectors \('vector', .*\); it has \['id', 'vec'\]"),
        ({"vector": [1.0]}, "'vector' must hold lists of floats, not double"),
        ({"vector": [["a"]]}, "lists of floats, not list<.*string>"),
        ({"vector": [[1, 2]]}, "lists of floats, not list<.*int64>"),
    ],
)
def test_a_file_without_vectors_is_refused_at_once(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    """With the columns that it has."""
    with pytest.raises(ConfigurationError, match=rf"a\.parquet: .*{message}"):
        read(saved(tmp_path / "a.parquet", columns))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"vector": [[1.0, 2.0], [1.0]]}, "its vector does not have 2 numbers"),
        ({"vector": [[1.0, 2.0], None]}, "has no vector"),
        ({"vector": [[1.0, 2.0], [1.0, None]]}, "holds nulls"),
        ({"vector": [[1.0, 2.0], [1.0, float("nan")]]}, "NaN"),
        ({"vector": [[1.0, 2.0], [1.0, 1e300]]}, "beyond 32-bit"),
        ({"vector": [[1.0], [1.0]], "id": [1, -1]}, "an id is an integer"),
        ({"vector": [[1.0], [1.0]], "id": ["1", "img_2"]}, "an id is an integer.*'img_2'"),
        ({"vector": [[1.0], [1.0]], "id": ["1", "9" * 5000]}, "an id is|limit"),
        ({"vector": [[1.0], [1.0]], "id": [1.0, 2.0]}, "an id is"),
        ({"vector": [[1.0], [1.0]], "payload": ["{}", "{"]}, "its payload is no JSON"),
        ({"vector": [[1.0], [1.0]], "payload": ["{}", "[]"]}, "its payload is no JSON object"),
    ],
)
def test_a_row_that_makes_no_sense_is_told_by_its_number(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Counted through all row groups."""
    ahead = 0 if columns.get("id") == [1.0, 2.0] else 300  # where the first row is wrong already
    table = pa.table(columns)
    path = tmp_path / "a.parquet"
    rows = pa.concat_tables([*[table.slice(0, 1)] * ahead, table.slice(1)])
    pq.write_table(rows, path, row_group_size=7)
    with pytest.raises(UnreadableContentError, match=rf"a\.parquet: row {ahead}: .*({message})"):
        list(read(path)[1])


def test_a_null_in_a_column_of_vectors_of_one_length_is_refused(tmp_path: Path) -> None:
    """Older releases of pyarrow do not even read it."""
    vectors = pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))
    with pytest.raises(UnreadableContentError, match=r"row 1: has no vector|damaged.*size=2"):
        list(read(saved(tmp_path / "a.parquet", {"vector": vectors}))[1])


def test_a_vector_of_no_numbers_is_refused(tmp_path: Path) -> None:
    """There is nothing to find it by."""
    with pytest.raises(UnreadableContentError, match="row 0: its vector is empty"):
        list(read(saved(tmp_path / "a.parquet", {"vector": pa.array([[]], pa.list_(pa.float32()))}))[1])


def test_vectors_of_another_length_than_the_schema_says_are_refused(tmp_path: Path) -> None:
    """Somebody shortened them and kept the label."""
    metadata = {b"multimodal_search.schema": json.dumps(SCHEMA.to_dict()).encode()}
    table = pa.table({"id": ["1"], "vector": [[1.0, 2.0]], "payload": ["{}"]}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "a.parquet")
    schema, found = read(tmp_path / "a.parquet")
    assert schema == SCHEMA
    with pytest.raises(UnreadableContentError, match="row 0: its vector does not have 4 numbers"):
        next(found)
    pq.write_table(table.replace_schema_metadata({b"multimodal_search.schema": b"{}"}), tmp_path / "a.parquet")
    with pytest.raises(UnreadableContentError, match="schema in its metadata is damaged"):
        read(tmp_path / "a.parquet")
