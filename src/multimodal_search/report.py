"""Reports: what an indexing run did, what failed, how far it has come, and the state of an index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, TypeAlias

from multimodal_search._secrets import without_secrets
from multimodal_search._text import counted, printable, prose, shorten, without_name

FailureStage: TypeAlias = Literal["scan", "load", "embed", "write"]
"""Where in an indexing run something happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One item that could not be indexed.

    Attributes:
        name: Its file, id or description.
        stage: Where it failed.
        reason: Why; an error's message is taken without the name that it begins with.
    """

    name: str
    stage: FailureStage
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", without_secrets(without_name(self.reason, self.name)))
        object.__setattr__(self, "name", without_secrets(self.name))  # an address may have been taken for a path

    def __str__(self) -> str:
        return f"{printable(self.name)}: {prose(self.reason)}"

    def to_dict(self) -> dict[str, str]:
        """As a plain dict of what JSON knows."""
        return {"name": self.name, "stage": self.stage, "reason": self.reason}


Stage: TypeAlias = Literal["indexing", "optimizing", "calibrating", "reading", "comparing", "verifying"]
"""What a run does at the moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where an indexing run, a search for duplicates, or a verification, stands.

    Attributes:
        done: Items finished: stored, found unchanged, failed, or ignored as no images.
        total: Items there are, if that is known yet.
        failed: Items that failed.
        seconds: Since the run began.
        finished: Whether this is the last event.
        stage: What is done now: indexing, or at the end of a run that has earned it, optimizing the store and
            calibrating its scores; in a search for duplicates, reading vectors, and then comparing them; verifying.
        share: How much of this stage is done, 0 to 1, if that is known; of indexing, the items finished.
        stored: Ids of the points stored since the last event; they are durable.
    """

    done: int
    total: int | None
    failed: int
    seconds: float
    finished: bool = False
    stage: Stage = "indexing"
    share: float | None = None
    stored: tuple[int | str, ...] = ()

    @property
    def rate(self) -> float:
        """Items finished per second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate, if the total is known."""
        if self.total is None or self.done == 0:
            return None
        return max(0, self.total - self.done) / self.rate


ProgressCallback: TypeAlias = Callable[[Progress], None]
"""Called in the thread that runs `add`, after every write and at least at the end."""


def share_of(done: int, total: int | None) -> float | None:
    """How much of a total is done, 0 to 1; None as long as the total is not known."""
    return None if total is None else min(1.0, done / total) if total else 1.0


_FAILURES_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """What an indexing run did; of a dry run, what it would do.

    Attributes:
        added: Points that are new in the store.
        updated: Points whose content or fields had changed, stored anew.
        moved: Files that were found at another place, and kept their vectors.
        unchanged: Items that were stored already.
        removed: Points whose files are gone, deleted from the store.
        embedded: Items that the embedder was given and turned into vectors.
        truncated: The names of texts of which the model saw only the beginning, where the embedder can tell.
        failed: The items that could not be indexed.
        ignored: Files that are no images, by what they are: `{"video": 8, "sidecar": 3}`.
        not_seen: Points that were kept though their files are not there, because these may only be out of sight, by
            folder: `{"2021/": 35}`. `sync_folder` takes such a folder as `gone` if its files are really deleted.
        passed_over: What was found in the folder and not looked at, by what it is, such as linked folders.
        calls: Calls of the embedder; for a remote one, requests sent.
        bytes_sent: Bytes of those requests; 0 where the embedder sends none, or does not count them.
        seconds: How long the run took.
        stage_seconds: Seconds in each stage, summed over its threads.
        dry_run: Whether nothing was embedded or written.
    """

    added: int = 0
    updated: int = 0
    moved: int = 0
    unchanged: int = 0
    removed: int = 0
    embedded: int = 0
    truncated: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict, hash=False)
    not_seen: Mapping[str, int] = field(default_factory=dict, hash=False)
    passed_over: Mapping[str, int] = field(default_factory=dict, hash=False)
    calls: int = 0
    bytes_sent: int = 0
    seconds: float = 0.0
    stage_seconds: Mapping[str, float] = field(default_factory=dict, hash=False)
    dry_run: bool = False

    def __str__(self) -> str:
        return self._summary(if_nothing="nothing to do")

    def so_far(self) -> str:
        """As text for a run that had to stop."""
        return self._summary(if_nothing="nothing done")

    def _summary(self, *, if_nothing: str) -> str:
        names = ("added", "updated", "moved", "unchanged", "removed")
        counts = [(getattr(self, name), name) for name in names]
        if self.embedded != self.added + self.updated:  # the common case is no news
            counts.append((self.embedded, "embedded"))
        parts = [f"{count:,} {what}" for count, what in counts if count]
        if self.truncated:
            cut = _first(self.truncated)
            parts.append(f"{len(self.truncated):,} longer than the model reads, so only their beginnings count ({cut})")
        if self.failed:
            parts.append(f"{len(self.failed):,} failed ({self._failures()})")
        if self.ignored:
            parts.append(f"ignored: {counted(self.ignored)}")
        if self.passed_over:
            parts.append(f"passed over: {counted(self.passed_over)}")
        if self.not_seen:
            parts.append(f'kept, not seen: {self._unseen()} (if deleted, name them in the option "gone")')
        done = f"{', '.join(parts) or if_nothing} in {_duration_text(self.seconds)}"
        return f"dry run, nothing is stored: {done}" if self.dry_run else done

    def _failures(self) -> str:
        return _first([str(failure) for failure in self.failed[:_FAILURES_SHOWN]], total=len(self.failed))

    def _unseen(self) -> str:
        ordered = sorted(self.not_seen.items(), key=lambda each: (-each[1], each[0]))
        shown = [f"{count:,} below {shorten(printable(folder), 80, keep_end=True)}" for folder, count in ordered]
        more = sum(count for _, count in ordered[_FAILURES_SHOWN:])
        return "; ".join(shown[:_FAILURES_SHOWN]) + (f"; and {more:,} more" if more else "")

    def to_dict(self) -> dict[str, Any]:
        """As a plain dict of what JSON knows."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["truncated"] = list(self.truncated)
        values["failed"] = [failure.to_dict() for failure in self.failed]
        for name in ("ignored", "not_seen", "passed_over", "stage_seconds"):
            values[name] = dict(values[name])
        return values


