"""EXIF orientation of an image, and the turn that makes it upright."""

from __future__ import annotations

from typing import Any

import PIL.Image

_ORIENTATION = 274  # TIFF 6.0 tag
TURNS = {  # EXIF 2.32, section 4.6.4: what turns an image of each orientation upright
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}


def orientation_of(image: PIL.Image.Image) -> int:
    """The EXIF orientation that an image still has: TIFF and HEIC files are upright once loaded.

    One that stands in XMP alone is not followed: neither browsers nor image viewers do.
    """
    try:
        orientation: Any = image.getexif().get(_ORIENTATION)
        is_turned = orientation in TURNS
        if is_turned and image.info.keys() & {"xmp", "XML:com.adobe.xmp"}:  # Pillow asks that where Exif says nothing
            own = PIL.Image.Exif()
            own.load(image.info.get("exif") or b"")
            is_turned = _ORIENTATION in own or "Raw profile type exif" in image.info
    except Exception:  # noqa: BLE001 - anything can be wrong with an EXIF block, and none of it loses the image
        return 1
    return int(orientation) if is_turned else 1
