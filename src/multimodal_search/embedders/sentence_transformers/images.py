"""An image as a model's input, in two steps: resized in the threads that load images, numbers made of it afterwards.

Both steps are the model's own image processor's. Whether the second one, done to a whole batch as array work, gives
what the processor gives in one go, is tried on images made here; where it does not, the processor does it itself.

A processor checks and converts much in Python, and holds the interpreter's lock meanwhile, of which many threads that
load images are short. Where Pillow alone, or the processor's own methods one by one, give the same pixels, they are
used.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image

from multimodal_search.embedders.onnx.reading import transformers_image
from multimodal_search.errors import ConfigurationError

_RESIZING = ("resize", "aspect_ratio_preserving_resize")
"""The methods of image processors that resize one image, whatever else they do."""

_MAX_ASPECT = 64
"""How many times as long as wide an image may be that is resized whole, although only its middle square is kept."""

_PROBES = ((97, 61), (40, 333), (640, 480))


_Way: TypeAlias = Callable[[PIL.Image.Image], PIL.Image.Image]


class ImageSteps:
    """How a model's images are made. Safe to use from many threads.

    Args:
        processor: The model's image processor.
        whole: What sentence-transformers makes of an image, by name.

    Attributes:
        is_fixed: Whether all images come to one size, and `array` gives what the model takes.
    """

    def __init__(self, processor: Any, whole: Callable[[PIL.Image.Image], dict[str, Any]]) -> None:
        self._processor = processor
        self._capturing = _capturing(processor)
        self._make: _Way = self._processed
        probes = [_noise(size) for size in _PROBES]
        self.is_fixed = all(self._is_array_of(whole(probe), probe) for probe in probes)
        if self.is_fixed:
            quick = (way for way in self._quick_ways() if all(_is_same(way, self._processed, each) for each in probes))
            self._make = next(quick, self._processed)
        elif not all(_are_equal(whole(probe), whole(self.resized(probe))) for probe in probes):
            self._capturing = None

    def resized(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """An upright RGB image at the size that the model sees; as it is, where that cannot be had ahead."""
        if self.is_fixed:
            return self._fixed(image)
        resized = self._captured(image)
        if resized is None:
            return image
        again = self._captured(resized)  # the processor does it once more, and must not change it
        return resized if again is not None and again.size == resized.size else image

    def tensor(self, images: Sequence[PIL.Image.Image], device: Any) -> Any:
        """Images of the model's size as it takes them, float32 of shape (n, 3, height, width), on its device."""
        torch = importlib.import_module("torch")
        steps, is_cuda = self._processor, torch.device(device).type == "cuda"

        def moved(array: Any) -> Any:  # from pinned memory: else the copy waits for all that the GPU has to do
            return (array.pin_memory() if is_cuda else array).to(device, non_blocking=is_cuda)

        pixels = moved(torch.from_numpy(np.stack([np.asarray(image) for image in images])))
        array = pixels.permute(0, 3, 1, 2).float()
        if steps.do_rescale:
            array *= steps.rescale_factor
        if steps.do_normalize:
            mean, std = (moved(torch.tensor(each)[:, None, None]) for each in (steps.image_mean, steps.image_std))
            array = (array - mean) / std
        return array.contiguous()

    def _fixed(self, image: PIL.Image.Image) -> PIL.Image.Image:
        if getattr(self._processor, "do_center_crop", False):
            image = _without_ends(image)
        return self._make(image)

    def _processed(self, image: PIL.Image.Image) -> PIL.Image.Image:
        made = self._processor(images=[image], do_rescale=False, do_normalize=False, return_tensors="pt")
        return _image_of(made["pixel_values"])

    def _quick_ways(self) -> Iterator[_Way]:
        """What may give the same pixels as `_processed`, the best first."""
        with suppress(AttributeError, ConfigurationError, TypeError, ValueError):  # not one of the usual processors
            yield transformers_image(self._processor.to_dict(), Path(type(self._processor).__name__)).resized
        yield self._stepped

    def _stepped(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """By the methods of a processor of torchvision: PyTorch resizes nearly as Pillow does, not quite."""
        torch = importlib.import_module("torch")
        steps = self._processor
        array = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        if steps.do_resize:
            array = steps.resize(array, steps.size, resample=steps.resample)
        if steps.do_center_crop:
            array = steps.center_crop(array, steps.crop_size)
        return _image_of(array)

    def _is_array_of(self, whole: dict[str, Any], probe: PIL.Image.Image) -> bool:
        wanted = {name: value for name, value in whole.items() if hasattr(value, "shape")}
        try:
            found = self.tensor([self._fixed(probe)], "cpu")
        except Exception:  # noqa: BLE001 (processors are of many kinds, and have no common errors)
            return False
        pixels = wanted.pop("pixel_values", None)
        return (
            not wanted
            and pixels is not None
            and pixels.shape == found.shape
            and bool((pixels - found).abs().max() < 1e-5)
        )

    def _captured(self, image: PIL.Image.Image) -> PIL.Image.Image | None:
        if self._capturing is None:
            return None
        try:
            self._capturing(images=[image], return_tensors="pt")
        except _ResizedError as resized:
            try:
                return _image_of(resized.args[0])
            except Exception:  # noqa: BLE001 (some shape that is no image's)
                return None
        except Exception:  # noqa: BLE001 (as above; `embed` will tell)
            return None
        return None


class _ResizedError(Exception):
    """Carries what a processor has resized out of it."""


def _is_same(way: _Way, other: _Way, image: PIL.Image.Image) -> bool:
    try:
        return way(image).tobytes() == other(image).tobytes()
    except Exception:  # noqa: BLE001 (processors are of many kinds, and have no common errors)
        return False


def _are_equal(made: Mapping[str, Any], again: Mapping[str, Any]) -> bool:
    """Whether two images come to the same input."""
    if made.keys() != again.keys():
        return False
    arrays = [(value, again[name]) for name, value in made.items() if hasattr(value, "shape")]
    return all(one.shape == other.shape and bool((one == other).all()) for one, other in arrays)


def _capturing(processor: Any) -> Any:
    """A copy of a processor that ends with what it has resized first; None for those that resize by other names."""

    def stop(resize: Callable[..., Any]) -> Callable[..., Any]:
        def resized(*arguments: Any, **settings: Any) -> Any:
            raise _ResizedError(resize(*arguments, **settings))

        return resized

    found = [name for name in _RESIZING if hasattr(processor, name)]
    if not found:
        return None
    again = copy.copy(processor)
    for name in found:
        setattr(again, name, stop(getattr(processor, name)))
    return again


def _image_of(array: Any) -> PIL.Image.Image:
    """From numbers of 0 to 255, shape (..., 3, height, width), of one image."""
    found = np.asarray(array)
    if found.dtype != np.uint8 and not (found == np.rint(found)).all():
        raise ValueError("not of whole numbers")
    pixels: npt.NDArray[np.uint8] = found.reshape(found.shape[-3:]).astype(np.uint8)
    return PIL.Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)))


def _without_ends(image: PIL.Image.Image) -> PIL.Image.Image:
    """Without most of what is cropped away: resized whole, a line of 3 x 20,000 pixels would take a gigabyte."""
    width, height = (min(side, _MAX_ASPECT * min(image.size)) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image if (width, height) == image.size else image.crop((left, top, left + width, top + height))


def _noise(size: tuple[int, int]) -> PIL.Image.Image:
    width, height = size
    return PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))
