"""Run one test of a contract on a backend that is wrong on purpose."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest


def faults_found(contract: object, test: str, fixtures: Callable[[], dict[str, Any]]) -> list[BaseException]:
    """What the test `test` of a contract raises, in each of its cases.

    Args:
        contract: An instance of the class of tests.
        test: The name of one of them.
        fixtures: Called before each case; gives what the test may ask for, by name.
    """
    method = getattr(contract, test)
    wanted = set(inspect.signature(method).parameters)
    found: list[BaseException] = []
    for case in _cases(method):
        given = fixtures() | case
        try:
            method(**{name: value for name, value in given.items() if name in wanted})
        except pytest.skip.Exception:
            raise
        except (Exception, pytest.fail.Exception) as error:
            if isinstance(error, TypeError) and "required positional argument" in str(error):
                raise
            found.append(error)
    return found


def _cases(method: Any) -> Iterator[dict[str, Any]]:
    """The arguments of each case of a test that is parametrized."""
    marks = [mark for mark in getattr(method, "pytestmark", ()) if mark.name == "parametrize"]
    names = [mark.args[0] for mark in marks]
    for values in itertools.product(*(mark.args[1] for mark in marks)):
        yield dict(zip(names, values, strict=True))
