"""Whether damage to an index's files is noticed: each file of an index deleted, cut off, garbled, swapped or of before.

    python benchmarks/damage.py [POINTS] [SHARE]

Every copy is damaged in one place. Then opening must raise a StoreError, or `verify` must find it, or everything must
be there and found. It prints each copy that passes and is wrong, and how many there were of each outcome.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from multimodal_search import MultimodalSearchError, QdrantEdgeStore, Record
from multimodal_search._indexing.integrity import verify
from multimodal_search.types import FloatArray, StoreSchema

SCHEMA = StoreSchema(model="m", fingerprint="m-1", dimension=32)
Damage = Callable[[Path], None]


def vectors(points: int) -> FloatArray:
    """As many vectors, the same each time."""
    return np.random.default_rng(0).standard_normal((points, SCHEMA.dimension)).astype(np.float32)


def payload(number: int) -> dict[str, object]:
    """The payload of a point."""
    return {"filename": f"{number % 97}/{number}.jpg", "n": number, "modality": "image"}


def fill(path: Path, points: int, *, optimize: bool, kill: bool, older: Path | None = None) -> None:
    """Make an index; `older` gets a copy of it as it is at two thirds."""
    store = QdrantEdgeStore(path)
    store.ensure(SCHEMA)
    rows, most = vectors(points), points * 2 // 3
    store.upsert([Record(number, {"old": number}) for number in range(most)], rows[:most])
    store.set_index_metadata("calibration", "some text " * 100)
    store.close()
    if older is not None:
        shutil.copytree(path, older)
    store = QdrantEdgeStore(path)
    store.ensure(SCHEMA)
    store.upsert([Record(number, payload(number)) for number in range(points)], rows)
    if optimize:
        store.optimize()
    changed = [*range(0, points, 50), points]
    store.upsert([Record(number, payload(number)) for number in changed], vectors(points + 1)[changed])
    store.delete([points])
    if kill:
        os._exit(0)  # as kill -9: nothing is flushed or closed
    store.close()


def damages(path: Path, older: Path) -> Iterator[tuple[str, Damage]]:
    """What can happen to an index in `path`: a name, and what does it to a copy."""
    files = sorted(each.relative_to(path) for each in path.rglob("*") if each.is_file())
    files = [file for file in files if file.name not in ("lock", "lock.json", "optimize.lock", "optimize.lock.json")]
    for file in files:
        size = (path / file).stat().st_size
        yield f"delete {file}", lambda copy, file=file: (copy / file).unlink()
        for length in {0, size // 2, size - 1} - {size, -1}:
            yield f"cut {file} to {length}", lambda copy, file=file, length=length: os.truncate(copy / file, length)
        data = _data(path / file)
        if data:
            places = {data[0], data[len(data) // 2], data[-1]}
            for at in sorted(places):
                yield f"flip a bit of {file} at {at}", lambda copy, file=file, at=at: _flip(copy / file, at)
                yield f"garble {file} at {at}", lambda copy, file=file, at=at: _write(copy / file, at, 40_000, None)
            page = data[len(data) // 2] // 4096 * 4096
            yield f"zero a page of {file} at {page}", lambda copy, file=file, at=page: _write(copy / file, at, 4096, 0)
        if (older / file).exists() and (older / file).read_bytes() != (path / file).read_bytes():
            yield f"{file} of before", lambda copy, file=file: _copy(older / file, copy / file)
    for first, second in itertools.pairwise(files):
        if first.suffix == second.suffix and (path / first).read_bytes() != (path / second).read_bytes():
            yield f"swap {first} and {second}", lambda copy, a=first, b=second: _swap(copy / a, copy / b)
    for segment in sorted((path / "shard" / "segments").iterdir()):
        yield f"remove {segment.name}", lambda copy, name=segment.name: shutil.rmtree(copy / "shard/segments" / name)


def outcome(path: str, points: int) -> str:
    """What an index says of itself, and what is true."""
    warnings.simplefilter("ignore")
    store = QdrantEdgeStore(path)
    try:
        schema = store.ensure(SCHEMA)
        report = verify(store, schema, lambda event: None)
    except MultimodalSearchError as error:
        return f"refused: {type(error).__name__}: {str(error)[:150]}"
    except BaseException as error:  # noqa: BLE001 (what is counted)
        return f"BARE: {type(error).__name__}: {str(error)[:150]}"
    if not report.ok:
        return f"found: {report.problems[0][:150]}"
    try:
        wrong = _wrong(store, schema, points)
        store.close()
    except BaseException as error:  # noqa: BLE001 (what is counted)
        return f"WRONG: {type(error).__name__} {str(error)[:150]}"
    return f"WRONG: {wrong}" if wrong else "right"


def _wrong(store: QdrantEdgeStore, schema: StoreSchema, points: int) -> str:
    rows = vectors(points)
    if schema != SCHEMA:
        return f"schema {schema}"
    if store.count() != points:
        return f"{store.count()} points"
    if store.get_index_metadata("calibration") != "some text " * 100:
        return "the note"
    records = store.get(range(points), with_vectors=True)
    if any(record is None or record.payload != payload(number) for number, record in enumerate(records)):
        return "payloads"
    step = max(1, points // 500)
    found = store.search(rows[::step], limit=1)
    lost = sum(not page or page[0].id != number * step for number, page in enumerate(found))
    if lost:
        return f"{lost} of {len(found)} vectors do not find themselves"
    missed = sum(store.count({"filename": payload(number)["filename"]}) != 1 for number in range(0, points, step * 5))
    if missed:
        return f"{missed} file names are not found"
    if store.count({"modality": "image"}) != points:
        return "modality"
    return ""


def _in_child(path: Path, points: int) -> str:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(120)
        os.write(writer, outcome(str(path), points).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said if status == 0 else f"DIED: {status}"


def _data(path: Path) -> list[int]:
    content = np.frombuffer(path.read_bytes(), np.uint8)
    return [int(at) for at in np.flatnonzero(content)]


def _flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def _write(path: Path, at: int, count: int, value: int | None) -> None:
    count = min(count, path.stat().st_size - at)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(random.Random(at).randbytes(count) if value is None else bytes(count))


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def _swap(first: Path, second: Path) -> None:
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


def _sparse_copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", "--sparse=always", str(source), str(target)], check=True)


def main(points: int, share: float) -> None:
    """Damage an index in every way, and print what comes of it."""
    chosen = random.Random(0)
    totals = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for optimize in (False, True):
            for kill in (False, True):
                name = f"{'' if optimize else 'not '}optimized, {'killed' if kill else 'closed'}"
                good, older = Path(folder, f"good-{optimize}-{kill}"), Path(folder, f"older-{optimize}-{kill}")
                pid = os.fork()
                if not pid:
                    fill(good, points, optimize=optimize, kill=kill, older=older)
                    os._exit(0)
                os.waitpid(pid, 0)
                counts = Counter[str]()
                cases = [("none", lambda copy: None), *damages(good, older)]
                for case, damage in cases:
                    if case != "none" and chosen.random() >= share:
                        continue
                    copy = Path(folder, "copy")
                    _sparse_copy(good, copy)
                    damage(copy)
                    said = _in_child(copy, points)
                    kind = said.partition(":")[0]
                    counts[kind] += 1
                    if kind in ("WRONG", "BARE", "DIED") or (case == "none" and kind != "right"):
                        print(f"{name}: {case}: {said}", flush=True)
                    shutil.rmtree(copy)
                print(f"{name}: {dict(counts)}", flush=True)
                totals += counts
    print(f"all: {dict(totals)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 11_000, float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
