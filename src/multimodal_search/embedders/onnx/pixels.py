"""An image as the input of a model: resized exactly as the model was trained, in two steps.

`ImageRules.resized` gives 8-bit pixels, in the threads that load images; `ImageRules.array` makes numbers of them,
which is array work only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image

Resize: TypeAlias = Literal["squash", "shortest"]
"""To the model's size whatever the shape, or by the shorter side and then the centre of it."""

_MAX_RESIZED_PIXELS = 1 << 24
"""Of an image that is resized as a whole, before its centre is cropped: 64 MiB in Pillow."""

INTERPOLATIONS = {each.name.lower(): each for each in PIL.Image.Resampling}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRules:
    """How a model's images are made.

    Attributes:
        size: Width and height that the model sees.
        resize: How an image comes to that size.
        shortest: With `"shortest"`, what its shorter side is resized to before the centre is cropped.
        interpolation: One of Pillow's filters, such as `"bicubic"`.
        mean: Of each channel, subtracted from pixels of 0 to 1.
        std: Of each channel, what that is divided by.
        scale: What pixels of 0 to 255 are multiplied by first.
    """

    size: tuple[int, int]
    resize: Resize
    shortest: int
    interpolation: str
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    scale: float = 1 / 255

    def __post_init__(self) -> None:
        if not all(math.isfinite(each) for each in (*self.mean, *self.std)) or 0 in (*self.std, self.scale):
            raise ValueError(
                "mean, std and scale are numbers, and pixels are divided by the last two: none of them is 0"
            )

    def resized(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """An upright RGB image at the model's size.

        With `"shortest"` the pixels are those of resizing the whole image and cropping the result. An
        image that is smaller than the crop in one direction gets black borders there, as in transformers.
        """
        filter_ = INTERPOLATIONS[self.interpolation]
        if self.resize == "squash":
            return image.resize(self.size, filter_)
        shorter = min(image.size)
        # Whole pixels of the longer side, rounded down, as torchvision and transformers do.
        width, height = (int(self.shortest * side / shorter) for side in image.size)
        kept = min(width, self.size[0]), min(height, self.size[1])
        left, top = (width - kept[0]) // 2, (height - kept[1]) // 2
        if width * height <= _MAX_RESIZED_PIXELS:
            found = image.resize((width, height), filter_).crop((left, top, left + kept[0], top + kept[1]))
        else:  # an image of 3 x 20,000 pixels: what is cropped away is not computed, at some roundings' cost
            x_scale, y_scale = image.width / width, image.height / height
            right, bottom = (left + kept[0]) * x_scale, (top + kept[1]) * y_scale
            box = (left * x_scale, top * y_scale, min(right, image.width), min(bottom, image.height))
            found = image.resize(kept, filter_, box=box)
        if kept == self.size:
            return found
        bordered = PIL.Image.new("RGB", self.size)
        bordered.paste(found, ((self.size[0] - kept[0]) // 2, (self.size[1] - kept[1]) // 2))
        return bordered

    def array(self, images: Sequence[PIL.Image.Image], *, normalized: bool) -> npt.NDArray[Any]:
        """Images of the model's size as one array.

        Args:
            images: As `resized` gives them.
            normalized: Whether the graph takes normalised numbers, float32 of shape (n, 3, height, width); else it
                normalises them itself, and takes uint8 of shape (n, height, width, 3).
        """
        pixels = np.stack([np.asarray(image) for image in images])
        if not normalized:
            return pixels
        # In the order and precision of transformers: a graph that quantises would show a difference in the last digit.
        array = np.empty((len(pixels), 3, *pixels.shape[1:3]), np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            numbers = array[:, channel]
            np.divide(pixels[..., channel], np.float32(1 / self.scale), out=numbers, dtype=np.float32)
            numbers -= np.float32(mean)
            numbers /= np.float32(std)
        return array
