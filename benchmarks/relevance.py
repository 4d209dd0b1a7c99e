"""What relevance is worth: one default threshold for every model, against the best flat cut-off tuned for each.

Queries have one true match among 300 photos, or none at all; what counts are the pairs of query and hit among the ten
best of each. F1 is that of all pairs above a threshold, out of as many true ones as there are queries with a match.
`near` are queries for photos of the same collection that are not in the index, `far` are neutral texts. Half of the
library's own reference texts calibrate; the other half are the far queries.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from _common import _SHARED_PHOTOS, describe_machine
from _relevance_spaces import Array, Photos, Space, color_truths, real, synthetic, unit
from multimodal_search import ColorEmbedder, MemoryStore, Record, StoreSchema, Text, UnsupportedContentError
from multimodal_search._relevance.calibration import Calibration, calibrate
from multimodal_search._relevance.reference_bank import ReferenceBank
from multimodal_search._relevance.reference_texts import REFERENCE_TEXTS

HITS = 10
CONFIDENT = 0.97
"""The threshold on the relevance of single hits that is tried for all models."""
Flags = npt.NDArray[np.bool_]


def calibrated(space: Space, items: Array | None = None, bank: Array | None = None) -> Calibration:
    """By the library itself, with a store that is exact."""
    rows = space.items if items is None else items
    store = MemoryStore()
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=rows.shape[1]))
    store.upsert([Record(number, {"modality": space.modality}) for number in range(len(rows))], rows)
    texts = space.bank if bank is None else bank
    return calibrate(store, ReferenceBank(fingerprint="f", origin="own", text=texts, image=texts[:0]))


def best(queries: Array, items: Array, count: int = HITS) -> tuple[Array, npt.NDArray[np.intp]]:
    scores = queries @ items.T
    found = np.argsort(-scores, axis=1)[:, :count]
    return np.take_along_axis(scores, found, axis=1), found


def auc(own: npt.NDArray[np.floating], foreign: npt.NDArray[np.floating]) -> float:
    """How often a query that has a match gets a higher value than one that has none."""
    ranked = np.sort(foreign)
    return float(np.mean((np.searchsorted(ranked, own) + np.searchsorted(ranked, own, "right")) / 2) / len(ranked))


@dataclass(frozen=True)
class Pairs:
    """Scores of hits, and which are right; `wanted` is how many right ones there could be."""

    scores: Array
    right: Flags
    wanted: int

    @classmethod
    def of(cls, space: Space, foreign: Array) -> Pairs:
        own_scores, found = best(space.own, space.items)
        foreign_scores, _ = best(foreign, space.items)
        right = np.concatenate([(found == space.truth[:, np.newaxis]).ravel(), np.zeros(foreign_scores.size, bool)])
        return cls(np.concatenate([own_scores.ravel(), foreign_scores.ravel()]), right, len(space.own))

    def f1_above(self, cut: float) -> float:
        chosen = self.scores >= cut
        return 2 * float((chosen & self.right).sum()) / (float(chosen.sum()) + self.wanted)

    def best_f1(self) -> float:
        order = np.argsort(-self.scores)
        found = np.cumsum(self.right[order])
        return float((2 * found / (np.arange(1, len(order) + 1) + self.wanted)).max())


def cut_at(calibration: Calibration, space: Space, level: float) -> float:
    """The lowest score of that relevance."""
    scores = np.linspace(-1, 1, 20_001)
    reached = [score for score in scores if (calibration.relevance(space.kind, space.modality, score) or 0) >= level]
    return float(reached[0]) if reached else 2.0


def as_many(rows: Array, count: int) -> Array:
    """So many rows, repeated where there are fewer: as many foreign queries as there are others."""
    return rows[np.random.default_rng(0).permutation(max(len(rows), count))[:count] % len(rows)]


def loss(space: Space, calibration: Calibration, foreign: Array, level: float = CONFIDENT) -> tuple[float, float]:
    """The best F1 of a flat cut-off, and how many points the default threshold stays below."""
    pairs = Pairs.of(space, as_many(foreign, len(space.own)))
    tuned = pairs.best_f1()
    return tuned, 100 * (tuned - pairs.f1_above(cut_at(calibration, space, level)))


def share_found(space: Space, calibration: Calibration, queries: Array) -> float:
    """The share of queries of which at least one hit stands out."""
    if not len(queries):
        return np.nan
    return float((best(queries, space.items, 1)[0] >= cut_at(calibration, space, CONFIDENT)).mean())


def report(spaces: Sequence[Space]) -> None:
    print(
        "recall@1; AUC of queries with a match against near ones; best F1, near; points below it with near and with far"
    )
    print("queries; and the share of queries with a match, near and far, of which a hit stands out")
    print(f"{'':<55} recall   AUC     F1   near    far   match  near   far")
    losses: dict[str, list[float]] = {"near": [], "far": []}
    for space in spaces:
        calibration = calibrated(space)
        scores, hits = best(space.own, space.items, 1)
        apart = auc(scores[:, 0], best(space.near, space.items, 1)[0][:, 0])
        tuned, near = loss(space, calibration, space.near)
        far = loss(space, calibration, space.far)[1] if len(space.far) else np.nan
        for name, value in (("near", near), ("far", far)):
            losses[name] += [] if np.isnan(value) else [value]
        recall = float((hits[:, 0] == space.truth).mean())
        shares = "".join(
            f"  {share_found(space, calibration, queries):4.2f}" for queries in (space.own, space.near, space.far)
        )
        print(f"{space.name:<55} {recall:.3f}  {apart:.3f}  {tuned:.3f}  {near:5.1f}  {far:5.1f}  {shares}")
    for name, values in losses.items():
        print(
            f"  {name}: {sum(value <= 3 for value in values)} of {len(values)} within 3 points, worst {max(values):.1f}"
        )


def report_own_banks(spaces: Sequence[Space]) -> None:
    """With 120 captions of other photos of the collection as the bank: no neutral queries, but near ones."""
    print("points below the best F1 with near captions as the bank, by threshold; near queries that find at the last")
    print(f"{'':<55}  0.80   0.90  {CONFIDENT:5.2f}   near")
    for space in spaces:
        if space.captions is None:
            continue
        chosen = np.random.default_rng(0).permutation(len(space.captions))[:120]
        calibration = calibrated(space, bank=space.captions[chosen])
        cells = [loss(space, calibration, space.near, level)[1] for level in (0.8, 0.9, CONFIDENT)]
        shares = f"{share_found(space, calibration, space.near):6.2f}"
        print(f"{space.name:<55} " + "  ".join(f"{cell:5.1f}" for cell in cells) + shares)


def report_levels(spaces: Sequence[Space]) -> None:
    """Which threshold is best for all of them."""
    levels = (0.8, 0.9, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
    print("points below the best F1, near, by threshold: mean, worst, share within 3")
    table = []
    for space in spaces:
        calibration = calibrated(space)
        table.append([loss(space, calibration, space.near, level)[1] for level in levels])
    for level, values in zip(levels, np.array(table).T, strict=True):
        print(f"  {level:.2f}   {values.mean():5.1f}   {values.max():5.1f}   {(values <= 3).mean():.2f}")


def report_others(spaces: Sequence[Space]) -> None:
    """What else could be done with reference texts."""
    print(
        "AUC of queries with a match against near ones: by the best score, it as a z-score of all the query's scores,"
    )
    print("and of the bank's scores of the item; points below the best F1 by count, by fit; recall@1 by score, by CSLS")
    print(f"{'':<55} score z-score  item   count   fit   score  captions  neutral")
    for space in spaces:
        if not len(space.bank):
            continue
        own, near, reference = (queries @ space.items.T for queries in (space.own, space.near, space.bank))
        mean, spread = reference.mean(axis=0), reference.std(axis=0)
        apart = (
            auc(own.max(axis=1), near.max(axis=1)),
auc(*((scores.max(axis=1) - scores.mean(axis=1)) / scores.std(axis=1) for scores in (own, near))),
            auc(((own - mean) / spread).max(axis=1), ((near - mean) / spread).max(axis=1)),
        )  # fmt: skip
        pairs = Pairs.of(space, as_many(space.near, len(space.own)))
        tops = reference.max(axis=1)
        below = [
            100 * (pairs.best_f1() - pairs.f1_above(cut)) for cut in (np.quantile(tops, CONFIDENT), fitted_cut(tops))
        ]
        banks = [np.zeros(len(space.items), np.float32)]
        banks += [csls_penalty(space.items, space.bank if bank is None else bank) for bank in (space.captions, None)]
        recalls = [float(((own - penalty).argmax(axis=1) == space.truth).mean()) for penalty in banks]
        cells = "  ".join(f"{value:.3f}" for value in apart) + "".join(f"  {value:5.1f}" for value in below)
        print(f"{space.name:<55} {cells}   {recalls[0]:.3f}   {recalls[1]:.3f}    {recalls[2]:.3f}")


def csls_penalty(items: Array, bank: Array) -> Array:
    """Half the mean cosine of each item to its ten nearest queries (CSLS, Conneau et al. 2018)."""
    penalty: Array = np.sort(items @ bank.T, axis=1)[:, -10:].mean(axis=1) / 2
    return penalty


def fitted_cut(tops: Array) -> float:
    """Where a Gumbel distribution, fitted to the body of best scores, reaches the threshold."""
    places = (np.arange(len(tops)) + 0.5) / len(tops)
    body = (places >= 0.1) & (places <= 0.7)
    scale, location = np.polyfit(-np.log(-np.log(places[body])), np.sort(tops)[body], 1)
    return float(location - scale * np.log(-np.log(CONFIDENT)))


def _restricted(space: Space, kept: npt.NDArray[np.intp]) -> Space:
    row = np.full(len(space.items), -1)
    row[kept] = np.arange(len(kept))
    asked = row[space.truth] >= 0
    return replace(space, items=space.items[kept], own=space.own[asked], truth=row[space.truth[asked]])


def part(space: Space, count: int, seed: int) -> Space:
    """Some of the items, with the queries that belong to them."""
    return _restricted(space, np.random.default_rng(seed).permutation(len(space.items))[:count])


def subject_of(space: Space, chosen: Flags) -> Space:
    """The chosen items, with the queries that belong to them."""
    return _restricted(space, np.flatnonzero(chosen))


def report_conditions(spaces: Sequence[Space], dogs: Flags) -> None:
    """Where an index is small, has grown, or is all about one thing, or the bank is small."""
    print("points below the best F1, near")
    print(f"{'':<55} 300 items  24 items  bank of 30  doubled since  one subject")
    for space in spaces:
        small = [part(space, 24, seed) for seed in range(8)]
        subject = subject_of(space, dogs)
        few = [calibrated(space, bank=space.bank[at::2][:30]) for at in (0, 1)]
        cells = (
            loss(space, calibrated(space), space.near)[1],
            float(np.mean([loss(each, calibrated(each), each.near)[1] for each in small])),
            float(np.mean([loss(space, calibration, space.near)[1] for calibration in few]))
            if len(space.bank)
            else np.nan,
            loss(space, calibrated(space, space.items[:150]), space.near)[1],
            loss(subject, calibrated(subject), subject.near)[1],
        )
        print(f"{space.name:<55} " + "".join(f"{cell:11.1f}" for cell in cells))


def report_colors(photos: Photos) -> None:
    """Why a model that knows colours alone gets no calibration for texts."""
    items, queries, right = color_truths(photos)
    color, known = ColorEmbedder(), []
    for text in REFERENCE_TEXTS:
        with suppress(UnsupportedContentError):
            known.append(color.embed([Text(text)], role="query")[0])
    random, parts, cuts = np.random.default_rng(0), [], []
    for _ in range(20):  # five of the colours are in no image
        kept = random.permutation(np.flatnonzero(~right[:, random.permutation(11)[:5]].any(axis=1)))[:250]
        scores, found = best(queries, items[kept])
        hit = np.array([right[kept[row], number] for number, row in enumerate(found)])
        parts.append(Pairs(scores.ravel(), hit.ravel(), int(np.minimum(right[kept].sum(axis=0), HITS).sum())))
        space = Space(
            name="", kind="text", modality="image", items=unit(items[kept]), own=queries, truth=np.zeros(11, int),
            near=queries, far=queries, bank=unit(known),
        )  # fmt: skip
        cuts.append(cut_at(calibrated(space), space, CONFIDENT))
    above = np.concatenate([pairs.scores >= cut for pairs, cut in zip(parts, cuts, strict=True)])
    scores, flags = (np.concatenate([getattr(pairs, name) for pairs in parts]) for name in ("scores", "right"))
    together = Pairs(scores, flags, sum(pairs.wanted for pairs in parts))
    ours = 2 * (above & flags).sum() / (above.sum() + together.wanted)
    tuned = together.best_f1()
    print("colours by their names, 20 times among 250 photos that lack some, if calibrated with the reference texts")
    print(f"that name a colour: {100 * (tuned - ours):.1f} points below the best F1 of {tuned:.3f}")


def synthetic_spaces() -> Iterator[Space]:
    """Sizes, dimensions and noises, each plain and with what makes spaces difficult."""
    variants = [
        (False, False, False, 0.0),
        (True, False, False, 0.0),
        (False, True, False, 0.0),
        (False, False, True, 0.0),
    ]
    variants += [(False, False, False, 0.2), (True, True, True, 0.2)]
    seed = 0
    for count, dimension in ((100, 64), (1000, 64), (1000, 512), (20_000, 64)):
        for noise in (0.8, 1.5, 2.5):
            for gap, hubs, groups, matching in variants:
                if count < 20_000 or not (gap or hubs or matching):
                    seed += 1
                    yield synthetic(
                        count, dimension, noise, gap=gap, hubs=hubs, groups=groups, matching=matching, seed=seed
                    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=_SHARED_PHOTOS.parent, help="images/ and captions.csv")
    parser.add_argument("--models", action="store_true", help="two small real models too; see _relevance_models.py")
    options = parser.parse_args()
    print(describe_machine("numpy"))
    print(f"threshold {CONFIDENT} on relevance, for all")
    spaces: list[Space] = []
    if (options.folder / "captions.csv").exists():
        photos = Photos(options.folder)
        spaces += real(photos)
        if options.models:
            from _relevance_models import spaces as of_models

            spaces += of_models(photos)
        report(spaces)
        report_levels(spaces)
        report_own_banks(spaces)
        report_others(spaces)
        about = [any("dog" in photos.texts[row].lower().split() for row in rows) for rows in photos.of_photo]
        report_conditions(spaces, np.array(about)[photos.indexed])
        report_colors(photos)
    else:
        print(f"no photos with captions in {options.folder}: synthetic spaces only")
    made = list(synthetic_spaces())
    report(made)
    report_levels(made)


if __name__ == "__main__":
    main()
