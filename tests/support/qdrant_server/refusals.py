"""Answers other than 200, in the words of the server."""

from __future__ import annotations


class RefusalError(Exception):
    """An answer other than 200.

    Attributes:
        status: The HTTP status; the gRPC face has a code for each.
        retry_after: Seconds after which another try can pass, if any can.
        plain: Whether the body is the text alone, as for what lies before the server's routes.
    """

    def __init__(self, status: int, error: str, *, retry_after: int | None = None, plain: bool = False) -> None:
        super().__init__(error)
        self.status = status
        self.retry_after = retry_after
        self.plain = plain


class LockedError(RefusalError):
    """A node that takes no writes: 403 as for missing rights, and a gRPC code of its own."""

    def __init__(self, reason: str) -> None:
        super().__init__(403, f"Locked: {reason}")


def wrong_input(error: str, status: int = 400) -> RefusalError:
    return RefusalError(status, f"Wrong input: {error}")


def malformed(error: str) -> RefusalError:
    return RefusalError(400, f"Format error in JSON body: {error}")


def invalid(field: str, error: str) -> RefusalError:
    return RefusalError(422, f"Validation error in JSON body: [{field}: {error}]")


def strict_mode(error: str, advice: str) -> RefusalError:
    return RefusalError(400, f"Bad request: {error}. Help: {advice}")


def internal(error: str) -> RefusalError:
    return RefusalError(500, f"Service internal error: {error}")


def no_collection(name: str) -> RefusalError:
    return RefusalError(404, f"Not found: Collection `{name}` doesn't exist!")
