"""Contract tests for backends: subclass one in your own test suite.

store          the contract of `VectorStore`
texts          of `SupportsTextSearch`
notes          of `SupportsIndexMetadata`
_points        points that the contracts store
_filter_cases  known answers for filters
"""

import pytest

pytest.register_assert_rewrite(*(f"multimodal_search.testing.{name}" for name in ("store", "texts", "notes")))
