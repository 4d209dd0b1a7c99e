"""The state of a server, and what it answers: the same for both of its faces."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from qdrant_client import QdrantClient, models

from .cluster import Peer
from .collection import Collection
from .operations import Request, parsed
from .refusals import LockedError, RefusalError, internal, malformed, no_collection, wrong_input
from .rights import Access, Need, need_of

MAX_REQUEST = 32 * 2**20
_OPEN_TO_ALL = {"/": "", "/readyz": "all shards are ready", "/healthz": "healthz check passed"}
_MAX_NAME = 255
_MAX_DIMENSION = 65536


@dataclass(frozen=True)
class Exchange:
    """One request and how it went.

    Attributes:
        face: By which protocol it came.
        path: As in REST, with its parameters.
        started: When it came, in seconds of `time.monotonic`.
        ended: When its answer was ready.
        status: As in HTTP.
    """

    face: Literal["rest", "grpc"]
    method: str
    path: str
    started: float
    ended: float
    status: int


@dataclass(frozen=True)
class Bare:
    """An answer without the envelope of the others."""

    content: Any


class QdrantServer:
    """The state of one server, or of a cluster.

    Attributes:
        url: Where it listens; for a cluster, the balancer that gives each request to the next peer.
        grpc_port: Where it listens to gRPC, if it does.
        peers: The peers of the cluster, each with an address of its own.
        version: What it says it is; setting it settles what it knows.
        keeps_metadata: Whether it is of 1.16 or later.
        knows_prefixes: Whether it is of 1.19 or later.
        knows_substrings: Whether it is of 1.20 or later.
        knows_scoring: Whether it is of 1.20 or later; if not, whether it says so or drops what it does not know.
        unknown_fields: Whether it tells of settings that no client knows yet.
        rounds_floats: Whether some numbers of payloads are stored one unit in the last place off, as by a server that
            reads JSON without round trip.
        key: The key that may do everything; without keys and tokens everybody may.
        read_only_key: The key that may read everything.
        tokens: What each token may do with which collection: "rw" or "r".
        strict_mode: The settings of strict mode that a new collection gets, as Qdrant Cloud's do.
        max_request: Bytes that the body of a REST request may have.
        too_large: How it refuses a body above that: by 400 as Qdrant does, by 413, or by hanging up unread.
        idle_s: Seconds after which it closes a connection on which nothing came, 5 for a real server; None closes each
            after one answer.
        latency_s: Seconds that each request takes at least.
        lag: For how many answers the other peers do not know a new collection, for how many more none of its shards,
            and for how many they tell of settings before a change; infinite for "until `catch_up`".
        leaderless_shards: Shards whose leader is dead: writes to them fail, after those to other shards were done.
        lost_shards: Shards of which no copy is alive: every reading fails, and writes to them.
        locked: Why it takes no writes, if it takes none.
        full: Whether its quota is used up, so that it takes no writes.
        busy: Seconds after which it wants to be asked again, if it is too busy now.
        before: Called with the method and path of each request; may sleep or raise `RefusalError`.
        check: Called with the body of each request; may raise `RefusalError`.
        requests: Method, path and body of each request so far, both faces'.
        exchanges: When each of them came, and when it was answered.
        indexes: The payload indexes of each collection, by field.
    """

    def __init__(self, peers: int = 1) -> None:
        self.url = ""
        self.grpc_port = 0
        self.peers = [Peer() for _ in range(peers)]
        self.version = "1.20.0"
        self.unknown_fields = False
        self.rounds_floats = False
        self.key: str | None = None
        self.read_only_key: str | None = None
        self.tokens: dict[str, dict[str, str]] = {}
        self.strict_mode: dict[str, Any] | None = None
        self.max_request = MAX_REQUEST
        self.too_large: Literal["413", "400", "cut"] = "400"
        self.idle_s: float | None = None
        self.latency_s = 0.0
        self.lag = 0.0
        self.leaderless_shards: set[int] = set()
        self.lost_shards: set[int] = set()
        self.locked: str | None = None
        self.full = False
        self.busy: int | None = None
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.check: Callable[[Any], None] = lambda body: None
        self.requests: list[tuple[str, str, Any]] = []
        self.exchanges: list[Exchange] = []
        self.sizes: list[int] = []
        self.indexes: dict[str, dict[str, Any]] = {}
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        self._client = QdrantClient(location=":memory:")
        self._lock = threading.Lock()
        self._turn = 0

    @property
    def version(self) -> str:
        return self._version

    @version.setter
    def version(self, version: str) -> None:
        self._version = version
        number = tuple(map(int, version.split(".")[:2]))
        self.keeps_metadata = number >= (1, 16)
        self.knows_prefixes = number >= (1, 19)
        self.knows_substrings = number >= (1, 20)
        self.knows_scoring: Literal["yes", "refuses", "drops"] = "yes" if number >= (1, 20) else "drops"

    def asked(self, method: str, pattern: str) -> list[Any]:
        """The bodies of the requests so far whose path matches."""
        return [body for verb, path, body in self.requests if verb == method and re.fullmatch(pattern, path)]

    def round_trips(self) -> int:
        """How many of the requests so far came one after the other: those at one time count as one."""
        count, free = 0, float("-inf")
        for exchange in sorted(self.exchanges, key=lambda exchange: exchange.ended):
            if exchange.started >= free:
                count, free = count + 1, exchange.ended
        return count

    def forget_requests(self) -> None:
        """Count requests from now on."""
        self.requests.clear()
        self.exchanges.clear()
        self.sizes.clear()

    def catch_up(self) -> None:
        """Let every peer know everything."""
        for peer in self.peers:
            peer.catch_up()

    def next_peer(self) -> Peer:
        """The one whose turn it is."""
        with self._lock:
            self._turn += 1
            return self.peers[self._turn % len(self.peers)]

    def close(self) -> None:
        self._client.close()

    # -- one request ---------------------------------------------------------------------------------------------------

    def answer(self, peer: Peer, method: str, path: str, query: Mapping[str, str], body: Any, key: str | None) -> Any:
        """What a request is answered with: plain values, or models of qdrant-client.

        Args:
            peer: Who answers.
            method: As in REST, for both faces.
            path: As in REST, quoted.
            query: The parameters behind the path.
            body: Plain values, or the model that they stand for.
            key: The credentials, if there are any.

        Raises:
            RefusalError: It is answered with something else than 200.
        """
        if self.latency_s:
            time.sleep(self.latency_s)
        if method == "GET" and path in _OPEN_TO_ALL:
            self.before(method, path)
            return Bare(_OPEN_TO_ALL[path] or self.version_info())
        access = self._access(key)
        self.before(method, path)
        self.check(body)
        if self.busy is not None:
            raise RefusalError(429, "Too many requests: the server is busy", retry_after=self.busy)
        place = [unquote(part) for part in path.strip("/").split("/")]
        with self._lock:
            match method, place:
                case "GET", ["collections"]:
                    return {"collections": [{"name": name} for name in sorted(self.collections) if access.sees(name)]}
                case "GET", ["aliases"]:
                    return self._aliases_of(None, access)
                case "POST", ["collections", "aliases"]:
                    access.check("manage", None)
                    self._check_writable("manage")
                    return self._change_aliases(body)
                case _, ["collections", name, *rest]:
                    return self._in_collection(peer, method, name, "/".join(rest), query, body, access)
        raise RefusalError(404, "", plain=True)

    def version_info(self) -> dict[str, str]:
        return {"title": "qdrant - vector search engine", "version": self.version, "commit": "74f3e85b94"}

    def _access(self, key: str | None) -> Access:
        if self.key is None and self.read_only_key is None and not self.tokens:
            return Access("manage", {})
        if key is None:
            raise RefusalError(401, "Must provide an API key or an Authorization bearer token", plain=True)
        if key == self.key:
            return Access("manage", {})
        if key == self.read_only_key:
            return Access("read", {})
        if key in self.tokens:
            return Access(None, self.tokens[key])
        raise RefusalError(401, "Invalid API key or JWT", plain=True)

    def _check_writable(self, need: Need) -> None:
        if need != "read":
            if self.locked is not None:
                raise LockedError(self.locked)
            if self.full:
                raise RefusalError(507, "Insufficient storage: the quota of this node is used up")

    def _in_collection(
        self, peer: Peer, method: str, name: str, action: str, query: Mapping[str, str], body: Any, access: Access
    ) -> Any:
        if (method, action) == ("PUT", ""):
            check_name(name)
        need = need_of(method, action)
        access.check(need, name)
        self._check_writable(need)
        creates = (method, action) == ("PUT", "")
        if creates and name in self.aliases:
            raise wrong_input(f"Can't create collection with name {name}. Alias with the same name already exists")
        name = self.aliases.get(name, name)
        if action == "exists":
            return {"exists": self._known(peer, name)}
        peer.must_know(name, creates=creates)
        if creates:
            return self._create(peer, name, body)
        if (method, action) == ("DELETE", ""):
            return self._drop(name)
        if name not in self.collections:
            raise no_collection(name)
        if (method, action) == ("GET", "aliases"):
            return self._aliases_of(name, access)
        if self.lost_shards and need == "read":
            raise internal(
                "1 of 1 read operations failed:\n  Service internal error: The service is currently unavailable"
            )
        request = Request(self, name, self.collections[name], query, body)
        if (method, action) == ("GET", ""):
            return peer.info(name, request.info())
        if self.lag and (method, action.partition("/")[0]) in {("PATCH", ""), ("PUT", "index"), ("DELETE", "index")}:
            for other in self.peers:
                if other is not peer:
                    other.miss_change(name, request.info(), self.lag)
        return request.answer(method, action)

    def _known(self, peer: Peer, name: str) -> bool:
        try:
            peer.must_know(name, creates=False)
        except RefusalError as refusal:
            return refusal.status != 404
        return name in self.collections

    def _create(self, peer: Peer, name: str, body: Any) -> bool:
        if name in self.collections:
            raise wrong_input(f"Collection `{name}` already exists!", 409)
        request = parsed(models.CreateCollection, body)
        vectors = request.vectors if isinstance(request.vectors, dict) else {"": request.vectors}
        if any(each is not None and not 1 <= each.size <= _MAX_DIMENSION for each in vectors.values()):
            raise malformed("data did not match any variant of untagged enum VectorsConfig")
        stored = Collection.created(request, shards=len(self.peers), strict_mode=self.strict_mode)
        if not self.keeps_metadata:
            stored.metadata = None
        self._client.create_collection(name, vectors_config=request.vectors or {})
        self.collections[name] = stored
        if self.lag:
            for other in self.peers:
                if other is not peer:
                    other.miss_collection(name, self.lag)
        return True

    def _drop(self, name: str) -> bool:
        if self.collections.pop(name, None) is None:
            return False
        self.indexes.pop(name, None)
        self.aliases = {alias: owner for alias, owner in self.aliases.items() if owner != name}
        self._client.delete_collection(name)
        return True

    # -- aliases -------------------------------------------------------------------------------------------------------

    def _aliases_of(self, name: str | None, access: Access) -> Any:
        return {
            "aliases": [
                {"alias_name": alias, "collection_name": owner}
                for alias, owner in self.aliases.items()
                if name in {None, owner} and access.sees(owner)
            ]
        }

    def _change_aliases(self, body: Any) -> bool:
        """One after the other: what was done before a refusal stays done."""
        for action in parsed(models.ChangeAliasesOperation, body).actions:
            if isinstance(action, models.CreateAliasOperation):
                wanted = action.create_alias
                if wanted.collection_name not in self.collections:
                    raise no_collection(wanted.collection_name)
                if wanted.alias_name in self.collections:
                    raise wrong_input(f"Collection `{wanted.alias_name}` already exists!", 409)
                self.aliases[wanted.alias_name] = wanted.collection_name
            elif isinstance(action, models.DeleteAliasOperation):
                self.aliases.pop(action.delete_alias.alias_name, None)
            else:
                names = action.rename_alias
                if names.old_alias_name not in self.aliases:
                    raise RefusalError(404, f"Not found: Alias {names.old_alias_name} does not exists!")
                self.aliases[names.new_alias_name] = self.aliases.pop(names.old_alias_name)
        return True


def check_name(name: str) -> None:
    wrong = next((letter for letter in name if letter in '<>:"/\\|?*' or ord(letter) < 32), None)
    if wrong is not None:
        said = f'collection name cannot contain "{wrong}" char'
    elif not 1 <= len(name) <= _MAX_NAME:
        said = f'value "{name}" invalid, must be from 1 to {_MAX_NAME} characters'
    else:
        return
    raise RefusalError(422, f"Validation error in path parameters: [collection_name: {said}]")
