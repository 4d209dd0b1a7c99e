"""The words of a point: one text, of the payload fields that keyword search looks in, made when the point is stored.

A word counts as often as in the field that holds it most often: in a name, a title and a caption, it is one word.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multimodal_search._bounds import MAX_PATH_LENGTH
from multimodal_search._payload import WORDS
from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError, ContentError

__all__ = ["DEFAULT_KEYWORD_FIELDS", "WORDS", "KeywordFields", "check_free", "own_payload", "point_words", "with_words"]

DEFAULT_KEYWORD_FIELDS = ("filename", "caption", "title", "description", "keywords", "text", "ocr")
"""The payload fields whose texts are the words of a point, unless an index is set to others."""

NOTE = "keyword_fields"
"""The name of the index metadata that holds a `KeywordFields`."""

_MAX_FIELDS = 100
_WORD = re.compile(r"[^\x00-/:-@\[-`{-\x7f\s]+")  # an engine may split them further, at signs outside ASCII
_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")


@dataclass(frozen=True, slots=True)
class KeywordFields:
    """Which payload fields make up the words of a store's points, as kept with the store.

    Attributes:
        fields: Their names.
        complete: Whether all points have the words of these fields; else they were stored before the words were kept,
            or for other fields, and keyword search reads payloads until `set_keyword_fields` has written them.

    Raises:
        ConfigurationError: `fields` is no list of names of payload fields.
    """

    fields: tuple[str, ...] = DEFAULT_KEYWORD_FIELDS
    complete: bool = False

    def __post_init__(self) -> None:
        names = self.fields
        if (
            not isinstance(names, Sequence)
            or isinstance(names, (str, bytes))
            or not 1 <= len(names) <= _MAX_FIELDS
            or not all(isinstance(name, str) and len(name) <= MAX_PATH_LENGTH for name in names)
        ):
            raise ConfigurationError(
                f"keyword fields are a list of 1 to {_MAX_FIELDS} names of payload fields, of at most "
                f"{MAX_PATH_LENGTH:,} characters each, not {brief(names)}"
            )
        if WORDS in names:
            raise ConfigurationError(
                f"{WORDS!r} is where stores keep the words of a point, and no field of a payload: name the fields that "
                "the words are from"
            )
        object.__setattr__(self, "fields", tuple(dict.fromkeys(names)))

    @classmethod
    def given(cls, fields: Sequence[str]) -> KeywordFields:
        """Of all points, as somebody sets them.

        Raises:
            ConfigurationError: They are no list of names.
        """
        return cls(fields, complete=True)  # type: ignore[arg-type]  # a tuple is made of it

    @classmethod
    def of(cls, text: str | None) -> KeywordFields:
        """From what `to_text` gave; the defaults, not complete, where there is none that can be read."""
        try:
            kept = json.loads(text or "")
            return cls(kept["fields"], kept["complete"] is True)
        except (ValueError, TypeError, KeyError, RecursionError):  # ConfigurationError is a ValueError
            return cls()

    def to_text(self) -> str:
        """As JSON, for the index metadata."""
        return json.dumps({"fields": self.fields, "complete": self.complete})


def point_words(payload: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The words of a point, separated by spaces.

    Args:
        payload: Of the point. Texts count, and texts in a list; of `filename` the words of the path without its
            extension.
        fields: Names of payload fields.
    """
    words: list[str] = []
    most: dict[str, int] = {}  # of each word, in one of the fields so far
    for field in fields:
        texts = _texts(payload.get(field))
        if not texts:
            continue
        text = " ".join(texts)
        here = _WORD.findall(_EXTENSION.sub("", text) if field == "filename" else text)
        keys = [word.lower() for word in here]
        counts = Counter(keys)
        if most.keys().isdisjoint(counts):
            words += here
            most |= counts
            continue
        seen: Counter[str] = Counter()
        for word, key in zip(here, keys, strict=True):
            seen[key] += 1
            if seen[key] > most.get(key, 0):
                most[key] = seen[key]
                words.append(word)
    return " ".join(words)


def with_words(payload: Mapping[str, Any], fields: Sequence[str], key: object) -> dict[str, Any]:
    """A payload with the words of its point, as it is stored.

    Raises:
        ContentError: As `check_free`.
    """
    check_free(payload, key)
    return {**payload, WORDS: point_words(payload, fields)}


def own_payload(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A payload as it was given, of one that is stored `with_words`."""
    return {name: value for name, value in stored.items() if name != WORDS}


def check_free(payload: Mapping[str, Any], key: object) -> None:
    """Check that a payload has no field of the name that words are kept under.

    Raises:
        ContentError: It has; the message names the record.
    """
    if WORDS in payload:
        raise ContentError(
            f"the payload of {brief(key)} has a field {WORDS!r}, the name under which stores keep the words of a "
            "point for keyword search: give yours another name"
        )


def _texts(value: object) -> Sequence[str]:
    """The texts of a field's value: itself, or the elements of a list."""
    if isinstance(value, str):
        return (value,)
    return [each for each in value if isinstance(each, str)] if isinstance(value, (list, tuple)) else ()
