"""Generate the images of the demo, so that it needs no download."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFilter

Color: TypeAlias = tuple[int, int, int]
Point: TypeAlias = tuple[float, float]
Scene: TypeAlias = Callable[["_Canvas", random.Random], None]

WIDTH, HEIGHT = 480, 360

SEARCHES = ("a red apple", "das blaue Meer", "une forêt verte")
"""The text queries of the demo: English, German, French."""

IMAGE = "sunset over water.jpg"
"""The image that the demo searches with."""


def paint(folder: Path) -> list[Path]:
    """Write the images of the demo to a folder; existing files are kept.

    Returns:
        Their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, scene in SCENES.items():
        path = folder / f"{name}.jpg"
        if not path.exists():
            canvas = _Canvas()
            scene(canvas, random.Random(name))  # noqa: S311 (a painting, no secret)
            canvas.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(path, quality=90)
        paths.append(path)
    return paths


# -- colours -----------------------------------------------------------------------------------------------------------

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
RED, YELLOW, PURPLE, CREAM = (224, 14, 22), (248, 215, 45), (126, 48, 160), (250, 248, 240)
STEM, LEAF = (92, 60, 35), (64, 140, 48)
MEADOW = ((120, 185, 70), (62, 128, 42))
BLUE_SKY, EVENING = ((70, 145, 235), (175, 215, 250)), ((205, 62, 40), (255, 176, 70))


def _between(one: Color, other: Color, part: float) -> Color:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _darker(color: Color, part: float) -> Color:
    return _between(color, BLACK, part)


def _lighter(color: Color, part: float) -> Color:
    return _between(color, WHITE, part)


# -- shapes ------------------------------------------------------------------------------------------------------------


class _Canvas:
    """A canvas of twice the image's size, for smooth edges.

    Coordinates are in units of the image's height, from the upper left corner: x from 0 to `RATIO`, y from 0 to 1.
    """

    RATIO = WIDTH / HEIGHT

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH * 2, HEIGHT * 2))
        self.draw = ImageDraw.Draw(self.image)

    def _px(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.image.height, y * self.image.height) for x, y in points]

    def band(self, colors: tuple[Color, Color], start: float = 0, end: float = 1) -> None:
        """A horizontal band with a gradient from one colour to another."""
        first, last = round(start * self.image.height), round(end * self.image.height)
        for y in range(first, last):
            color = _between(*colors, (y - first) / max(1, last - first - 1))
            self.draw.line([(0, y), (self.image.width, y)], fill=color)

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        self.draw.polygon(self._px(points), fill=color)

    def line(self, points: Sequence[Point], color: Color, width: float) -> None:
        self.draw.line(self._px(points), fill=color, width=max(1, round(width * self.image.height)), joint="curve")

    def oval(self, x: float, y: float, width: float, height: float, color: Color, turn: float = 0) -> None:
        """An ellipse by its centre and half axes, turned by an angle in radians."""
        across, along = (math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))
        points = []
        for step in range(48):
            right, down = width * math.cos(step * math.tau / 48), height * math.sin(step * math.tau / 48)
            points.append((x + right * across[0] + down * along[0], y + right * across[1] + down * along[1]))
        self.polygon(points, color)

    def soft(
        self, ovals: Sequence[tuple[float, float, float, float]], color: Color, blur: float, part: float = 1
    ) -> None:
        """Blurred ellipses, for glow and shadow; each is a centre and two half axes."""
        mask = Image.new("L", self.image.size)
        draw = ImageDraw.Draw(mask)
        for x, y, width, height in ovals:
            draw.ellipse([*self._px([(x - width, y - height)])[0], *self._px([(x + width, y + height)])[0]], fill=255)
        mask = mask.reduce(8).filter(ImageFilter.GaussianBlur(blur * self.image.height / 8)).resize(self.image.size)
        self.image.paste(color, (0, 0), mask.point(lambda value: value * part))

    def ball(self, x: float, y: float, size: float, color: Color, *, cleft: float = 0, squeeze: float = 1) -> None:
        """A shaded ball, lit from above left; with a cleft, two lobes side by side."""
        for step in range(40):
            part = step / 40
            shade = _between(_darker(color, 0.26), _lighter(color, 0.12), part**0.7)
            middle = (x - size * 0.3 * part, y - size * 0.3 * part)
            for side in (-1, 1) if cleft else (0,):
                radius = size * (1 - cleft) * (1 - part)
                self.oval(middle[0] + side * size * cleft * (1 - part), middle[1], radius, radius * squeeze, shade)


