"""Ids of points: a part of the storage format, so that each is pinned by its value."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
import pytest

from multimodal_search import ConfigurationError, ContentIds, PathIds, SequentialIds
from multimodal_search.ids import NAMESPACE, as_point_id, id_order

CANONICAL = "0b2f1a34-5c6d-4e7f-8a9b-0c1d2e3f4a5b"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (0, 0),
        (2**64 - 1, 2**64 - 1),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.int8(7), 7),
        (UUID(CANONICAL), CANONICAL),
        (CANONICAL, CANONICAL),
        (CANONICAL.upper(), CANONICAL),
        (f"{{{CANONICAL}}}", CANONICAL),
        (CANONICAL.replace("-", ""), CANONICAL),
    ],
    ids=repr,
)
def test_an_id_has_one_stored_form(given: Any, stored: int | str) -> None:
    """Two spellings of an id that became two points would be two items where there is one."""
    found = as_point_id(given)
    assert found == stored
    assert type(found) is type(stored)


@pytest.mark.parametrize(
    "given", [-1, 2**64, np.int8(-1), True, False, np.bool_(True), 1.0, None, "dog", "", b"1"], ids=repr
)
def test_what_is_no_id_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"an id is an integer from 0 to 2\^64-1 or a UUID, not "):
        as_point_id(given)


def test_ids_of_paths_and_contents_are_those_that_indexes_hold() -> None:
    """Another rule would give every file of an index that exists a second point."""
    assert UUID("5fdc2a3e-6fe5-4e0c-9d5d-7c1f2ad0a2a4") == NAMESPACE
    named, nameless = PathIds().allocate, ContentIds().allocate
    assert named(filename="2024/a.jpg", sha256="00ff") == "00604443-5826-57ac-9dd7-235cd09d4e4f"
    assert named(filename="\xe9.jpg", sha256="00ff") == "8c625741-f34e-5b28-bd3b-70fe94d59b0b"
    assert named(filename="e\u0301.jpg", sha256="00ff") == "8c625741-f34e-5b28-bd3b-70fe94d59b0b"
    assert named(filename=None, sha256="00ff") == "5db88bec-78f9-524f-adc6-24490c531dd6"
    assert nameless(filename="2024/a.jpg", sha256="00ff") == "5db88bec-78f9-524f-adc6-24490c531dd6"
    assert (PathIds().follow_contents, ContentIds().follow_contents) == (False, True)


def test_a_second_file_of_another_spelling_has_an_id_of_its_own() -> None:
    """Which is the former rule's for paths in NFD, as indexes from before spellings were one hold them."""
    assert PathIds().of_spelling("e.jpg") is None
    assert PathIds().of_spelling("日本.jpg") is None
    assert PathIds().of_spelling("e\u0301.jpg") == "c5a40289-c741-5297-bab0-20e69b5fbb94"
    assert PathIds().of_spelling("\xe9.jpg") == "d08c938c-13ea-541e-8c05-2e586ad21abd"


def test_numbers_start_at_any_unsigned_64_bit_integer() -> None:
    assert SequentialIds().start == 0
    assert SequentialIds(2**64 - 1).start == 2**64 - 1


@pytest.mark.parametrize("start", [-1, 2**64, True, 1.0, "0", None], ids=repr)
def test_numbers_start_at_nothing_else(start: Any) -> None:
    with pytest.raises(ConfigurationError, match="SequentialIds starts at an integer"):
        SequentialIds(start)


def test_numbers_come_before_uuids() -> None:
    """The order in which stores give points of equal scores, and scan."""
    assert sorted(["b", 10, "a", 9], key=id_order) == [9, 10, "a", "b"]
