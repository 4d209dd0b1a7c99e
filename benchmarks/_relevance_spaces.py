"""Spaces to measure relevance in: of real photos and captions, trained on the spot, and synthetic ones."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageEnhance

from multimodal_search import ColorEmbedder, Image, Text
from multimodal_search._relevance.reference_texts import REFERENCE_TEXTS

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Space:
    """Items, queries that have one true match among them, and queries that have none.

    `near` are queries of the same world as the items (captions of photos that are not there), `far` of any other.
    """

    name: str
    kind: Literal["text", "image"]
    modality: Literal["text", "image"]
    items: Array
    own: Array
    truth: npt.NDArray[np.intp]
    near: Array
    bank: Array  # neutral texts; of no rows for queries by image
    far: Array  # other neutral texts
    captions: Array | None = None  # a bank for hub correction


def unit(rows: npt.ArrayLike) -> Array:
    array = np.asarray(rows, np.float64)
    return (array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12)).astype(np.float32)


class Photos:
    """The thousand photos with their captions, in three parts: to train on, indexed, and not there."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted((folder / "images").glob("*.jpg"))
        number = {path.name: at for at, path in enumerate(self.files)}
        with (folder / "captions.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self.texts = [row["caption"] for row in rows]
        self.photo = np.array([number[row["filename"]] for row in rows])
        self.english = np.array([row["language"] == "en" for row in rows])
        self.language = np.array([row["language"] for row in rows])
        order = np.random.default_rng(1).permutation(len(self.files))
        self.trained, self.indexed, self.absent = np.sort(order[:400]), np.sort(order[400:700]), np.sort(order[700:])
        self.row = {photo: row for row, photo in enumerate(self.indexed)}

    def captions_of(self, photos: npt.NDArray[np.intp], language: str = "en") -> npt.NDArray[np.intp]:
        return np.flatnonzero(np.isin(self.photo, photos) & (self.language == language))

    @cached_property
    def of_photo(self) -> npt.NDArray[np.intp]:
        """Shape (photos, 5): the English captions of each."""
        return np.array([np.flatnonzero(self.english & (self.photo == at)) for at in range(len(self.files))])

    @cached_property
    def images(self) -> list[PIL.Image.Image]:
        return [PIL.Image.open(path).convert("RGB") for path in self.files]

    @cached_property
    def changed(self) -> list[PIL.Image.Image]:
        """Each photo cropped to half its area or so, and brighter or darker: queries whose truth is known."""
        random = np.random.default_rng(0)

        def change(image: PIL.Image.Image) -> PIL.Image.Image:
            side = int(min(image.size) * random.uniform(0.6, 0.85))
            left, top = random.integers(0, image.width - side), random.integers(0, image.height - side)
            crop = image.crop((left, top, left + side, top + side))
            return PIL.ImageEnhance.Brightness(crop).enhance(random.uniform(0.75, 1.25))

        return [change(image) for image in self.images]

    def by_text(self, name: str, items: Array, texts: Array, neutral: Array, **other: str) -> Space:
        """Images as items, one row a photo; captions as queries, one row a caption."""
        own = self.captions_of(self.indexed, other.get("language", "en"))
        near = self.captions_of(self.absent, other.get("language", "en"))
        neutral = neutral[neutral.any(axis=1)]
        return Space(
            name=name,
            kind="text",
            modality="image",
            items=unit(items[self.indexed]),
            own=unit(texts[own]),
            truth=np.array([self.row[photo] for photo in self.photo[own]]),
            near=unit(texts[near]),
            bank=unit(neutral[::2]),
            far=unit(neutral[1::2]),
            captions=unit(texts[self.captions_of(self.trained)]),
        )

    def text_to_text(self, name: str, texts: Array, neutral: Array) -> Space:
        """The first caption of each photo as the item, the others as queries."""
        own, near = self.of_photo[self.indexed, 1:], self.of_photo[self.absent, 1:]
        neutral = neutral[neutral.any(axis=1)]
        return Space(
            name=name,
            kind="text",
            modality="text",
            items=unit(texts[self.of_photo[self.indexed, 0]]),
            own=unit(texts[own.ravel()]),
            truth=np.repeat(np.arange(len(own)), own.shape[1]),
            near=unit(texts[near.ravel()]),
            bank=unit(neutral[::2]),
            far=unit(neutral[1::2]),
            captions=unit(texts[self.captions_of(self.trained)]),
        )

    def by_image(self, name: str, images: Array, changed: Array) -> Space:
        none = np.empty((0, images.shape[1]), np.float32)
        return Space(
            name=name,
            kind="image",
            modality="image",
            items=unit(images[self.indexed]),
            own=unit(changed[self.indexed]),
            truth=np.arange(len(self.indexed)),
            near=unit(changed[self.absent]),
            bank=none,
            far=none,
        )

    def described(self, name: str, texts: Array, neutral: Array, seen: Array, share: float) -> Space:
        """An image model as good as one likes: it knows four captions of each photo, the query is the fifth.

        Args:
            seen: What a weak model makes of each photo, in the same space.
            share: How much of the vector comes from the captions.
        """
        items = share * unit(texts[self.of_photo[:, 1:]].mean(axis=1)) + (1 - share) * unit(seen)
        neutral = neutral[neutral.any(axis=1)]
        return Space(
            name=name,
            kind="text",
            modality="image",
            items=unit(items[self.indexed]),
            own=unit(texts[self.of_photo[self.indexed, 0]]),
            truth=np.arange(len(self.indexed)),
            near=unit(texts[self.of_photo[self.absent, 0]]),
            bank=unit(neutral[::2]),
            far=unit(neutral[1::2]),
            captions=unit(texts[self.captions_of(self.trained)]),
        )


def aligned(images: Array, texts: Array, photos: Photos, neutral: Array, *, dimension: int) -> tuple[Array, ...]:
    """Canonical correlation analysis of images and captions, regularised, learnt from the photos to train on."""
    rows = photos.captions_of(photos.trained)
    x, y = images[photos.photo[rows]].astype(np.float64), texts[rows].astype(np.float64)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - x_mean, y - y_mean

    def whiten(block: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        covariance = block.T @ block / len(block)
        covariance += 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        values, vectors = np.linalg.eigh(covariance)
        whitened: npt.NDArray[np.float64] = vectors / np.sqrt(np.maximum(values, 1e-9)) @ vectors.T
        return whitened

    x_white, y_white = whiten(x), whiten(y)
    left, correlations, right = np.linalg.svd(x_white @ (x.T @ y / len(x)) @ y_white, full_matrices=False)
    x_map = x_white @ left[:, :dimension] * correlations[:dimension]
    y_map = y_white @ right[:dimension].T * correlations[:dimension]
    return unit((images - x_mean) @ x_map), unit((texts - y_mean) @ y_map), unit((neutral - y_mean) @ y_map)


def predicted(images: Array, texts: Array, photos: Photos) -> Array:
    """What ridge regression makes of each photo: the mean of its captions' vectors, as far as pixels tell."""
    x, target = unit(images).astype(np.float64), texts[photos.of_photo].mean(axis=1).astype(np.float64)
    mean, target_mean = x[photos.trained].mean(axis=0), target[photos.trained].mean(axis=0)
    known = x[photos.trained] - mean
    weights = np.linalg.solve(
        known.T @ known + 2 * np.eye(known.shape[1]), known.T @ (target[photos.trained] - target_mean)
    )
    return ((x - mean) @ weights + target_mean).astype(np.float32)


class Words:
    """Bags of words, or of pieces of words, weighted by TF-IDF, known from the captions to train on."""

    def __init__(self, texts: Sequence[str], *, pieces: bool) -> None:
        self._pieces = pieces
        counts = Counter(term for text in texts for term in set(self._terms(text)))
        kept = [term for term, count in counts.most_common(4000) if count > 1]
        self._column = {term: column for column, term in enumerate(kept)}
        self._idf = np.log(len(texts) / np.array([counts[term] for term in kept])) + 1

    def _terms(self, text: str) -> list[str]:
        words = re.findall(r"\w+", text.lower())
        if not self._pieces:
            return words
        return [f" {word} "[at : at + 3] for word in words for at in range(len(word))]

    def __call__(self, texts: Sequence[str]) -> Array:
        rows = np.zeros((len(texts), len(self._column)), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for term, count in Counter(self._terms(text)).items():
                if (column := self._column.get(term)) is not None:
                    row[column] = (1 + np.log(count)) * self._idf[column]
        return rows


def outlines(image: PIL.Image.Image) -> Array:
    """Histograms of gradients, eight directions in each of 4 x 4 fields."""
    gray = np.asarray(image.convert("L").resize((64, 64)), np.float32) / 255
    down, right = np.gradient(gray)
    direction = ((np.arctan2(down, right) + np.pi) / (2 * np.pi) * 8).astype(int) % 8
    field = np.arange(64)[:, np.newaxis] // 16 * 4 + np.arange(64) // 16
    return np.bincount((field * 8 + direction).ravel(), np.hypot(down, right).ravel(), 128).astype(np.float32)


def real(photos: Photos) -> Iterator[Space]:
    """What can be had without any weights."""
    color = ColorEmbedder()
    colors = color.embed([Image(image) for image in photos.images], role="document")
    changed = color.embed([Image(image) for image in photos.changed], role="query")
    yield photos.by_image("colours", colors, changed)
    seen = np.hstack([colors, unit([outlines(image) for image in photos.images])])
    known = [photos.texts[row] for row in photos.captions_of(photos.trained)]
    pieces = Words(known, pieces=True)
    yield photos.text_to_text("pieces of words", pieces(photos.texts), pieces(REFERENCE_TEXTS))
    words = Words(known, pieces=False)
    texts, neutral = words(photos.texts), words(REFERENCE_TEXTS)
    yield photos.text_to_text("words", texts, neutral)
    images, captions, far = aligned(seen, texts, photos, neutral, dimension=64)
    yield photos.by_text("colours and outlines, aligned with words", images, captions, far)
    _, _, basis = np.linalg.svd(texts[photos.captions_of(photos.trained)], full_matrices=False)
    texts, neutral = texts @ basis[:200].T, neutral @ basis[:200].T
    guess = predicted(seen, texts, photos)
    for share in (0.3, 0.6, 1.0):
        yield photos.described(f"described by words, {share}", texts, neutral, guess, share)


def color_truths(photos: Photos) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """Images and the 11 basic colours as ColorEmbedder sees them, and which images hold much of which colour.

    That is measured without it: the share of pixels within plain bounds of hue, saturation and value.
    """
    names = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
    color = ColorEmbedder()
    shares = []
    for image in photos.images:
        hue, saturation, value = np.moveaxis(np.asarray(image.resize((64, 64)).convert("HSV"), int), -1, 0)
        black, pale = value < 50, saturation < 40
        vivid = ~black & ~pale
        bounds = (
            vivid & ((hue < 9) | (hue > 245)) & (saturation > 130) & (value > 90),
            vivid & (hue >= 9) & (hue < 30) & (saturation > 150) & (value > 150),
            vivid & (hue >= 30) & (hue < 48) & (saturation > 115) & (value > 128),
            vivid & (hue >= 48) & (hue < 117),
            vivid & (hue >= 128) & (hue < 180),
            vivid & (hue >= 180) & (hue < 213),
            vivid & (hue >= 213) & (hue <= 245) & (value > 128),
            vivid & (hue >= 7) & (hue < 32) & (value < 150) & (saturation > 60),
            black,
            ~black & pale & (value > 215),
            ~black & pale & (value <= 215),
        )
        shares.append([bound.mean() for bound in bounds])
    table = np.array(shares)
    return (
        color.embed([Image(image) for image in photos.images], role="document"),
        color.embed([Text(name) for name in names], role="query"),
        table >= np.maximum(0.15, np.quantile(table, 0.93, axis=0)),
    )


def synthetic(
    count: int, dimension: int, noise: float, *, gap: bool, hubs: bool, groups: bool, matching: float, seed: int
) -> Space:
    """Random items; a query is an item seen through noise. `near` is of the items' groups, `far` of others.

    Args:
        noise: Of queries, relative to the item.
        gap: Whether queries and items lie on two sides.
        hubs: Whether all have much in common.
        groups: Whether items come fifty to a group; else each is a group of its own.
        matching: The share of reference queries that are of the items' groups.
    """
    random = np.random.default_rng(seed)

    def draw(rows: int) -> Array:
        return (random.standard_normal((rows, dimension)) / np.sqrt(dimension)).astype(np.float32)

    def around(centres: Array, rows: int) -> Array:
        return centres[random.integers(0, len(centres), rows)] + 1.5 * draw(rows)

    topics, others = draw(max(8, count // 50) if groups else 20_000), draw(20_000)
    common, side = draw(1) * (1.5 if hubs else 0), draw(1) * (1.5 if gap else 0)
    items = around(topics, count)
    chosen = random.integers(0, count, 400)

    def query(rows: Array) -> Array:
        return unit(unit(rows) + noise * draw(len(rows)) + common + side)

    matched = round(100 * matching)
    flags = ", gap" * gap + ", hubs" * hubs + ", groups" * groups + ", bank matches" * (matching > 0)
    return Space(
        name=f"{count:,} x {dimension}, noise {noise}{flags}",
        kind="text",
        modality="image",
        items=unit(unit(items) + common - side),
        own=query(items[chosen]),
        truth=chosen,
        near=query(around(topics, 400)),
        far=query(around(others, 400)),
        bank=query(np.concatenate([around(others, 100 - matched), items[random.integers(0, count, matched)]])),
    )
