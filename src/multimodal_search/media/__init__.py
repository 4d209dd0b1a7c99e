"""Images from anywhere: bytes, files, addresses and archives, decoded to upright RGB.

For authors of embedders: `load_rgb` decodes an image, and `read_bytes` gives its encoded bytes.

images          decode an image, crop it, hash its pixels
opening         read the bytes of an image, and open them with Pillow
decoding        decode within the memory budget, after repair where that is needed
limits          how many pixels, and how slow a format, are decoded
orientation     EXIF orientation
refusals        why an image is not decoded, as an error that names it
file_kinds      what a file is, from its first bytes and its name
signatures      the first bytes of file formats
remote          fetch an image from an address, bounded and safe
archives        images inside zip and tar files
image_file      an image's file, on its own or inside an archive
memory_budget   memory that all decoding threads share
pixels          pixels of any mode to RGB on white
repair          the same image without damaged text, profiles or frames
uncommon_kinds  kinds of BMP and TIFF that Pillow does not read
silence         keep decoders from writing to stderr
system_files    files that systems and programs leave among images
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multimodal_search.media.images import load_rgb as load_rgb
    from multimodal_search.media.images import read_bytes as read_bytes

__all__ = ["load_rgb", "read_bytes"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.images"), name)  # loaded on first use, and Pillow with it
