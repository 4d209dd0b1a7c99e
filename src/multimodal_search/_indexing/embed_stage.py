"""The embedding stage of an indexing run: embed batches, and find the items that make a batch fail."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL.Image

from multimodal_search._indexing.failed_contents import FailedContents
from multimodal_search._indexing.isolation import Isolation
from multimodal_search._indexing.job import EmbedTask, Job, ProbeTask, WriteTask
from multimodal_search._indexing.model_version import ModelVersions
from multimodal_search._threads import Done, WorkerPool
from multimodal_search.contents import Content, Image, Mixed, Modality, Text
from multimodal_search.embedders.late import LateEmbedder
from multimodal_search.errors import ConfigurationError, EmbedderAuthError, EmbedderQuotaError
from multimodal_search.report import Failure
from multimodal_search.vectors import Rows

_USUAL_BATCH, _USUAL_CONCURRENCY = 32, 8
"""Of an embedder that is not created yet; these only say how far ahead the source is read."""

_NEVER_AN_ITEM = (EmbedderAuthError, EmbedderQuotaError, ConfigurationError)
"""Whatever is embedded, these come back."""

_TEXT = Text("a dog")
_IMAGE = Image(PIL.Image.linear_gradient("L"), name="a probe")  # 256 x 256, and not of one colour
_HARMLESS: Mapping[Modality, Content] = {"text": _TEXT, "image": _IMAGE, "mixed": Mixed(_TEXT, _IMAGE)}


@dataclass(slots=True)
class Embedded:
    """The outcome of some jobs.

    Attributes:
        writes: Those with a vector.
        failed: Those at fault.
        error: Why nothing can be embedded any more.
        message: The same in words, where the error's own do not do.
    """

    writes: list[WriteTask] = field(default_factory=list)
    failed: list[tuple[Job, Failure]] = field(default_factory=list)
    error: BaseException | None = None
    message: str | None = None


class EmbedStage:
    """Embeds batches in a few threads; its methods are called by the deciding thread alone.

    Args:
        embedder: Turns contents into vectors; created by `begin`, so that a run without new contents needs none.
        inbox: Where finished tasks go.
        failed_contents: Remembers contents that fail for good.
        versions: Watches which version of the model the service has; None where nobody does.
    """

    def __init__(
        self,
        embedder: LateEmbedder,
        inbox: queue.SimpleQueue[Done[Any, Any]],
        failed_contents: FailedContents,
        versions: ModelVersions | None,
    ) -> None:
        self._embedder = embedder
        self._inbox = inbox
        self._failed_contents = failed_contents
        self._versions = versions
        self._gave_up = False
        self._has_begun = False
        self._size(_USUAL_BATCH, _USUAL_CONCURRENCY)
        if embedder.made is not None:
            self.begin()

    def begin(self) -> None:
        """Create the embedder, if that has not been done yet; to be called before anything is loaded for it.

        Raises:
            ConfigurationError: There is none, or it has changed.
            SchemaMismatchError: It is not the one that the index was made with.
        """
        if not self._has_begun:
            embedder = self._embedder.ready()
            embedder.check_unchanged()
            self._size(embedder.spec.max_batch_size, embedder.spec.max_concurrency)
            self._has_begun = True

    def _size(self, max_batch_size: int, max_concurrency: int) -> None:
        self.max_batch_size, self.max_concurrency = max_batch_size, max_concurrency
        self._isolation = Isolation(max_batch_size)
        self.workers = WorkerPool[EmbedTask | ProbeTask, Rows](
            self._embed, self._inbox, threads=max_concurrency, name="multimodal-embed"
        )

    @property
    def is_pending(self) -> bool:
        """Whether jobs are held back until others have come through."""
        return self._isolation.is_pending

    @property
    def has_slot(self) -> bool:
        """Whether another batch may go out."""
        return self.workers.in_flight < self.max_concurrency and not self._isolation.is_in_doubt

    def submit(self, jobs: Sequence[Job]) -> None:
        """Have a batch embedded."""
        self.workers.submit(EmbedTask(jobs))

    def collect(
        self, task: EmbedTask | ProbeTask, rows: Rows | None, error: BaseException | None, seconds: float
    ) -> Embedded:
        """Take in a finished task."""
        self.workers.task_done()
        embedded = Embedded()
        if rows is not None and isinstance(task, EmbedTask):
            jobs = [job for number, job in enumerate(task.jobs) if number not in rows.flaws]
            embedded.writes.append(WriteTask(jobs, np.delete(rows.vectors, list(rows.flaws), axis=0)))
            self._failed_contents.discard(job.sha256 for job in jobs if job.failed_before)
            for number, flaw in rows.flaws.items():
                self._blame(embedded, task.jobs[number], f"{self._embedder.schema.model} returned {flaw}")
            if self._versions is not None:
                self._versions.check()
        if rows is not None:
            self._isolation.passed(task)
        elif not isinstance(error, Exception) or isinstance(error, _NEVER_AN_ITEM):
            embedded.error = error
        elif not self._gave_up:
            self._isolation.failed(task, error, seconds)
        return self._go_on(embedded)

    def go_on(self) -> Embedded:
        """Go on with what is held back, if nothing is under way."""
        if self.workers.in_flight or not self.is_pending:
            return Embedded()
        self._isolation.decide()
        return self._go_on(Embedded())

    def give_up(self) -> None:
        """Submit nothing any more, and blame nothing that fails from now on: the run ends."""
        self._gave_up = True
        self._isolation.drop()

    def _go_on(self, embedded: Embedded) -> Embedded:
        due, guilty = self._isolation.take()
        for verdict in guilty:
            self._blame(embedded, verdict.job, str(verdict.error) or type(verdict.error).__name__)
        if self._isolation.failure is not None and embedded.error is None:
            embedded.error, embedded.message = self._isolation.failure, self._isolation.message
        if embedded.error is None and not self._gave_up:
            for task in due:
                self.workers.submit(task)
        return embedded

    def _blame(self, embedded: Embedded, job: Job, reason: str) -> None:
        failure = Failure(name=job.candidate.name, stage="embed", reason=reason)
        self._failed_contents.add(job.sha256, failure.reason)
        embedded.failed.append((job, failure))

    def _embed(self, task: EmbedTask | ProbeTask) -> Rows:
        embedder = self._embedder.ready()
        if isinstance(task, ProbeTask):
            content = embedder.prepare(_HARMLESS[task.modality])
            return embedder.embed_each([content], role="document", once=not task.is_repeated)
        contents = [job.loaded.content for job in task.jobs if job.loaded is not None]
        return embedder.embed_each(contents, role="document", once=task.trial is not None)
