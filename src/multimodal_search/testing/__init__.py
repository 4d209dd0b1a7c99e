"""Contract tests for backends: subclass one in your own test suite."""

import pytest

pytest.register_assert_rewrite(*(f"multimodal_search.testing.{name}" for name in ("store", "texts", "notes")))
