"""What went wrong between a service and us, as this library's errors."""

from __future__ import annotations

from dataclasses import dataclass

from multimodal_search.embedders.limiter import Passing
from multimodal_search.embedders.service.answers import BadStatus, NoAnswer
from multimodal_search.errors import (
    EmbedderAuthError,
    EmbedderError,
    EmbedderQuotaError,
    EmbedderUnavailableError,
    MultimodalSearchError,
    UnsupportedContentError,
)

_UNREACHABLE_RETRIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What messages call a service and its settings.

    Attributes:
        where: The service, with its address and model.
        address: The setting that holds its address.
        key: The setting that holds the token or key.
        smaller: How to make a request of one image smaller.
    """

    where: str
    address: str
    key: str
    smaller: str


def passing(error: Exception, *, retries: int, once: bool = False) -> Passing | None:
    """What an error says of repeating the request; None for trouble that stays.

    Args:
        error: What an attempt raised.
        retries: Attempts after the first one, at most.
        once: Whether to repeat it only where the service has too many requests.
    """
    if isinstance(error, NoAnswer) and not error.untrusted:
        most = min(retries, _UNREACHABLE_RETRIES) if error.unreachable else retries
        return Passing(retries=0 if once else most)
    if isinstance(error, BadStatus) and (error.status in (408, 429) or error.status >= 500):
        return Passing(
            asked_s=error.retry_after_s,
            retries=0 if once and not error.is_overload else retries,
            is_overload=error.is_overload or error.status in (408, 503),
        )
    return None


def translated(
    failure: BadStatus | NoAnswer, words: Wording, *, attempts: int, has_answered: bool
) -> MultimodalSearchError:
    """The error to raise.

    Args:
        failure: What the last attempt raised.
        words: For messages.
        attempts: How many there were.
        has_answered: Whether the service has taken the key before.
    """
    where = words.where
    tried = f"after {attempts} attempt{'s' if attempts > 1 else ''}"
    if isinstance(failure, NoAnswer):
        return _silence(failure, where, tried)
    status, said = failure.status, failure.said
    if 300 <= status < 400:
        return EmbedderError(f"{where} redirects ({said}): give the address of the API itself as {words.address}")
    if status in (400, 422):
        return UnsupportedContentError(f"{where} refuses it ({said}): shorten a long text, or leave it out")
    if status == 403 and has_answered:  # the key is good: a firewall may dislike one content
        return EmbedderError(f"{where} forbids it ({said}): check what a firewall in front of it lets through")
    if status in (401, 403):
        return EmbedderAuthError(f"{where} refuses the {words.key} ({said}): check it, and what it is allowed to do")
    if status == 402:
        return EmbedderQuotaError(f"{where} says that no credit is left ({said}): top up the account")
    if status == 404:
        return EmbedderError(f"{where} is not there ({said}): check {words.address}, with its path, and model")
    if passing(failure, retries=0) is not None:
        return EmbedderUnavailableError(
            f"{where} is overloaded or out of order {tried} ({said}): try again later, or with a smaller "
            "max_concurrency",
            retry_after_s=failure.retry_after_s,
            trouble="overload" if failure.is_overload else "other",
        )
    return EmbedderError(f"{where} failed ({said}): check {words.address} and model, and tell its operator")


def _silence(failure: NoAnswer, where: str, tried: str) -> MultimodalSearchError:
    why = failure.reason
    if failure.untrusted:
        return EmbedderError(
            f"{where} shows a certificate that is not trusted ({why}): if it is your own, set the environment "
            "variable REQUESTS_CA_BUNDLE to the file of its authority"
        )
    if failure.unreachable:
        return EmbedderUnavailableError(
            f"{where} cannot be reached {tried} ({why}): check host, network and proxy", trouble="unreachable"
        )
    return EmbedderUnavailableError(
        f"{where} gave no complete answer {tried} ({why}): try again later, with a smaller max_concurrency or "
        "max_batch_size, or with a larger timeout_s",
        trouble="overload" if failure.unsent else "time-out" if failure.timed_out else "other",
    )
