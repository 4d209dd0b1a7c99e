"""Errors as they cross the socket: the name of the class, the words, and the attributes.

Only classes that are listed here are ever made. An error of a subclass of one arrives as that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multimodal_search import errors
from multimodal_search._text import brief

_BUILTINS = (AttributeError, MemoryError, OverflowError, RecursionError, RuntimeError, TypeError, ValueError)
_OWN = tuple(
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.MultimodalSearchError) and each is not errors.IndexingError
)

_CLASSES: Mapping[str, type[Exception]] = {each.__name__: each for each in (*_BUILTINS, *_OWN)}

_ATTRIBUTES: Mapping[type[BaseException], tuple[str, ...]] = {
    errors.EmbedderUnavailableError: ("retry_after_s", "trouble"),
    errors.NotAnImageError: ("kind",),
    errors.StoreLockedError: ("holder",),
    errors.StoreRefusedError: ("too_large",),
    errors.StoreUnavailableError: ("retry_after_s", "trouble"),
}


def error_to_wire(error: BaseException) -> list[Any]:
    """What crosses the socket of an error."""
    for kind in type(error).__mro__:
        if _CLASSES.get(kind.__name__) is kind:
            return [kind.__name__, str(error), {name: getattr(error, name) for name in _ATTRIBUTES.get(kind, ())}]
    return ["StoreError", f"the store failed ({type(error).__name__}: {brief(str(error), 500)})", {}]


def error_from_wire(name: str, words: str, attributes: Mapping[str, Any]) -> Exception:
    """The error that was raised at the other end.

    Raises:
        KeyError, TypeError: It is none.
    """
    return _CLASSES[name](words, **attributes)
