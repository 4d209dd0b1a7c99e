"""Contract tests for backends: subclass one in your own test suite."""

import pytest

pytest.register_assert_rewrite("multimodal_search.testing.store")
