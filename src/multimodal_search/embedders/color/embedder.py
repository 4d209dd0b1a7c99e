"""Images by their colours and texts by their colour words, in one space: no account, no weights, no network."""

from __future__ import annotations

import functools
import math
import os
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from multimodal_search.contents import Content, Image, Mixed, Text
from multimodal_search.embedders.color.words import PLACES, SHADES, TERMS, read_mentions
from multimodal_search.embedders.registry import EmbedderRef
from multimodal_search.errors import UnsupportedContentError
from multimodal_search.media.images import load_rgb
from multimodal_search.types import EmbedderSpec, FloatArray, Role

# What each shade looks like, in sRGB. Nearly all are answers that thousands of people gave to the xkcd colour survey
# (R. Munroe, 2010, xkcd.com/color/rgb.txt, CC0) for that name or a near one ("dusty blue"); the few others are from
# CSS Color Module Level 4. Several a shade, because photos hold few focal colours and many dull ones.
_PALETTE = {
    "black": "000000 070d0d 1d0200 00022e 1b2431",
    "white": "ffffff ffffe4 fdfdfe fff4f2",
    "grey": "929591 7d7f7c 95a3a6 978a84 6f828a 748b97 86775f 7a687f 997570 a8a495 6b7c85 758da3 85a3b2 96ae8d 7ea07a"
    " 89a0b0 607c8e 866f85 947e94 8d8468 77926f",
    "light grey": "d8dcd6 c5c9c7 c8aca9",
    "dark grey": "363737 343837 59656d 536267",
    "red": "e50000 ff000d be0119 fe0002",
    "light red": "ff474c d9544d d3494e",
    "dark red": "840000 9a0200 8c000f 8f1402 bb3f3f c44240",
    "burgundy": "610023 7b0323",
    "rust": "a03623 aa2704 a52a2a",
    "orange": "f97306 ff5b00 f0833a",
    "light orange": "fdaa48 ffa756 f0944d",
    "dark orange": "c65102 c04e01 dc4d01 d8863b",
    "yellow": "ffff14 fec615",
    "light yellow": "fffe7a ffff84 feff7f fdee73",
    "dark yellow": "d5b60a d2bd0a eedc5b",
    "gold": "dbb40c f5bf03",
    "green": "15b01a 01ff07 5cac2d 74a662 76a973 658b38 39ad48 25a36f",
    "light green": "96f97b c7fdb5 9ffeb0 8fff9f 7bb274 53fca1 b0dd16",
    "dark green": "033500 06470c 3c4d03 4b5d16 2b5d34",
    "lime": "aaff32 c0fb2d",
    "olive": "6e750e 677a04 657432 526525 749551 6c7a0e 8eab12 9dc100 87a922",
    "khaki": "aaa662",
    "turquoise": "06c2ac 13eac9",
    "teal": "029386 137e6d",
    "cyan": "00ffff acfffc 06b1c4",
    "blue": "0343df 0203e2 0804f9 0165fc 0485d1 2242c7 010fcc 2c6fbb 5170d7 3d7afd 658cbb 5a86ad 49759c 6488ea",
    "light blue": "95d0fc 75bbfd b1d1fc a2cffe 7bc8f6",
    "dark blue": "00035b 01153e 0504aa 2138ab 02066f 030764 040273 0c1793 030aa7 214761 3b638c",
    "purple": "7e1e9c be03fd 9a0eea 916e99 805b87",
    "light purple": "bf77f6 b790d4",
    "dark purple": "35063e 36013f 580f41 6c3461 380282",
    "lavender": "c79fef cea2fd",
    "pink": "ff81c0 ff028d fe01b1 de9dac d58a94 d5869d",
    "light pink": "ffd1df ffcfdc ffb7ce",
    "dark pink": "cb416b cb0162",
    "magenta": "c20078 ed0dd9",
    "salmon": "ff796c",
    "peach": "ffb07c",
    "brown": "653700 7f2b0a 7f5112 964e02 836539 876e4b 9c6d57",
    "light brown": "ad8150 b1916e d3b683 d1b26f c4a661 ab7e4c b17261",
    "dark brown": "341c02 411900",
    "beige": "e6daa6",
    "cream": "ffffc2",
}

_VERSION = 1
"""Raised with every change that changes vectors: it is in the fingerprint."""

_SIDE = 64
"""Most pixels of an image's longer side that are looked at."""

_SOFTNESS = 4.0
"""In CIELAB units: how far around the border of two shades a colour counts as some of both."""

# A vector is five blocks, each of unit length before it is multiplied by the square root of its weight: the basic
# terms of the whole image, its shades, and the basic terms of each place.
_WHOLE_WEIGHT, _SHADES_WEIGHT, _PLACES_WEIGHT = 0.4, 0.2, 0.4
_SHADES_START = len(TERMS)
_PLACES_START = _SHADES_START + len(SHADES)
_DIMENSION = _PLACES_START + len(PLACES) * len(TERMS)

