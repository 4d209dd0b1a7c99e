"""Fixtures that every test may use."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# A shell starts programs in its background deaf to Ctrl-C, and theirs too: some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photos and strange files beside the checkout; the test skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the photo collection in {folder}, which is not part of the project")
    return folder
