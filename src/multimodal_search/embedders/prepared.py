"""An image as an embedder's `prepare` leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multimodal_search.contents import Image

if TYPE_CHECKING:
    import PIL.Image


class PreparedImage(Image):
    """An image that is as its embedder needs it, and need not be looked at again.

    Attributes:
        rules: What it was prepared by; an embedder with other rules prepares it anew.
    """

    __slots__ = ("rules",)

    rules: object

    def __init__(self, source: PIL.Image.Image | bytes, rules: object, *, name: str) -> None:
        super().__init__(source, name=name)
        object.__setattr__(self, "rules", rules)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.source, self.rules, self.name)


def _again(source: PIL.Image.Image | bytes, rules: object, name: str) -> PreparedImage:
    return PreparedImage(source, rules, name=name)
