"""Texts as the input of a model: cleaned, cut and padded as the model was trained."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from multimodal_search._extras import require
from multimodal_search.errors import ConfigurationError
from multimodal_search.types import Role

Clean: TypeAlias = Literal["none", "lower", "spaces", "canonicalize"]
"""What is done to a text first: nothing, lower case, white space as single blanks, or that and no punctuation."""

Pad: TypeAlias = Literal["length", "longest"]
"""To the model's own length, or to the longest text of a batch, which needs a model that masks padding."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRules:
    """How a model's texts are made.

    Attributes:
        length: Most tokens; the rest of a text is cut.
        pad: How far texts are padded.
        pad_token: What with.
        clean: What is done to a text first.
        query_prefix: What comes before a text to search with.
        document_prefix: What comes before a text to be found.
        language: A FLORES-200 code such as `"eng_Latn"`, which NLLB's tokenizer has as a token before the text.
    """

    length: int
    pad: Pad
    pad_token: str
    clean: Clean = "none"
    query_prefix: str = ""
    document_prefix: str = ""
    language: str = ""

    def cleaned(self, text: str, role: Role) -> str:
        """A text as the tokenizer is given it.

        `"canonicalize"` is open_clip's `canonicalize_text`, which SigLIP was trained with.
        """
        match self.clean:
            case "lower":
                text = text.lower()
            case "spaces":
                text = " ".join(text.split())
            case "canonicalize":
                text = " ".join(text.replace("_", " ").translate(_PUNCTUATION).lower().split())
            case "none":
                pass
        return (self.query_prefix if role == "query" else self.document_prefix) + text


class TextTokenizer:
    """Makes arrays of texts; safe to use from many threads.

    Args:
        path: The file `tokenizer.json`.
        rules: How texts are made.

    Raises:
        ConfigurationError: The file is not a tokenizer, or does not know the padding.
        MissingExtraError: The extra `local` is not installed.
    """

    def __init__(self, path: Path, rules: TextRules) -> None:
        self._rules = rules
        package = require("tokenizers", extra="local", purpose="OnnxEmbedder")
        try:
            tokenizer = package.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises `Exception` itself
            raise ConfigurationError(f"{path} is not a tokenizer: {error}. Copy or download it again") from error
        pad_id = tokenizer.token_to_id(rules.pad_token)
        if pad_id is None:
            raise ConfigurationError(
                f"{path} has no token {rules.pad_token!r}, which is to pad texts: name another as pad_token in "
                "tokenizer_config.json beside it"
            )
        tokenizer.enable_truncation(max_length=rules.length)
        tokenizer.no_padding()
        if rules.language and tokenizer.token_to_id(rules.language) is None:
            raise ConfigurationError(
                f"{path} has no token {rules.language!r}: language is a code of FLORES-200, such as 'eng_Latn', for "
                "models of NLLB only"
            )
        self._language = tokenizer.encode(rules.language, add_special_tokens=False) if rules.language else None
        # Words of a text that look like special tokens are words: a model that pools at the end token would see
        # nothing of what follows.
        tokenizer.encode_special_tokens = True
        self._pad_id = pad_id
        self._tokenizer = tokenizer
        self._untruncated = package.Tokenizer.from_str(tokenizer.to_str()) if rules.language else tokenizer
        if rules.language:
            self._untruncated.no_truncation()
            self._untruncated.encode_special_tokens = True

    def arrays(self, texts: Sequence[str], role: Role) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The ids of texts and their masks, each of shape (n, length), int64."""
        found = [self._encoded(text, role).ids for text in texts]
        length = self._rules.length if self._rules.pad == "length" else max(map(len, found))
        ids = np.full((len(found), length), self._pad_id, np.int64)
        mask = np.zeros_like(ids)
        for number, each in enumerate(found):
            ids[number, : len(each)] = each
            mask[number, : len(each)] = 1
        return ids, mask

    def is_truncated(self, text: str, role: Role) -> bool:
        """Whether the model sees only the beginning of a text."""
        return bool(self._encoded(text, role).overflowing)

    def _encoded(self, text: str, role: Role) -> Any:
        text = self._rules.cleaned(text, role)
        if self._language is None:
            return self._tokenizer.encode(text)
        # Not `merge` of two that are cut already: what is cut depends on both.
        parts = [self._language, self._untruncated.encode(text, add_special_tokens=False)]
        return self._tokenizer.post_process(type(self._language).merge(parts))
