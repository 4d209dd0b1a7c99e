"""What a verdict is worth: how often it is right, by words, by images and by both, in indexes of 100 to 15,534 photos.

In a small real text-image space (see `--space`). Queries with an answer are captions of indexed photos, crops of them
(the middle 75 %, and a mirrored, darker one of 60 %), and both together; queries without one are texts about what is on
no photo, photos of clothes and of flowers, and both together.

Queries are in two halves: captions and crops by their photo, far texts and far images. `--choose` chooses thresholds
with one half; what is reported is measured with the other. The indexed photos are the same for both. So are the numbers
inside the calibration (size of the sample, where copies end, the part that tails are fitted to): those were found by
trying, with queries of both halves.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from _common import _SHARED_PHOTOS, describe_machine
from multimodal_search import MemoryStore, QdrantEdgeStore, Record, StoreSchema
from multimodal_search._relevance.calibration import Calibration, calibrate
from multimodal_search._relevance.reference_bank import QueryKind, ReferenceBank
from multimodal_search._relevance.reference_texts import REFERENCE_TEXTS
from multimodal_search._relevance.thresholds import DEFAULT_THRESHOLDS

Array = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
Relevances = npt.NDArray[np.float64]

AIMED: Mapping[QueryKind, tuple[str, str]] = {
    "text": ("captions", "far texts"),
    "image": ("centre crops", "far images"),
    "mixture": ("caption + crop", "far text + image"),
}
"""Queries of each kind with an answer, and without one, that thresholds are chosen by."""

SIXTY = (
    "an X-ray of a knee", "a spreadsheet with sales figures", "a slice of tiramisu", "a violin and its bow",
    "the cockpit of an airliner", "a printed circuit board", "an octopus under water", "an electron microscope image",
    "a chess board in the middle of a game", "a stained glass window", "a nuclear power plant", "a map of Portugal",
    "a bottle of olive oil", "an open refrigerator", "a panda eating bamboo", "a rocket on its launch pad",
    "a sheet of music", "a wind turbine", "an escalator in a department store", "a cuckoo clock", "a bar of soap",
    "a screenshot of an email", "a prescription for tablets", "the surface of Mars", "a jellyfish", "a cactus in a pot",
    "an empty parking garage", "a crossroads from above", "a penguin colony", "a cheese board", "a washing machine",
    "a scanned birth certificate", "a hand-drawn family tree", "a blood cell", "a steam engine", "a suspension bridge",
    "a marble bust of a philosopher", "an avocado cut in half", "a pair of scissors", "a row of vending machines",
    "a tax form", "the ceiling of a cathedral", "a server rack", "a hedgehog in a garden", "a gas station at night",
    "an oil lamp", "a box of chocolates", "a logo of a bank", "a phone with a cracked screen", "a beaver dam",
    "a bunch of keys", "an ironing board", "a plate of sushi", "a container ship", "a bathtub", "a dental X-ray",
    "a weather chart", "an iguana on a branch", "a coffee grinder", "a tax adviser's office",
)  # fmt: skip


@dataclass(frozen=True)
class Data:
    """The space: photos with captions and crops, and photos of other things."""

    space: ModuleType
    photos: Array
    clothes: Array
    flowers: Array
    captions: Array
    captioned: Rows  # the photo of each caption
    centre: Array
    hard: Array
    cropped: Rows  # the photo of each crop
    bank: Array
    far: Mapping[str, Array]  # texts, by half

    @classmethod
    def read(cls, folder: Path, captions: Path) -> Data:
        spec = importlib.util.spec_from_file_location("space", folder / "space.py")
        assert spec is not None
        assert spec.loader is not None
        space = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(space)
        _, hashes, photos = space.images("flickr8k")
        row = {str(digest): at for at, digest in enumerate(hashes)}
        with captions.open(encoding="utf-8", newline="") as file:
            given = [(each["filename"], each["caption"]) for each in csv.DictReader(file) if each["language"] == "en"]
        names = {name for name, _ in given}
        photo_of = {
            name: row[hashlib.sha256((captions.parent / "images" / name).read_bytes()).hexdigest()] for name in names
        }
        cropped, centre, hard = space.crops()
        lines = (folder / "far.txt").read_text(encoding="utf-8").splitlines()
        return cls(
            space=space,
            photos=photos,
            clothes=space.images("clothing")[2],
            flowers=space.images("flowers")[2],
            captions=space.embed_texts([caption for _, caption in given]),
            captioned=np.array([photo_of[name] for name, _ in given]),
            centre=centre,
            hard=hard,
            cropped=np.array([row[str(digest)] for digest in cropped]),
            bank=space.embed_texts(list(REFERENCE_TEXTS)),
            far={"choose": space.embed_texts(list(SIXTY)), "report": space.embed_texts(list(filter(None, lines)))},
        )

    def half(self, name: str) -> Rows:
        """The photos with captions of one half."""
        tested = np.random.default_rng(0).permutation(np.unique(self.captioned))
        return np.sort(tested[::2] if name == "choose" else tested[1::2])


@dataclass(frozen=True)
class Case:
    """One index, and what is asked of it."""

    name: str
    items: Array
    photos: Rows  # of the items, by their first rows
    far_images: Array
    ids: Rows | None = None


class ExactStore(MemoryStore):
    """Searches with one product of matrices."""

    def __init__(self, items: Array, ids: Rows) -> None:
        super().__init__()
        self.ensure(StoreSchema(model="m", fingerprint="f", dimension=items.shape[1]))
        self.upsert([Record(int(number), {"modality": "image"}) for number in ids], items)
        self._items, self._ids = items, ids

    def search(self, vectors: Array, /, *, limit: int, offset: int = 0, where: Any = None) -> Any:
        from multimodal_search import Match

        scores = vectors @ self._items.T
        most = min(limit, len(self._items) - 1)
        found = np.argpartition(-scores, most, axis=1)[:, :limit]
        pages = []
        for row, near in zip(scores, found, strict=True):
            best = near[np.argsort(-row[near])]
            pages.append([Match(int(self._ids[at]), float(row[at]), {"modality": "image"}) for at in best])
        return pages


def unit(rows: Array) -> Array:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def calibrated(data: Data, case: Case) -> Calibration:
    ids = np.random.default_rng(1).permutation(len(case.items)) if case.ids is None else case.ids
    store = ExactStore(case.items, ids)
    return calibrate(store, ReferenceBank(fingerprint="f", origin="own", text=data.bank, image=data.bank[:0]))


def queries_of(data: Data, case: Case, half: str) -> Iterator[tuple[str, QueryKind, Array]]:
    """What is asked: a name, the kind, and vectors."""
    there = np.intersect1d(data.half(half), case.photos)
    captions = np.isin(data.captioned, there)
    crops = np.isin(data.cropped, there)
    far, images = data.far[half], case.far_images
    yield "captions", "text", data.captions[captions]
    yield "far texts", "text", far
    yield "centre crops", "image", data.centre[crops]
    yield "hard crops", "image", data.hard[crops]
    if len(images):
        yield "far images", "image", images
    first = {photo: at for at, photo in reversed(list(enumerate(data.captioned)))}
    words = data.captions[[first[photo] for photo in data.cropped[crops]]]
    yield "caption + crop", "mixture", unit(words + data.centre[crops])
    if len(images):
        yield "far text + image", "mixture", unit(far[np.arange(len(images)) % len(far)] + images)


def relevances(calibration: Calibration, kind: QueryKind, queries: Array, items: Array) -> Relevances:
    best = np.concatenate([(some @ items.T).max(axis=1) for some in np.array_split(queries, -(-len(queries) // 500))])
    return np.array([calibration.relevance(kind, "image", float(score)) for score in best])


def cases_of(data: Data, half: str) -> Iterator[list[Case]]:
    """Indexes; each a list of draws that are averaged."""
    cut = slice(0, None, 6) if half == "choose" else slice(3, None, 6)
    clothes, flowers = data.clothes[cut], data.flowers[cut]
    both = np.concatenate([clothes, flowers])
    tested = np.unique(data.captioned)
    rest = np.setdiff1d(np.arange(len(data.photos)), tested)

    def case(name: str, rows: Rows, *more: Array, far: Array = both) -> Case:
        return Case(name, np.concatenate([data.photos[rows], *more]), rows, far)

    for count, draws in ((100, 10), (300, 6), (1000, 1), (3000, 1)):
        drawn = [np.random.default_rng(seed) for seed in range(draws)]
        yield [
            case(
                f"{count:,} photos",
                np.concatenate([random.permutation(tested)[:count], random.permutation(rest)[: max(0, count - 1000)]]),
            )
            for random in drawn
        ]
    everything = np.arange(len(data.photos))
    none = data.clothes[:0]
    yield [case("8,086 photos", everything)]
    yield [case("8,086 and 3,781 of clothes", everything, data.clothes, far=flowers)]
    yield [case("8,086 and 3,667 of flowers", everything, data.flowers, far=clothes)]
    yield [case("all 15,534", everything, data.clothes, data.flowers, far=none)]
    yield [case("1,000 and 3,781 of clothes", tested, data.clothes, far=flowers)]
    yield [case("1,000, each three times", tested, data.photos[tested], data.photos[tested])]
    noisy = data.space.noisy_copies
    yield [case("1,000 and 3,000 noisy copies", tested, noisy(data.photos[tested], 3000))]
    yield [case("8,086 and 8,086 noisy copies", everything, noisy(data.photos, 8086))]
    order = np.arange(len(everything) + len(data.clothes))
    mixed = np.concatenate([data.photos, data.clothes])
    yield [Case("clothes have the first ids", mixed, everything, flowers, np.roll(order, len(data.clothes)))]


def found_in(data: Data, half: str) -> Iterator[tuple[str, dict[str, tuple[QueryKind, list[Relevances]]]]]:
    """For each index its name, and by what is asked, the kind and the best relevances of each draw."""
    for draws in cases_of(data, half):
        found: dict[str, tuple[QueryKind, list[Relevances]]] = {}
        for case in draws:
            calibration = calibrated(data, case)
            for asked, kind, queries in queries_of(data, case, half):
                best = relevances(calibration, kind, queries, case.items)
                found.setdefault(asked, (kind, []))[1].append(best)
        yield draws[0].name, found


def report(data: Data, half: str) -> None:
    print("share of queries with the verdict nothing / match, of those with an answer there, and of far ones")
    named = (*AIMED["text"], "centre crops", "hard crops", "far images", *AIMED["mixture"])
    print("| index | " + " | ".join(named) + " |")
    print("| --- |" + " --- |" * len(named))
    for index, found in found_in(data, half):
        cells = []
        for asked in named:
            if asked not in found:
                cells.append("-")
                continue
            kind, best = found[asked]
            low, high = DEFAULT_THRESHOLDS[kind]
            nothing, match = (
                np.mean([shares.mean() for shares in said])
                for said in ([each < low for each in best], [each >= high for each in best])
            )
            cells.append(f"{100 * nothing:.0f} / {100 * match:.0f}")
        print(f"| {index} | " + " | ".join(cells) + " |", flush=True)


def choose(data: Data) -> None:
    """Of the multiples of 0.05, those at which the aim that is missed by most, in any index, is missed by least.

    The aims: nothing for at most 5 % of what is there and at least 50 % of what is far, a match for at least 50 % and
    at most 10 %.
    """
    levels = np.arange(1, 20) / 20
    below: dict[str, list[npt.NDArray[np.float64]]] = {}
    for _, found in found_in(data, "choose"):
        for asked, (_, best) in found.items():
            shares = [(each[:, None] < levels).mean(axis=0) for each in best]
            below.setdefault(asked, []).append(np.mean(shares, axis=0))
    for kind, (there, far) in AIMED.items():
        answered, lost = np.array(below[there]).max(axis=0), np.array(below[far])
        nothing = np.maximum(answered - 0.05, 0.5 - lost.min(axis=0))
        match = np.maximum(answered - 0.5, 0.9 - lost.min(axis=0))
        low, high = nothing.argmin(), match.argmin()
        missed = f"missed by {100 * nothing[low]:.1f} and {100 * match[high]:.1f} points at most"
        print(f"{kind}: {levels[low]:.2f} and {levels[high]:.2f}, {missed}")


def time_calibration(data: Data, count: int = 20_000) -> None:
    """How long it takes to calibrate an index in a folder anew, with texts that are embedded already."""
    items = np.concatenate([data.photos, data.clothes, data.flowers])
    items = np.concatenate([items, data.space.noisy_copies(items, count - len(items))])
    bank = ReferenceBank(fingerprint="f", origin="own", text=data.bank, image=data.bank[:0])
    with tempfile.TemporaryDirectory() as folder, closing(QdrantEdgeStore(Path(folder) / "index")) as store:
        store.ensure(StoreSchema(model="m", fingerprint="f", dimension=items.shape[1]))
        for start in range(0, count, 1000):
            rows = items[start : start + 1000]
            store.upsert([Record(start + at, {"modality": "image"}) for at in range(len(rows))], rows)
        for state in ("without a graph", "with a graph"):
            if state == "with a graph":
                store.optimize()
            seconds = []
            for _ in range(3):
                began = time.perf_counter()
                calibrate(store, bank)
                seconds.append(time.perf_counter() - began)
            print(f"calibrating {count:,} points {state}: {min(seconds):.2f} to {max(seconds):.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    shared = _SHARED_PHOTOS.parents[1]
    parser.add_argument("--space", type=Path, default=shared / "space", help="a folder with space.py and its data")
    parser.add_argument("--captions", type=Path, default=shared / "flickr8k_test" / "captions.csv")
    parser.add_argument("--half", choices=("choose", "report"), default="report", help="of the queries, for the table")
    parser.add_argument("--choose", action="store_true", help="choose thresholds first")
    parser.add_argument("--time", action="store_true", help="only measure how long calibrating takes")
    options = parser.parse_args()
    print(describe_machine("numpy"))
    data = Data.read(options.space, options.captions)
    if options.time:
        time_calibration(data)
        return
    if options.choose:
        choose(data)
    report(data, options.half)


if __name__ == "__main__":
    main()
