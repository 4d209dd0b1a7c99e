"""EXIF orientation of an image, and the turn that makes it upright."""

from __future__ import annotations

from typing import Any

import PIL.Image

_ORIENTATION = 274  # TIFF 6.0 tag
TURNS = {  # EXIF 2.32, section 4.6.4: the transposition that makes each orientation upright
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}


def orientation_of(image: PIL.Image.Image) -> int:
    """The EXIF orientation that has still to be applied: TIFF and HEIC images are upright once loaded.

    An orientation in XMP only is ignored, as in browsers and image viewers.
    """
    try:
        orientation: Any = image.getexif().get(_ORIENTATION)
        is_turned = orientation in TURNS
        if is_turned and image.info.keys() & {"xmp", "XML:com.adobe.xmp"}:  # Pillow reads it if EXIF has no orientation
            own = PIL.Image.Exif()
            own.load(image.info.get("exif") or b"")
            is_turned = _ORIENTATION in own or "Raw profile type exif" in image.info
    except Exception:  # noqa: BLE001 - a damaged EXIF block must not lose the image
        return 1
    return int(orientation) if is_turned else 1
