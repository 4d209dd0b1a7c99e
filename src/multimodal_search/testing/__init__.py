"""Contract tests for backends: subclass one in your own test suite. They need the extra `testing`.

store              the contract of `VectorStore`
embedder           of `Embedder`
texts              of `SupportsTextSearch`
notes              of `SupportsIndexMetadata`
_writing           what `upsert` and `delete` must do
_searching         what `search` must do
_reading           what `get`, `scan` and `count` must do, and filters
_threads           several threads on one store
_durability        several processes, one of them killed
_embedding         what the tests of embedders share
_embedding_texts   what an embedder must do with texts
_embedding_images  what it must do with images, and `prepare`
_child             run a backend in another process
_concurrency       threads that interrupt each other often
_points            points that the contracts store
_images            images that the contract of embedders embeds
_filter_cases      known answers for filters
_payload_cases     awkward payloads, and random ones
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