# -- scenes ------------------------------------------------------------------------------------------------------------


def _still_life(
    wall: Color, table: Color, fruit: Callable[[_Canvas, float, float], None], places: Sequence[Point]
) -> Scene:
    def scene(canvas: _Canvas, chance: random.Random) -> None:
        canvas.band((_lighter(wall, 0.3), wall), 0, 0.7)
        canvas.band((table, _darker(table, 0.18)), 0.7, 1)
        for x, y in places:
            fruit(canvas, x, y)

    return scene


def _apple(color: Color, size: float) -> Callable[[_Canvas, float, float], None]:
    def fruit(canvas: _Canvas, x: float, y: float) -> None:
        canvas.soft([(x + size * 0.1, y + size * 0.92, size * 0.9, size * 0.2)], BLACK, 0.03, 0.45)
        canvas.ball(x, y, size, color, cleft=0.24, squeeze=1.15)
        canvas.line(
            [(x, y - size * 0.68), (x + size * 0.05, y - size), (x + size * 0.16, y - size * 1.2)], STEM, size * 0.08
        )
        canvas.oval(x + size * 0.36, y - size * 1.05, size * 0.3, size * 0.12, LEAF, -0.5)

    return fruit


def _lemon(size: float) -> Callable[[_Canvas, float, float], None]:
    def fruit(canvas: _Canvas, x: float, y: float) -> None:
        canvas.soft([(x + size * 0.1, y + size * 0.9, size * 0.95, size * 0.2)], BLACK, 0.03, 0.45)
        for end, shade in ((-1, _lighter(YELLOW, 0.05)), (1, _darker(YELLOW, 0.22))):
            canvas.oval(x + end * size * 1.12, y + end * size * 0.16, size * 0.22, size * 0.17, shade)
        canvas.ball(x, y, size * 1.2, YELLOW, squeeze=0.8)

    return fruit


def _cherry(color: Color, size: float, stem: float) -> Callable[[_Canvas, float, float], None]:
    def fruit(canvas: _Canvas, x: float, y: float) -> None:
        canvas.soft([(x, y + size * 0.95, size * 0.9, size * 0.2)], BLACK, 0.02, 0.45)
        canvas.ball(x, y, size, color, squeeze=1.1)
        canvas.line([(x, y - size * 0.98), (x + stem * 0.2, y - size - stem)], STEM, 0.014)

    return fruit


def _sea(
    sky: tuple[Color, Color],
    water: tuple[Color, Color],
    *,
    horizon: float = 0.48,
    sun: Color | None = None,
    boat: bool = False,
) -> Scene:
    def scene(canvas: _Canvas, chance: random.Random) -> None:
        canvas.band(sky, 0, horizon)
        middle = chance.uniform(0.55, 0.8)
        if sun is not None:
            _sun(canvas, middle, horizon - 0.06, sun)
        canvas.band(water, horizon, 1)
        for _ in range(230):
            y = chance.uniform(horizon + 0.01, 1)
            x, length = chance.uniform(-0.1, canvas.RATIO), 0.02 + 0.16 * (y - horizon)
            color = _between(water[0], water[1], (y - horizon) / (1 - horizon))
            canvas.line(
                [(x, y), (x + length, y)], _lighter(color, chance.uniform(0.05, 0.3)), 0.002 + 0.006 * (y - horizon)
            )
        for _ in range(150 if sun is not None else 0):  # its way over the water
            y = horizon + 0.01 + 0.5 * chance.random() ** 1.3
            x, length = middle + chance.gauss(0, 0.05 + 0.1 * (y - horizon)), 0.02 + 0.12 * (y - horizon)
            canvas.line([(x - length, y), (x + length, y)], sun or WHITE, 0.003 + 0.008 * (y - horizon))
        if boat:
            canvas.polygon([(0.84, 0.58), (1.06, 0.58), (1.02, 0.63), (0.88, 0.63)], (70, 45, 40))
            canvas.polygon([(0.955, 0.2), (0.955, 0.56), (1.08, 0.56)], CREAM)
            canvas.polygon([(0.94, 0.27), (0.94, 0.56), (0.83, 0.56)], _darker(CREAM, 0.08))

    return scene


