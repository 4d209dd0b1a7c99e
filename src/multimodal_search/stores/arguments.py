"""Notes, the texts that a store keeps beside its points: what they may be called and hold."""

from __future__ import annotations

import re

from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError

_NAME = re.compile(r"[a-z0-9_]{1,100}")


def checked_name(name: str) -> str:
    """The name of a note.

    Raises:
        ConfigurationError: It is no such name.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"a note's name is 1 to 100 lower-case letters, digits and _, not {brief(name, 120)}")
    return name


def checked_text(name: str, text: str) -> str:
    """The text of the note `name`.

    Raises:
        ConfigurationError: It is no text that UTF-8 can hold.
    """
    try:
        text.encode()
    except (AttributeError, UnicodeEncodeError) as error:
        raise ConfigurationError(f"the note {name!r} is no text that UTF-8 can hold: {brief(text, 120)}") from error
    return text