def _first(said: Sequence[str], *, total: int | None = None) -> str:
    """The first few of some names or messages, and how many more there are."""
    shown = [shorten(printable(each), 160, keep_end=True) for each in said[:_FAILURES_SHOWN]]
    more = (len(said) if total is None else total) - len(shown)
    return "; ".join(shown) + (f"; and {more:,} more" if more else "")


def _duration_text(seconds: float) -> str:
    if seconds < 0.05:
        return "under 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes >= 120:
        hours, minutes = divmod(minutes, 60)
        return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningReport:
    """What tuning an approximate search has reached.

    Attributes:
        target: The recall@10 that was aimed at: the share of the ten nearest points that a search finds.
        points: How many points there were.
        exact: Whether searches compare every point since then, which so few points make as fast.
        hnsw_ef: The candidates that each search keeps since then; None for the store's default, and with `exact`.
        recall: The recall@10 that was measured, for each kind of query, `"text"`, `"image"` or `"vector"`, with queries
            that tuning did not use. Empty where it was not measured.
        hnsw_m: The links of each point in the graph that was measured; None where that is not known.
        reason: Why recall was not measured, or the target not reached; empty otherwise.
    """

    target: float
    points: int
    exact: bool = False
    hnsw_ef: int | None = None
    recall: Mapping[str, float] = field(default_factory=dict, hash=False)
    hnsw_m: int | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As a plain dict of what JSON knows."""
        return {**{each.name: getattr(self, each.name) for each in fields(self)}, "recall": dict(self.recall)}

    def __str__(self) -> str:
        if self.exact and not self.recall:
            return f"recall@10: 1, as searches are exact (at {self.points:,} points)"
        if not self.recall:
            return f"recall@10 was not measured: {self.reason}"
        found = ", ".join(f"{share:.3f} by {kind}" for kind, share in self.recall.items())
        how = "exact" if self.exact else f"hnsw_ef={self.hnsw_ef}"
        why = f": {self.reason}" if self.reason else ""
        return f"recall@10: {found} (target {self.target:g}, {how}, measured at {self.points:,} points){why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStatus:
    """What an index holds and whether something is known to be wrong with it, without reading it.

    Attributes:
        store: Where it is, for people: a folder, or an address and a collection, without secrets.
        points: How many points there are.
        model: Name of the embedder's model that made the vectors.
        fingerprint: Fingerprint of the embedder that made the vectors.
        dimension: Length of the vectors.
        size_bytes: What it takes on the disk; None where the store cannot tell.
        changed: When points were last written or deleted, in UTC; None where the store cannot tell.
        needs_optimize: Whether `optimize` would make searching faster.
        tuning: The recall that searches reach, as last measured; None where the store is exact or was never tuned.
        relevance_unknown: Why hits have no relevance and searches no verdict; empty if they have, at least for some
            queries.
        problems: What is known to be missing or damaged; only `verify` finds what is damaged inside files.
        advice: What to do, one sentence each; empty if all is well.
    """

    store: str
    points: int
    model: str
    fingerprint: str
    dimension: int
    size_bytes: int | None = None
    changed: datetime | None = None
    needs_optimize: bool = False
    tuning: TuningReport | None = None
    relevance_unknown: str = ""
    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For programs: JSON-like, with `changed` in ISO 8601."""
        changed = None if self.changed is None else self.changed.isoformat(timespec="seconds")
        tuning = None if self.tuning is None else self.tuning.to_dict()
        told = {"changed": changed, "tuning": tuning, "problems": list(self.problems), "advice": list(self.advice)}
        return {**asdict(self), **told}

    def __str__(self) -> str:
        size = "" if self.size_bytes is None else f", {_size(self.size_bytes)}"
        lines = [f"{self.store}: {self.points:,} points{size}"]
        lines.append(f"embedder: {self.model} ({self.dimension} dimensions, {self.fingerprint})")
        if self.changed is not None:
            lines.append(f"last changed: {self.changed.astimezone():%Y-%m-%d %H:%M:%S}")
        if self.tuning is not None:
            lines.append(str(self.tuning))
        if self.relevance_unknown:
            lines.append(f"searches have no verdict: {self.relevance_unknown}")
        lines += [f"problem: {problem}" for problem in self.problems]
        return "\n".join([*lines, *self.advice])


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        points: How many points were read.
        bytes_read: Bytes of files, vectors and payloads that were read.
        seconds: How long it took.
        problems: What is wrong, one sentence each; empty if nothing is.
        advice: What to do about it.
    """

    points: int
    bytes_read: int
    seconds: float
    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """For programs: JSON-like, with `ok`."""
        return {
            "ok": self.ok,
            **asdict(self),
            "problems": list(self.problems),
            "advice": list(self.advice),
        }

    def __str__(self) -> str:
        read = f"{self.points:,} points, {_size(self.bytes_read)} read in {self.seconds:.1f} s"
        if self.ok:
            return f"nothing is wrong: {read}"
        count = len(self.problems)
        lines = [f"{count} problem{'s' * (count > 1)}: {read}", *(f"- {problem}" for problem in self.problems)]
        return "\n".join([*lines, *self.advice])


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
