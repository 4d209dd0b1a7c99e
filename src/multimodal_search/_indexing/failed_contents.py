"""Contents that cannot be embedded: found in this run, or known from an earlier one."""

from __future__ import annotations

from collections.abc import Iterable

from multimodal_search._indexing.ledger import Ledger, Verdict


class FailedContents:
    """Remembers why contents cannot be embedded, by their SHA-256.

    Args:
        ledger: What earlier runs found; None where nothing is to be remembered.
        fingerprint: Of the embedder: for another one, nothing is known.
        retry: Whether what failed in earlier runs is tried again.
    """

    def __init__(self, ledger: Ledger | None, fingerprint: str, *, retry: bool) -> None:
        self._ledger = ledger
        self._fingerprint = fingerprint
        self._retry = retry
        self._reasons: dict[str, str] = {}
        self._retried: set[str] = set()

    def among(self, hashes: Iterable[str]) -> dict[str, str]:
        """Those of some contents that failed for good, with the reason."""
        wanted = set(hashes)
        new = wanted - self._reasons.keys()
        if self._ledger is not None and new:
            known = self._ledger.of_contents(new, rules=self._fingerprint)
            if self._retry:
                self._retried |= known.keys()
            else:
                told = "(failed in an earlier run; retry_failed=True tries it again)"
                self._reasons |= {sha256: f"{verdict.reason} {told}" for sha256, verdict in known.items()}
        return {sha256: self._reasons[sha256] for sha256 in wanted & self._reasons.keys()}

    def is_retried(self, sha256: str) -> bool:
        """Whether a content failed in an earlier run, and is tried again."""
        return sha256 in self._retried

    def discard(self, hashes: Iterable[str]) -> None:
        """These were embedded after all."""
        if self._ledger is not None and (passed := self._retried & set(hashes)):
            self._ledger.forget_contents(passed)
            self._retried -= passed

    def add(self, sha256: str, reason: str) -> None:
        """One more failed for good."""
        self._reasons[sha256] = reason
        if self._ledger is not None:
            self._ledger.remember_contents([(sha256, Verdict("failed", "embed", reason))], rules=self._fingerprint)