_TERMS_OF = np.array([[1 / len(terms) if term in terms else 0 for term in TERMS] for terms in SHADES.values()])
"""Shape (shades, terms): how much of each basic term a shade is."""

_TERM_OF_SHADE = 0.15
"""How much a basic term counts for a text that names one of its shades."""

_FULL = 4095
"""What the memberships of one pixel sum up to, nearly. They are whole numbers, and 64 x 64 of them stay below 2^24: so
float32 sums them exactly, and no machine, batch or order of summing makes a difference."""


class ColorEmbedder:
    """Finds images by the colours they hold: "red", "blau und weiß", "vert foncé", "blue top, green bottom".

    This is no neural model and knows nothing but colours: not what an image shows, nor what a text means beyond its
    colour words, "without" and "not" included. It needs no account, no weights and no network, so it serves for
    demonstrations, for tests, and for searches that really are for a colour.

    An image's vector says how much of it is each of the 11 basic colour terms (Berlin and Kay, 1969) and each of
    some 40 shades, and how much of its top, centre and bottom is each of the terms. A pixel belongs to the shades
    that lie nearest in CIELAB, by the colours that people have given those names (the xkcd colour survey). A text's
    vector holds the terms, shades and places that it names. The score of a text of one basic colour grows with the
    square root of that colour's share of the image, up to 0.63; of a shade, up to about 0.5; of a colour at a
    place, up to 0.37. Compare scores within one query only.

    Vectors have unit length and no negative numbers. Equal images give equal vectors, bit by bit. The role plays
    no part.

    Examples:
        >>> ColorEmbedder().embed([Text("red"), Text("ein blauer Himmel")], role="query").shape
        (2, 88)
    """

    def __init__(self) -> None:
        self._spec = EmbedderSpec(
            model="color",
            fingerprint=f"color/{_VERSION}",
            dimension=_DIMENSION,
            modalities=frozenset({"text", "image", "mixed"}),
            languages=("en", "fr", "de", "it", "es"),
            max_batch_size=64,
            max_concurrency=min(8, os.cpu_count() or 1),
            duplicate_threshold=0.997,  # of 499,500 pairs of different photos none is as similar: docs/searching.md
        )

    def __repr__(self) -> str:
        return "ColorEmbedder()"

    @property
    def ref(self) -> EmbedderRef:
        """Its name, from which `load_embedder` makes it again."""
        return EmbedderRef("color")

    @property
    def spec(self) -> EmbedderSpec:
        """What this embedder is and can do."""
        return self._spec

    def prepare(self, content: Content, /) -> Content:
        """Shrink images to at most 64 x 64 pixels; texts stay as they are.

        Raises:
            UnreadableContentError: An image cannot be read.
            UnsupportedContentError: A text names no colour.
        """
        match content:
            case Text():
                _read(content.text)
                return content
            case Image():
                return Image(_thumbnail(content), name=content.label)
            case Mixed():
                prepared = [self.prepare(part) for part in content.parts]
                return Mixed(*(part for part in prepared if not isinstance(part, Mixed)))

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        """Embed contents, all or nothing.

        Args:
            contents: Texts that name a colour, images, and `Mixed` of both.
            role: Plays no part.

        Returns:
            Shape `(len(contents), dimension)`, float32, of unit length.

        Raises:
            UnreadableContentError: An image cannot be read.
            UnsupportedContentError: A text names no colour.
        """
        vectors = np.empty((len(contents), _DIMENSION), np.float32)
        for row, content in zip(vectors, contents, strict=True):
            row[:] = _vector(content)
        return vectors


def _vector(content: Content) -> npt.NDArray[np.float64]:
    match content:
        case Text():
            return _text_vector(content.text)
        case Image():
            return _image_vector(np.asarray(_thumbnail(content)))
        case Mixed():
            if not content.parts:
                raise UnsupportedContentError("ColorEmbedder cannot embed a Mixed of no parts; give it a text or image")
            total = sum((_vector(part) for part in content.parts), np.zeros(_DIMENSION))
            return total / math.sqrt(math.fsum(total**2))


def _text_vector(text: str) -> npt.NDArray[np.float64]:
    """Every colour that a text names counts the same, whichever block it stands in."""
    vector = np.zeros(_DIMENSION)
    for shade, place in _read(text):
        terms = _TERMS_OF[list(SHADES).index(shade)]
        if place is not None:
            start = _PLACES_START + PLACES.index(place) * len(TERMS)
            vector[start : start + len(TERMS)] += np.sqrt(terms) / math.sqrt(_PLACES_WEIGHT / len(PLACES))
        elif shade in TERMS:
            vector[TERMS.index(shade)] += 1 / math.sqrt(_WHOLE_WEIGHT)
        else:
            # Where nothing is navy, the blue images come first.
            vector[: len(TERMS)] += _TERM_OF_SHADE * np.sqrt(terms) / math.sqrt(_WHOLE_WEIGHT)
            vector[_SHADES_START + list(SHADES).index(shade)] += 1 / math.sqrt(_SHADES_WEIGHT)
    return vector / math.sqrt(math.fsum(vector**2))


