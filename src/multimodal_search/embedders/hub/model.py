"""Models of the Hugging Face hub: found in its cache on this machine, or downloaded into it.

What is in the cache is taken without asking the hub: an index needs the model that it was made with.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multimodal_search._extras import require
from multimodal_search._text import prose, shorten
from multimodal_search.embedders.hub.hashes import sha256_of
from multimodal_search.errors import ConfigurationError, EmbedderError, EmbedderUnavailableError

_log = logging.getLogger(__name__)

_NEWEST = "main"
_OF_THE_DISK = frozenset(
    {errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS}
)

Chooser = Callable[[list[str], Callable[[str], str]], Sequence[str]]
"""From the names of a repository's files, and a function that reads one of them, to those that are needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """A repository of the hub, at a revision.

    Attributes:
        repository: `owner/name`.
        revision: A commit, tag or branch; None is the newest.
        cache_folder: The hub's cache; None is its usual place.
        local_files_only: Whether nothing is asked or downloaded.
        command: What downloads it elsewhere, to be copied; empty for the hub's own command.
    """

    repository: str
    revision: str | None
    cache_folder: Path | None
    local_files_only: bool
    command: str = ""

    @property
    def place(self) -> Path:
        """The folder of this repository in the cache."""
        cache = self.cache_folder or Path(_hub("huggingface_hub.constants").HF_HUB_CACHE)
        return cache / f"models--{self.repository.replace('/', '--')}"

    def cached(self) -> Path | None:
        """The folder of its files at that revision, perhaps not all of them; None if there is none."""
        revision = self.revision or _NEWEST
        try:
            commit = (self.place / "refs" / revision).read_text("utf-8").strip()
        except (OSError, ValueError):
            commit = revision
        folder = self.place / "snapshots" / commit
        return folder if folder.is_dir() else None

    def commit(self) -> str | None:
        """The commit that is in the cache; None if there is none."""
        folder = self.cached()
        return folder.name if folder is not None and re.fullmatch("[0-9a-f]{40}", folder.name) else None

    def download(self, choose: Chooser, *, lacking: str = "") -> Path:
        """Download what is needed and not there yet, with progress on stderr, its size said before it.

        Args:
            choose: Says which files are needed.
            lacking: What is wrong with those that are here; empty where none are.

        Returns:
            The folder of its files.

        Raises:
            ConfigurationError: There is no such repository or revision, or no model in it; or nothing may be
                downloaded, or it cannot be written to the cache.
            EmbedderUnavailableError: The hub cannot be reached.
            EmbedderError: The hub refuses.
        """
        hub = _hub("huggingface_hub")
        if self.local_files_only or _hub("huggingface_hub.constants").HF_HUB_OFFLINE:
            why = "local_files_only" if self.local_files_only else "HF_HUB_OFFLINE"
            there = f"in {self.place.parent}" if not lacking else f"whole in {self.place.parent} ({lacking})"
            raise ConfigurationError(
                f"the model {self.repository} is not {there}, and {why} forbids to download it: {self._by_hand()}"
            )
        with _Translated(self):
            endpoint = os.environ.get("HF_ENDPOINT") or None  # as it is now, not when the client was imported
            info = hub.HfApi(endpoint=endpoint).model_info(
                self.repository,
                revision=self.revision,
                files_metadata=True,
                timeout=_hub("huggingface_hub.constants").HF_HUB_ETAG_TIMEOUT,  # a firewall may answer nothing
            )
            sizes: Mapping[str, int] = {each.rfilename: each.size or 0 for each in info.siblings or ()}

            def fetched(name: str) -> Path:
                return Path(
                    hub.hf_hub_download(
                        self.repository,
                        name,
                        revision=self.revision or _NEWEST,
                        cache_dir=self.cache_folder,
                        endpoint=endpoint,
                    )
                )

            wanted = choose(list(sizes), lambda name: fetched(name).read_text("utf-8"))
            missing = [name for name in wanted if name not in sizes]
            if missing:
                raise ConfigurationError(f"{self.repository} has no {missing[0]}, which its model needs")
            folder = self.cached()
            absent = [name for name in wanted if folder is None or not (folder / name).is_file()]
            if absent:
                size_mb = sum(sizes[name] for name in absent) / 1e6
                _log.warning(
                    "downloading %s of %s to %s",
                    f"{size_mb / 1000:.1f} GB"
                    if size_mb >= 1000
                    else f"{size_mb:.0f} MB"
                    if size_mb >= 1
                    else "some kB",
                    self.repository,
                    self.place.parent,
                )
            paths = {name: fetched(name) for name in wanted}
            for each in info.siblings or ():
                if each.rfilename in absent and each.lfs is not None:
                    _check_whole(paths[each.rfilename], each.lfs.sha256)
        name, path = next(iter(paths.items()))
        return Path(str(path)[: -len(name)])

    def _by_hand(self) -> str:
        revision = "" if self.revision is None else f" --revision {self.revision}"
        return (
            f"run `{self.command or f'hf download {self.repository}{revision}'}` on a machine with network, and copy "
            f"{self.place.name} from the folder that it prints to {self.place.parent} here"
        )


class _Translated:
    """Errors of the hub's client as those of this library."""

    def __init__(self, model: HubModel) -> None:
        self._model = model

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, (ConfigurationError, EmbedderError)):
            return
        errors = _hub("huggingface_hub.errors")
        model = self._model
        at = model.repository if model.revision is None else f"{model.repository} at {model.revision}"
        said = shorten(prose(str(error)), 200)
        if isinstance(error, errors.GatedRepoError):
            raise ConfigurationError(
                f"the hub gives {at} only to those who have accepted its terms: do so on its page, and log in with "
                "hf auth login"
            ) from error
        if isinstance(error, (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError)):
            raise ConfigurationError(
                f"the hub has no model {at}, and there is no folder of that name; a private one takes hf auth login"
            ) from error
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise ConfigurationError(
                f"{at} cannot be written to {model.place.parent} ({os.strerror(error.errno)}): make room there, or "
                "name another cache_folder"
            ) from error
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise EmbedderError(
                f"the hub refuses {at} ({status}): if it is private, log in with hf auth login, or set HF_TOKEN to a "
                "token that may read it; if you have not meant to log in, an old token may be at fault"
            ) from error
        if isinstance(status, int) and status < 500 and status not in (408, 429):
            raise EmbedderError(f"the hub refuses {at} ({status}): {said}") from error
        if isinstance(error, (OSError, ConnectionError)) or status is not None or _is_of_transport(error):
            raise EmbedderUnavailableError(
                f"the model {at} is not on this machine, and downloading it failed ({said}): try again or, behind a "
                f"firewall, {model._by_hand()}",  # noqa: SLF001 (its own part)
                trouble="unreachable",
            ) from error


def _check_whole(path: Path, sha256: str) -> None:
    """Check a file that was just downloaded; the client itself compares lengths only."""
    if sha256_of(path) != sha256:  # which the fingerprint needs as well
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise EmbedderUnavailableError(f"{path.name} arrived damaged, and was removed again: try again")


def _is_of_transport(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "requests", "urllib3")


def _hub(module: str) -> Any:
    return require(module, extra="local", purpose="OnnxEmbedder")