def _sun(canvas: _Canvas, x: float, y: float, color: Color) -> None:
    for size, part in ((0.34, 0.35), (0.2, 0.5)):
        canvas.soft([(x, y, size, size)], color, size / 2.2, part)
    canvas.oval(x, y, 0.1, 0.1, _lighter(color, 0.35))


def _hills(sky: tuple[Color, Color], hills: Sequence[Color], *, sun: Color | None = None) -> Scene:
    def scene(canvas: _Canvas, chance: random.Random) -> None:
        canvas.band(sky, 0, 1)
        if sun is not None:
            _sun(canvas, 0.85, 0.46, sun)
        for number, color in enumerate(hills):
            level, start = 0.55 + 0.45 * number / len(hills), chance.uniform(0, math.tau)
            crest = [
                (x * canvas.RATIO / 60, level + 0.05 * math.sin(start + x / 9) + 0.025 * math.sin(2 * start + x / 4))
                for x in range(61)
            ]
            canvas.polygon([*crest, (canvas.RATIO, 1), (0, 1)], color)

    return scene


def _conifer(canvas: _Canvas, x: float, foot: float, size: float, crown: Color) -> None:
    canvas.line([(x, foot), (x, foot - size * 0.3)], STEM, size * 0.07)
    for layer in range(4):
        half, base = size * (0.3 - 0.055 * layer), foot - size * (0.14 + 0.2 * layer)
        shade = _lighter(crown, 0.05 * layer)
        canvas.polygon([(x - half, base), (x + half, base), (x, base - size * 0.36)], _darker(shade, 0.12))
        canvas.polygon([(x - half, base), (x + half * 0.3, base), (x, base - size * 0.36)], shade)


def _broadleaf(canvas: _Canvas, x: float, foot: float, size: float, crown: Color) -> None:
    canvas.line([(x, foot), (x, foot - size * 0.5)], STEM, size * 0.08)
    for number in range(9):
        angle, reach = number * math.tau / 8, 0 if number == 8 else size * 0.2
        shade = _between(_darker(crown, 0.2), _lighter(crown, 0.12), (1 - math.sin(angle + 0.7)) / 2)
        canvas.oval(
            x + reach * math.cos(angle), foot - size * 0.68 + reach * math.sin(angle), size * 0.2, size * 0.18, shade
        )


def _forest(
    sky: tuple[Color, Color],
    ground: Color,
    crowns: Sequence[Color],
    tree: Callable[[_Canvas, float, float, float, Color], None],
) -> Scene:
    def scene(canvas: _Canvas, chance: random.Random) -> None:
        canvas.band(sky)
        canvas.band((ground, _darker(ground, 0.25)), 0.5)
        rows = 6
        for row in range(rows):
            near = row / (rows - 1)
            size, foot, count = 0.36 + 0.24 * near, 0.52 + 0.42 * near, 12 - row
            for number in range(count):
                x = (number + 0.5 + chance.uniform(-0.3, 0.3)) * canvas.RATIO / count
                crown = _between(_darker(chance.choice(crowns), chance.uniform(0, 0.18)), sky[1], 0.3 * (1 - near))
                tree(canvas, x, foot + chance.uniform(-0.02, 0.02), size * chance.uniform(0.85, 1.1), crown)

    return scene


