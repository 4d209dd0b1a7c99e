"""Make clients of Qdrant in a fifth of the time: a test makes several, and each reads the same files again.

A client that talks to a socket without TLS loads all certificates nonetheless, and copies a table of its schema in
Python. Here both are done once a process; every client still has its own copy of the table.
"""

from __future__ import annotations

import pickle
import ssl
from functools import cache
from typing import Any

import certifi
from qdrant_client.embed import schema_parser

_make_context = ssl.create_default_context


@cache
def _context(cafile: str) -> ssl.SSLContext:
    return _make_context(cafile=cafile)


def _shared_context(*args: Any, **settings: Any) -> ssl.SSLContext:
    """One for all who ask for certifi's authorities and nothing else, as the client's library does."""
    if not args and settings == {"cafile": certifi.where()}:
        return _context(certifi.where())
    return _make_context(*args, **settings)


def _copied(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


ssl.create_default_context = _shared_context
if hasattr(schema_parser, "deepcopy"):
    schema_parser.deepcopy = _copied
