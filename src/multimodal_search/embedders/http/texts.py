"""A text as it is sent: what a tokenizer takes for a special token is taken apart."""

from __future__ import annotations

import re

from multimodal_search.contents import Text

_SPECIAL = re.compile(
    r"<(?=\|[^\s|]{1,40}\|>)"  # CLIP's <|endoftext|>, Qwen's <|im_end|>
    r"|<(?=/?(?:s|pad|unk|bos|eos|cls|sep|mask|image|video|audio)>)"
    r"|<(?=(?:start|end)_of_(?:turn|image|audio|video)>)"
    r"|\[(?=(?:CLS|SEP|PAD|MASK|UNK|IMG|INST|/INST)\])",
    re.IGNORECASE,
)


def as_sent(text: Text) -> Text:
    """A text in which servers find no special token of a model.

    Their tokenizers obey these wherever they stand: the text after an end of text would play no part, and a document
    could close the turn of a chat that it is embedded in. A space after the first character prevents that.
    """
    plain = _SPECIAL.sub(lambda found: f"{found[0]} ", text.text)
    return text if plain == text.text else Text(plain)
