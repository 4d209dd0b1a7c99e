"""The pictures of the shell's demo: painted here, so that it needs neither a download nor anybody's photos."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFilter

Color: TypeAlias = tuple[int, int, int]

WIDTH, HEIGHT = 480, 360

SEARCHES = ("a red apple", "das blaue Meer", "une forêt verte")
"""English, German, French: what the demo looks for by words."""

PICTURE = "sunset over water.jpg"
"""The picture that the demo searches with."""


def paint(folder: Path) -> list[Path]:
    """Write the demo's pictures into a folder, where they are not there yet.

    Returns:
        Their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, scene in SCENES.items():
        path = folder / f"{name}.jpg"
        if not path.exists():
            canvas = Image.new("RGB", (WIDTH * 2, HEIGHT * 2))
            scene(canvas, random.Random(name))  # noqa: S311 (a painting, no secret)
            canvas.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(path, quality=90)
        paths.append(path)
    return paths


def _gradient(canvas: Image.Image, top: Color, bottom: Color, start: float = 0, end: float = 1) -> None:
    """Fill a horizontal band, given as fractions of the height, from one colour to another."""
    draw = ImageDraw.Draw(canvas)
    first, last = int(start * canvas.height), int(end * canvas.height)
    for y in range(first, last):
        part = (y - first) / max(1, last - first - 1)
        draw.line([(0, y), (canvas.width, y)], fill=_between(top, bottom, part))


def _between(one: Color, other: Color, part: float) -> Color:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _disc(canvas: Image.Image, x: float, y: float, radius: float, color: Color) -> None:
    """A ball lit from above left; the centre in fractions of width and height, the radius of the height."""
    draw = ImageDraw.Draw(canvas)
    centre_x, centre_y, size = x * canvas.width, y * canvas.height, radius * canvas.height
    for step in range(24):
        shrunk = size * (1 - step / 24)
        shift = size * step / 24 * 0.35
        shade = _between(_between(color, (0, 0, 0), 0.35), _between(color, (255, 255, 255), 0.25), step / 23)
        left, upper = centre_x - shrunk - shift, centre_y - shrunk - shift
        draw.ellipse([left, upper, left + 2 * shrunk, upper + 2 * shrunk], fill=shade)


def _fruit(color: Color, table: Color, count: int) -> Callable[[Image.Image, random.Random], None]:
    def scene(canvas: Image.Image, chance: random.Random) -> None:
        _gradient(canvas, _between(table, (255, 255, 255), 0.55), _between(table, (255, 255, 255), 0.3))
        _gradient(canvas, table, _between(table, (0, 0, 0), 0.2), 0.72)
        for number in range(count):
            x = (number + 0.5) / count + chance.uniform(-0.02, 0.02)
            _disc(canvas, x, 0.56 + chance.uniform(-0.05, 0.05), min(0.3, 0.62 / count), color)

    return scene


def _water(sky: tuple[Color, Color], sea: tuple[Color, Color], sun: Color | None) -> Callable[..., None]:
    def scene(canvas: Image.Image, chance: random.Random) -> None:
        _gradient(canvas, *sky, end=0.5)
        if sun is not None:
            _disc(canvas, chance.uniform(0.35, 0.65), 0.42, 0.13, sun)
        _gradient(canvas, *sea, start=0.5)
        draw = ImageDraw.Draw(canvas)
        for _ in range(160):
            y = chance.uniform(0.52, 1)
            x, length = chance.uniform(0, 1), 0.02 + 0.08 * (y - 0.5)
            light = _between(sea[0], sun or (255, 255, 255), 0.5)
            draw.line(
                [(x * canvas.width, y * canvas.height), ((x + length) * canvas.width, y * canvas.height)], light, width=3
            )

    return scene


def _trees(sky: tuple[Color, Color], ground: Color, crown: Color, trunk: Color) -> Callable[..., None]:
    def scene(canvas: Image.Image, chance: random.Random) -> None:
        _gradient(canvas, *sky)
        _gradient(canvas, ground, _between(ground, (0, 0, 0), 0.3), 0.7)
        draw = ImageDraw.Draw(canvas)
        for number in range(26):
            x, base = chance.uniform(0, 1), 0.68 + 0.3 * number / 26
            size = 0.14 + 0.16 * number / 26
            middle, foot = x * canvas.width, base * canvas.height
            draw.rectangle([middle - 8, foot - size * canvas.height, middle + 8, foot], fill=trunk)
            shade = _between(crown, (0, 0, 0), chance.uniform(0, 0.35))
            for layer in range(3):
                half, top = size * canvas.height * (0.5 - 0.1 * layer), foot - size * canvas.height * (0.35 + 0.4 * layer)
                points = [(middle - half, top), (middle + half, top), (middle, top - size * canvas.height * 0.7)]
                draw.polygon(points, fill=shade)

    return scene


def _flower(petal: Color, heart: Color, back: tuple[Color, Color]) -> Callable[..., None]:
    def scene(canvas: Image.Image, chance: random.Random) -> None:
        _gradient(canvas, *back)
        for x, y, size in ((0.3, 0.42, 0.17), (0.68, 0.55, 0.2), (0.5, 0.8, 0.12), (0.85, 0.22, 0.1)):
            turn = chance.uniform(0, math.tau)
            for number in range(9):
                angle = turn + number * math.tau / 9
                reach = size * 0.75
                _disc(
                    canvas,
                    x + reach * math.cos(angle) * canvas.height / canvas.width,
                    y + reach * math.sin(angle),
                    size * 0.42,
                    petal,
                )
            _disc(canvas, x, y, size * 0.4, heart)

    return scene


