"""The peers of a cluster, of which one may be behind the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .refusals import internal, no_collection, wrong_input


@dataclass
class _Behind:
    unknown: float
    without_shards: float


@dataclass
class Peer:
    """One peer of a cluster: it shares everything with the others, and may know of it later than they do.

    Attributes:
        url: Where it listens.
        grpc_port: Where it listens to gRPC; 0 if it does not.
    """

    url: str = ""
    grpc_port: int = 0
    _collections: dict[str, _Behind] = field(default_factory=dict)
    _infos: dict[str, tuple[Any, float]] = field(default_factory=dict)

    def miss_collection(self, name: str, answers: float) -> None:
        """Not know a new collection for so many answers, and none of its shards for as many more."""
        self._collections[name] = _Behind(answers, answers)

    def miss_change(self, name: str, info: Any, answers: float) -> None:
        """Tell the settings of before a change for so many answers."""
        self._infos.setdefault(name, (info, answers))

    def catch_up(self) -> None:
        self._collections.clear()
        self._infos.clear()

    def must_know(self, name: str, *, creates: bool) -> None:
        """Refuse a request to what it does not know yet."""
        behind = self._collections.get(name)
        if behind is None:
            return
        if behind.unknown > 0:
            behind.unknown -= 1
            raise wrong_input(f"Collection `{name}` already exists!") if creates else no_collection(name)
        if behind.without_shards > 0 and not creates:
            behind.without_shards -= 1
            raise internal("0 of 0 read operations failed")
        if behind.without_shards <= 0:
            del self._collections[name]

    def info(self, name: str, info: Any) -> Any:
        """The settings of a collection as this peer knows them."""
        if name in self._infos:
            old, answers = self._infos.pop(name)
            if answers > 0:
                self._infos[name] = (old, answers - 1)
                return old
        return info
