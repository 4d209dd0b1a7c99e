"""How a client makes a call: on one of its connections, and where that breaks, once more on a new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

from multimodal_search.errors import StoreError, StoreRefusedError, StoreUnavailableError
from multimodal_search.stores.local_socket.connections import Connections
from multimodal_search.stores.local_socket.errors import error_from_wire
from multimodal_search.stores.local_socket.frames import (
    MAX_MESSAGE_BYTES,
    Array,
    Channel,
    Message,
    ProtocolError,
    Received,
    TooLargeError,
    message_of,
)

Answer: TypeAlias = Received
"""Its header is the value that the call returned, or tells of its arrays and rows."""


class _BrokenError(Exception):
    """A connection has broken.

    Attributes:
        is_unsent: Whether that was before the whole call was sent, so that nothing was done.
    """

    def __init__(self, is_unsent: bool) -> None:
        super().__init__(is_unsent)
        self.is_unsent = is_unsent


class Remote:
    """A client: how its methods make their calls.

    Args:
        connections: Its connections.
        shown: What is served, for messages.
    """

    def __init__(self, connections: Connections, shown: str) -> None:
        self._connections = connections
        self._shown = shown

    def _ask(
        self,
        method: str,
        *arguments: Any,
        arrays: Sequence[Array] = (),
        rows: Sequence[Any] = (),
        on_tick: Callable[..., None] | None = None,
        repeats: bool = True,
    ) -> Answer:
        """Make a call.

        Args:
            method: Its name.
            arguments: What JSON can hold.
            arrays: Vectors.
            rows: The elements of a long list.
            on_tick: Called with each sign of life; what it raises ends the call.
            repeats: Whether it is made once more, on a new connection, where the first one breaks: reads are, and
                writes that twice do what they do once.
        """
        try:
            message = message_of([method, arguments], arrays, rows)
        except TooLargeError:
            raise StoreRefusedError(
                f"a call has more than {MAX_MESSAGE_BYTES // 2**20:,} MiB, the most that another process is sent: give "
                "less at once",
                too_large=True,
            ) from None
        try:
            return self._attempt(message, on_tick)
        except _BrokenError as error:
            self._connections.discard_idle()
            if not (repeats or error.is_unsent):
                raise self._broken() from error
        try:
            return self._attempt(message, on_tick)
        except _BrokenError as error:
            raise self._broken() from error

    def _attempt(self, message: Message, on_tick: Callable[..., None] | None) -> Answer:
        channel = self._connections.take()
        is_whole = False
        try:
            try:
                channel.send(message)
            except OSError as error:
                raise self._gone(is_unsent=True) from error
            kind, answer = self._heard(channel)
            while kind == "tick":
                if on_tick is not None:
                    on_tick(*answer.header)
                kind, answer = self._heard(channel)
            is_whole = True
        finally:
            if is_whole:
                self._connections.give(channel)
            else:
                self._connections.discard(channel)
        if kind == "failed":
            raise error_from_wire(*answer.header)
        return answer

    def _heard(self, channel: Channel) -> tuple[str, Answer]:
        """The next message; while none comes, whether the server is still there is asked on another connection."""
        message = None
        while message is None:
            try:
                message = channel.receive()
            except TimeoutError:
                self._connections.look()
            except OSError as error:
                raise self._gone(is_unsent=False) from error
            except ProtocolError as error:
                raise StoreError(f"{self!r} has answered what this process does not understand") from error
        kind, value = message.header
        return kind, message._replace(header=value)

    def _gone(self, *, is_unsent: bool) -> Exception:
        return self._connections.closed() if self._connections.is_closed else _BrokenError(is_unsent)

    def _broken(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"the connection to the process that serves the store in {self._connections.place} broke during a call, "
            "which may have been made there: it was closed, or has ended"
        )

    def close(self) -> None:
        """Disconnect; the store itself stays open where it is served."""
        self._connections.close()

    def __repr__(self) -> str:
        return f"SocketStore({str(self._connections.place)!r}, {self._shown})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SocketStore cannot be pickled or copied: connect in each process")