def _night(canvas: Image.Image, chance: random.Random) -> None:
    _gradient(canvas, (3, 3, 10), (18, 18, 32))
    draw = ImageDraw.Draw(canvas)
    for _ in range(220):
        x, y, size = chance.uniform(0, canvas.width), chance.uniform(0, canvas.height), chance.uniform(1, 4)
        draw.ellipse([x, y, x + size, y + size], fill=(235, 235, 220))
    _disc(canvas, 0.75, 0.25, 0.1, (240, 240, 230))


def _clouds(top: Color, bottom: Color, cloud: Color) -> Callable[..., None]:
    def scene(canvas: Image.Image, chance: random.Random) -> None:
        _gradient(canvas, top, bottom)
        layer = Image.new("L", canvas.size)
        draw = ImageDraw.Draw(layer)
        for _ in range(40):
            x, y = chance.gauss(0.5, 0.3) * canvas.width, chance.gauss(0.4, 0.15) * canvas.height
            size = chance.uniform(30, 110)
            draw.ellipse([x - size * 1.6, y - size * 0.6, x + size * 1.6, y + size * 0.6], fill=230)
        canvas.paste(Image.new("RGB", canvas.size, cloud), mask=layer.filter(ImageFilter.GaussianBlur(25)))

    return scene


def _wall(brick: Color, mortar: Color) -> Callable[..., None]:
    def scene(canvas: Image.Image, chance: random.Random) -> None:
        canvas.paste(mortar, (0, 0, *canvas.size))
        draw = ImageDraw.Draw(canvas)
        for row in range(12):
            for column in range(-1, 9):
                left, top = (column + 0.5 * (row % 2)) * 120, row * 60
                shade = _between(brick, (0, 0, 0), chance.uniform(0, 0.3))
                draw.rectangle([left + 4, top + 4, left + 116, top + 56], fill=shade)

    return scene


RED, GREEN, YELLOW, ORANGE = (200, 25, 30), (70, 150, 40), (245, 215, 40), (245, 130, 20)
PINK, PURPLE, BROWN, WHITE = (245, 140, 185), (120, 50, 150), (110, 65, 35), (245, 245, 240)

SCENES: dict[str, Callable[[Image.Image, random.Random], None]] = {
    "red apple": _fruit(RED, (225, 215, 200), 1),
    "red apples": _fruit(RED, (150, 110, 75), 3),
    "green apples": _fruit((130, 190, 50), (225, 220, 205), 3),
    "lemons": _fruit(YELLOW, (215, 225, 235), 4),
    "oranges": _fruit(ORANGE, (240, 235, 225), 3),
    "plums": _fruit((85, 35, 110), (220, 215, 210), 5),
    "the sea at noon": _water(((80, 160, 235), (175, 215, 245)), ((25, 105, 190), (10, 60, 140)), None),
    "the sea, far out": _water(((60, 130, 215), (120, 185, 240)), ((15, 85, 175), (8, 45, 120)), None),
    "sunset over water": _water(((225, 85, 40), (250, 165, 60)), ((215, 105, 45), (110, 45, 40)), (255, 220, 120)),
    "sunset in pink": _water(((205, 95, 160), (250, 170, 175)), ((210, 120, 160), (95, 50, 110)), (255, 225, 190)),
    "a grey day at sea": _water(((150, 153, 157), (185, 187, 190)), ((110, 114, 118), (75, 78, 82)), None),
    "pine forest": _trees(((175, 205, 190), (150, 190, 150)), (60, 110, 45), (35, 105, 45), BROWN),
    "forest in summer": _trees(((150, 200, 160), (120, 180, 110)), (85, 145, 50), (60, 150, 50), BROWN),
    "forest in autumn": _trees(((235, 215, 180), (230, 190, 130)), (130, 85, 40), (215, 110, 25), (80, 50, 30)),
    "forest in snow": _trees(((225, 230, 238), (240, 242, 246)), (238, 240, 244), (200, 208, 214), (95, 80, 70)),
    "sunflowers": _flower(YELLOW, (90, 55, 25), ((120, 180, 235), (90, 150, 70))),
    "pink blossoms": _flower(PINK, (250, 225, 120), ((185, 220, 185), (110, 165, 95))),
    "violets": _flower(PURPLE, (250, 220, 90), ((120, 165, 95), (70, 120, 60))),
    "daisies": _flower(WHITE, (250, 205, 50), ((105, 165, 75), (60, 120, 45))),
    "poppies": _flower(RED, (25, 20, 20), ((150, 190, 110), (95, 150, 60))),
    "starry night": _night,
    "white clouds": _clouds((70, 140, 225), (150, 200, 245), (252, 252, 252)),
    "storm clouds": _clouds((70, 74, 80), (125, 128, 134), (52, 55, 60)),
    "brick wall": _wall((165, 70, 50), (200, 190, 180)),
    "whitewashed wall": _wall((240, 238, 232), (205, 203, 198)),
}
