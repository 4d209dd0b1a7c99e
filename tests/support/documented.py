"""The backends that the docs show, as classes to import: also in another process."""

from __future__ import annotations

import re
from typing import Any

from paths import ROOT


def _shown(page: str, begins: str) -> Any:
    """The class whose definition begins so in a block of code of a page, without what stands below it."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    (code,) = [
        block for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if begins in block
    ]
    names: dict[str, Any] = {"__name__": __name__}
    exec(code.partition("\n\n\nindex = ")[0], names)
    return names[begins.split()[1].rstrip(":")]


SQLiteStore = _shown("writing-a-store.md", "class SQLiteStore:")
ThumbnailEmbedder = _shown("writing-an-embedder.md", "class ThumbnailEmbedder:")
