"""Optional packages: imported where they are used, and a clear error where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from multimodal_search.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: Its import name.
        extra: The extra of this library that installs it.
        purpose: What needs it, as the subject of the message's sentence.

    Raises:
        MissingExtraError: It is not installed; the message holds the pip command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # something else is missing: a broken installation, which this message would hide
        raise MissingExtraError(
            f"{purpose} needs the package {module!r}, which is not installed. "
            f'Install it with: pip install "multimodal-search[{extra}]"'
        ) from None
