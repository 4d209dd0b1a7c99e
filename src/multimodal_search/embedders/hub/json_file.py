"""The JSON files of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError


def json_of(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ConfigurationError: It is none.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is no JSON: {error}. Copy or download it again") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} holds {brief(found)}, not a JSON object")
    return found