def _read(text: str) -> Sequence[tuple[str, str | None]]:
    mentions = read_mentions(text)
    if not mentions:
        raise UnsupportedContentError(
            f"ColorEmbedder finds no colour word in {reprlib.repr(text)}. It knows nothing but colours, in English, "
            'French, German, Italian and Spanish, such as "blue", "dunkelgrün" or "red and white". To search for '
            "anything else use an embedder with a real model, such as AlephAlphaEmbedder, which needs an account"
        )
    return mentions


def _image_vector(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    red, green, blue = np.moveaxis(pixels.astype(np.intp) >> 3, -1, 0)
    memberships = _membership_table().take(red << 10 | green << 5 | blue, axis=0)
    sums = np.stack([part.sum(axis=0) for part in _by_column(memberships)]).astype(np.float64)
    totals = sums.sum(axis=1, keepdims=True)
    shades, terms = sums / totals, sums @ _TERMS_OF / totals  # halves of whole numbers: exact as well
    # The square root damps what fills an image, and makes a unit vector of shares, which sum up to 1.
    weighted = (
        terms[0] * _WHOLE_WEIGHT,
        shades[0] * _SHADES_WEIGHT,
        terms[1:].ravel() * (_PLACES_WEIGHT / len(PLACES)),
    )
    vector: npt.NDArray[np.float64] = np.sqrt(np.concatenate(weighted))
    return vector


def _thumbnail(image: Image) -> PIL.Image.Image:
    decoded = load_rgb(image, min_side_px=_SIDE)
    scale = _SIDE / max(decoded.size)
    if scale >= 1:
        return decoded
    size = tuple(max(1, round(side * scale)) for side in decoded.size)
    # Each pixel is the mean of its box: a small patch of colour may not fall between two samples.
    return decoded.resize((size[0], size[1]), PIL.Image.Resampling.BOX)


def _by_column(memberships: FloatArray) -> list[FloatArray]:
    """Sums over the rows of the whole image, its top, centre and bottom, each of shape (columns of it, shades).

    Summed and not multiplied by a matrix of ones: a BLAS library would use threads of its own for that, below the many
    that embed. They wait for each other without sleeping, and where cores are short that takes several times as long.
    """
    height, width, _ = memberships.shape
    third = -(-height // 3)
    parts = memberships, memberships[:third], memberships[_middle(height)], memberships[height - third :]
    whole, top, centre, bottom = (part.sum(axis=0) for part in parts)
    return [whole, top, centre[_middle(width)], bottom]


def _middle(length: int) -> slice:
    """The half of a row or column of pixels that lies around its centre, and at least one pixel."""
    left_out = min(math.ceil(length / 4 - 0.5), (length - 1) // 2)
    return slice(left_out, length - left_out)


@functools.cache
def _membership_table() -> FloatArray:
    """Shape (32^3, shades): how much of each shade a colour is, in whole numbers, for 5 bits a channel."""
    levels = np.linspace(0, 255, 32)
    colors = _lab(np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3))
    distances = np.stack([_squared_distance(colors, _PALETTE[shade].split()) for shade in SHADES], axis=1)
    nearness = np.exp((distances.min(axis=1, keepdims=True) - distances) / (2 * _SOFTNESS**2))
    table: FloatArray = np.rint(_FULL * nearness / nearness.sum(axis=1, keepdims=True)).astype(np.float32)
    return table


def _squared_distance(colors: npt.NDArray[np.float64], codes: Sequence[str]) -> npt.NDArray[np.float64]:
    """From each of some CIELAB colours, shape (n, 3), to the nearest of some sRGB codes."""
    nearest = np.full(len(colors), np.inf)
    for focal in _lab(np.array([tuple(bytes.fromhex(code)) for code in codes])):
        np.minimum(nearest, ((colors - focal) ** 2).sum(axis=1), out=nearest)
    return nearest


def _lab(srgb: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """CIELAB under D65 from sRGB of 0 to 255, shape (..., 3).

    IEC 61966-2-1:1999 for sRGB to XYZ, CIE 15:2004 for XYZ to L*, a*, b*.
    """
    encoded = np.asarray(srgb, np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    relative = (linear[..., None, :] * to_xyz).sum(axis=-1) / to_xyz.sum(axis=1)  # to white, exactly 1
    delta = 6 / 29
    bent = np.where(relative > delta**3, np.cbrt(relative), relative / (3 * delta**2) + 4 / 29)
    x, y, z = np.moveaxis(bent, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
