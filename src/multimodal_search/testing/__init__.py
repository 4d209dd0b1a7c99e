"""Contract tests for backends: subclass one in your own test suite. They need the extra `testing`.

store           the contract of `VectorStore`
embedder        of `Embedder`
texts           of `SupportsTextSearch`
notes           of `SupportsIndexMetadata`
_writing        what `upsert` and `delete` must do
_searching      what `search` must do
_reading        what `get`, `scan` and `count` must do, and filters
_threads        several threads
_durability     several processes, one of them killed
_child          run a backend in another process
_points         points that the contracts store
_filter_cases   known answers for filters
_payload_cases  awkward payloads, and random ones
_images          images that the contract of embedders embeds
"""

from multimodal_search._extras import require

require("pytest", extra="testing", purpose="multimodal_search.testing")
import pytest  # noqa: E402 (after the check that it is there)

pytest.register_assert_rewrite(
    *(
        f"multimodal_search.testing.{name}"
        for name in (
            "store",
            "embedder",
            "texts",
            "notes",
            "_writing",
            "_searching",
            "_reading",
            "_threads",
            "_durability",
            "_child",
            "_embedding",
            "_embedding_texts",
            "_embedding_images",
        )
    )
)