def _flowers(petal: Color, heart: Color, petals: int, *, slim: float = 0.5) -> Scene:
    def scene(canvas: _Canvas, chance: random.Random) -> None:
        canvas.band(BLUE_SKY, 0, 0.5)
        canvas.band(MEADOW, 0.5, 1)
        for _ in range(170):
            x, y = chance.uniform(0, canvas.RATIO), chance.uniform(0.56, 1.05)
            blade = [(x, y), (x + chance.uniform(-0.03, 0.03), y - 0.1)]
            canvas.line(blade, _darker(MEADOW[0], chance.uniform(0, 0.4)), 0.004)
        for x, y, size in ((0.2, 0.36, 0.12), (1.16, 0.3, 0.13), (0.5, 0.52, 0.15), (0.9, 0.5, 0.19)):
            canvas.line([(x, y), (x + 0.02, y + 0.3), (x - 0.02, 1)], _darker(LEAF, 0.2), 0.018)
            canvas.oval(x + 0.07, y + 0.36, 0.07, 0.022, LEAF, -0.5)
            turn = chance.uniform(0, math.tau)
            for ring, count in ((1.0, petals), (0.72, petals)):
                for number in range(count):
                    angle = turn + (number + ring) * math.tau / count
                    shade = _darker(petal, 0.16 if ring == 1.0 else 0.03 * (number % 2))
                    reach = size * 0.62 * ring
                    spot = (x + reach * math.cos(angle), y + reach * math.sin(angle))
                    canvas.oval(*spot, size * 0.42, size * 0.42 * slim, shade, angle)
            canvas.ball(x, y, size * 0.34, heart)

    return scene


FIVE = [(0.24, 0.6), (0.66, 0.56), (1.08, 0.6), (0.45, 0.74), (0.88, 0.74)]

SCENES: dict[str, Scene] = {
    "red apple": _still_life((236, 228, 214), (222, 212, 198), _apple(RED, 0.41), [(0.66, 0.53)]),
    "three red apples": _still_life(
        (232, 226, 216), (224, 215, 200), _apple(RED, 0.235), [(0.27, 0.6), (1.06, 0.6), (0.67, 0.65)]
    ),
    "lemons": _still_life((226, 234, 242), (202, 212, 222), _lemon(0.17), [(0.3, 0.52), (1.0, 0.56), (0.64, 0.72)]),
    "cherries": _still_life((234, 230, 220), (226, 218, 206), _cherry((196, 8, 24), 0.165, 0.25), FIVE),
    "the sea at noon": _sea(BLUE_SKY, ((30, 110, 200), (12, 62, 150))),
    "the sea, far out": _sea(((50, 120, 215), (125, 185, 240)), ((18, 90, 185), (8, 45, 125)), horizon=0.22),
    "a sailing boat": _sea(((95, 165, 240), (180, 218, 250)), ((28, 115, 205), (14, 70, 160)), boat=True),
    "sunset over water": _sea(EVENING, ((226, 118, 52), (112, 42, 44)), sun=(255, 214, 110)),
    "evening at the beach": _sea(((222, 88, 42), (255, 190, 96)), ((232, 134, 62), (128, 52, 46)), sun=(255, 226, 140)),
    "sunset over the hills": _hills(
        EVENING, [(206, 110, 52), (150, 82, 50), (104, 58, 44), (64, 38, 36)], sun=(255, 214, 110)
    ),
    "green hills": _hills(
        ((214, 226, 236), (238, 240, 238)), [(158, 196, 138), (116, 176, 84), (84, 150, 58), (58, 122, 42)]
    ),
    "dunes": _hills(BLUE_SKY, [(232, 196, 140), (220, 176, 116), (204, 156, 96)]),
    "forest in summer": _forest(
        ((205, 226, 240), (200, 228, 205)), (88, 150, 56), [(70, 158, 52), (92, 176, 60), (54, 140, 48)], _broadleaf
    ),
    "pine forest": _forest(((222, 232, 234), (196, 220, 200)), (84, 140, 62), [(34, 112, 52), (46, 130, 58)], _conifer),
    "forest in spring": _forest(
        ((196, 222, 245), (214, 234, 208)), (110, 176, 62), [(124, 196, 70), (98, 180, 62), (140, 206, 84)], _broadleaf
    ),
    "forest in autumn": _forest(
        ((214, 222, 228), (238, 222, 190)), (150, 104, 54), [(222, 120, 28), (206, 84, 30), (232, 170, 44)], _broadleaf
    ),
    "sunflowers": _flowers(YELLOW, (88, 54, 26), 13, slim=0.34),
    "violets": _flowers(PURPLE, (250, 220, 90), 6, slim=0.72),
    "daisies": _flowers(CREAM, (250, 200, 50), 15, slim=0.26),
    "poppies": _flowers(RED, (28, 22, 24), 5, slim=0.95),
}
