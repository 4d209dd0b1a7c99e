"""What a server says of a collection and of itself, also one that is newer than qdrant-client."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from multimodal_search.errors import StoreError
from multimodal_search.stores.qdrant.errors import status_of

if TYPE_CHECKING:
    from pydantic import ValidationError
    from qdrant_client import QdrantClient, models

    from multimodal_search.stores.qdrant.client import Connection

T = TypeVar("T")

BEHIND_S = 10.0
"""How long a peer of a cluster may be behind the others, when it is up: 180 ms were seen."""

PAUSE_S = 0.05
"""Between two attempts to see what a peer may not know yet."""

_TICK_S, _ASK_S = 0.2, 1.0
_MAX_UNKNOWN = 200  # parts of an answer that are left out, before it is taken for one of another kind


def collection_info(client: QdrantClient, collection: str) -> models.CollectionInfo:
    """Get the description of a collection; what qdrant-client does not know of it is left out.

    Over REST, the client itself refuses an answer with any setting that is newer than it.

    Raises:
        Exception: As `client.get_collection`.
    """
    from pydantic import ValidationError

    try:
        return client.get_collection(collection)
    except Exception as error:
        if not isinstance(getattr(error, "source", None), ValidationError):
            raise
        answer = client.http.client.request(
            type_=dict[str, Any],
            method="GET",
            url="/collections/{collection_name}",
            path_params={"collection_name": collection},
        )
        info = _known_parts(answer.get("result"))
        if info is None:
            raise
        return info


def once_known(call: Callable[[], T], *, statuses: Sequence[int] = (404, 500)) -> T:
    """Make a call about a collection that exists, and repeat it while the peer that answers may be behind.

    Such a peer answers 404, or 500 while it knows the collection and none of its shards.

    Args:
        call: Makes it.
        statuses: Of its errors that may pass.

    Raises:
        Exception: What the last attempt raised.
    """
    deadline = time.monotonic() + BEHIND_S
    while True:
        try:
            return call()
        except Exception as error:
            if status_of(error) not in statuses or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_S)


def wait_until_built(connection: Connection, on_tick: Callable[[], None] | None = None) -> models.CollectionInfo:
    """Wait until a server has built what it is building of a collection; returns its description then.

    Raises:
        StoreError: It cannot build it.
    """
    from qdrant_client import models

    while True:
        with connection.calling() as client:
            info = collection_info(client, connection.collection)
        if info.status == models.CollectionStatus.GREEN:
            return info
        if info.status == models.CollectionStatus.RED:
            said = getattr(info.optimizer_status, "error", info.optimizer_status)
            raise StoreError(f"{connection}: the server failed to build its index: {said}")
        pause(on_tick)


def pause(on_tick: Callable[[], None] | None = None) -> None:
    """Wait before a server that is building is asked again: a second, which it may also take to begin."""
    until = time.monotonic() + _ASK_S
    while time.monotonic() < until:
        if on_tick is not None:
            on_tick()
        time.sleep(_TICK_S)


def server_version(client: QdrantClient) -> tuple[int, int] | None:
    """The server's major and minor version; None if it does not say."""
    try:
        found = re.match(r"v?(\d+)\.(\d+)", client.info().version)
    except Exception:  # noqa: BLE001 (a proxy may pass on nothing but collections)
        return None
    return None if found is None else (int(found[1]), int(found[2]))


def _known_parts(answer: Any) -> models.CollectionInfo | None:
    """Parse a description without the parts that the client's models do not know; None if too little is left."""
    from pydantic import ValidationError
    from qdrant_client import models

    for _ in range(_MAX_UNKNOWN):
        try:
            return models.CollectionInfo.model_validate(answer)
        except ValidationError as error:
            path = _unknown_part(error, answer)
        if not path:
            return None
        parent = answer
        for name in path[:-1]:
            parent = parent[name]
        del parent[path[-1]]
    return None


def _unknown_part(error: ValidationError, answer: Any) -> Sequence[str | int]:
    """The path of a part to leave out: a field that is in the way of nothing else, or what holds the trouble."""
    groups: dict[Sequence[str | int], list[tuple[str, Sequence[str | int]]]] = defaultdict(list)
    for each in error.errors():
        path, branch = _path_in(answer, each["loc"])
        groups[branch].append((each["type"], path))
    for troubles in groups.values():  # one for each way in which a value may be read
        if all(kind == "extra_forbidden" for kind, _ in troubles):
            return troubles[0][1]
    return next(iter(groups.values()))[0][1]


def _path_in(answer: Any, place: Sequence[str | int]) -> tuple[Sequence[str | int], Sequence[str | int]]:
    """The part of a place that is in an answer, and the place up to the first name of a model in it."""
    path: list[str | int] = []
    branch: Sequence[str | int] | None = None
    value = answer
    for number, name in enumerate(place):
        if isinstance(value, dict) and name in value:
            path.append(name)
            value = value[name]
        elif branch is None:
            branch = tuple(place[: number + 1])
    return tuple(path), tuple(path) if branch is None else branch
