"""Texts as a model was trained on them, whatever its tokenizer or sentence-transformers would make of them."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Mapping
from typing import Any

_SIGLIP_LENGTH = 64
_USUAL_MAX_TOKENS = 8_192  # some models read 262,144, for which attention takes hours on a processor

_BY_ROLE = {
    "query": ("query", "searchquery", "retrievalquery"),
    "document": ("document", "passage", "corpus", "searchdocument", "retrievaldocument", "retrievalpassage"),
}
"""What models call the prompts of the two roles, in lower-case letters alone."""


class TextRules:
    """How a model's texts are made. Safe to use from many threads.

    SigLIP was trained on lower-cased texts, padded to 64 tokens, and takes its vector from the last of them (Tschannen
    et al. 2025, SigLIP 2, section 2.1): sentence-transformers pads to the longest text of a batch, and the tokenizers
    that are published with SigLIP 2 keep the case.

    Args:
        tokenizer: Of the model: transformers' or another, which nothing is asked or told; None where it has none.
        config: Of the model.
        max_tokens: Most tokens of a text; None is what the model reads, but no more than 8,192.
    """

    def __init__(self, tokenizer: Any, config: Any, max_tokens: int | None) -> None:
        self._is_siglip = str(getattr(config, "model_type", "")).startswith("siglip")
        self._lock = threading.Lock()
        self._special = _special_tokens(tokenizer)
        tokenizer = tokenizer if hasattr(tokenizer, "model_max_length") else None
        self._counter = copy.deepcopy(tokenizer)  # counting sets what a tokenizer does with long texts
        self.length = _length(tokenizer, config, max_tokens, is_siglip=self._is_siglip)
        if self.length is not None:
            tokenizer.model_max_length = self.length

    @property
    def processing(self) -> Mapping[str, Any]:
        """What sentence-transformers is to be told about texts."""
        if not self._is_siglip:
            return {}
        return {"text": {"padding": "max_length", "max_length": self.length, "truncation": True}}

    def cleaned(self, text: str) -> str:
        """A text as it is given to the tokenizer: special tokens in it are plain text."""
        text = text.lower() if self._is_siglip else text
        # A blank within them: tokenizers look for them in the raw text.
        return text if self._special is None else self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def is_truncated(self, text: str) -> bool:
        """Whether the model sees only the beginning of a text, its prompt included."""
        text = self.cleaned(text)
        if self.length is None or len(text.encode()) < self.length - 8:  # no token is shorter than a byte
            return False
        with self._lock:
            ids = self._counter(text, truncation=False, padding=False, verbose=False)["input_ids"]
        return len(ids) > self.length


def prompt_of(role: str, chosen: str | None, prompts: Mapping[str, str], default: str | None) -> str:
    """What comes before a text: as it was chosen, else as the model names it for a role, else its default.

    Args:
        role: `"query"` or `"document"`; of an image, which models name no prompt for, `"image"`.
        chosen: The name of one of the prompts, or a text; None leaves it to the model.
        prompts: The model's, by name.
        default: The name of the one that it uses where none is named.
    """
    if chosen is not None:
        return prompts.get(chosen, chosen)
    by_name = {re.sub(r"[^a-z]", "", name.lower()): prompt for name, prompt in prompts.items() if prompt}
    named = [by_name[name] for name in _BY_ROLE.get(role, ()) if name in by_name]
    return named[0] if named else prompts.get(default or "", "")


def _special_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    listed = getattr(tokenizer, "get_added_tokens_decoder", dict)  # as the package tokenizers has it
    added = getattr(tokenizer, "added_tokens_decoder", listed()).values()
    tokens = {*getattr(tokenizer, "all_special_tokens", ()), *(str(each) for each in added if each.special)}
    long = sorted((re.escape(token) for token in tokens if len(token) > 1), key=len, reverse=True)
    return re.compile("|".join(long), re.IGNORECASE) if long else None


def _length(tokenizer: Any, config: Any, max_tokens: int | None, *, is_siglip: bool) -> int | None:
    """Most tokens of a text; None without a tokenizer."""
    if tokenizer is None:
        return None
    inner = config.get_text_config() if hasattr(config, "get_text_config") else config
    positions = getattr(inner, "max_position_embeddings", None)
    if is_siglip:
        return positions if isinstance(positions, int) else _SIGLIP_LENGTH
    limits = [positions, getattr(tokenizer, "model_max_length", None), max_tokens or _USUAL_MAX_TOKENS]
    return min(each for each in limits if isinstance(each, int) and each > 0)
