"""ONNX Runtime: a graph, ready to run, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from multimodal_search._extras import require
from multimodal_search._text import prose, shorten
from multimodal_search.errors import ConfigurationError, EmbedderError

_DEVICES = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
"""Execution providers by device. Others, such as `CoreMLExecutionProvider`, are given by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What graphs run on.

    Attributes:
        threads: Of one graph; None leaves it to ONNX Runtime, which takes one for each physical core.
        providers: Execution providers, the preferred one first.
    """

    threads: int | None
    providers: tuple[str, ...]

    @classmethod
    def of(cls, *, threads: int | None, device: str | None, providers: Sequence[str] | None) -> Runtime:
        """From the arguments of `OnnxEmbedder`.

        Raises:
            ConfigurationError: This machine has no such provider.
            MissingExtraError: The extra `local` is not installed.
        """
        there = runtime().get_available_providers()
        if providers is None:
            fastest = "cuda" if _DEVICES["cuda"][0] in there else "cpu"
            providers = _DEVICES[device or fastest]
        missing = [name for name in providers if name not in there]
        if missing:
            advice = ": install onnxruntime-gpu in place of onnxruntime" if "CUDAExecutionProvider" in missing else ""
            raise ConfigurationError(f"this onnxruntime has no {', '.join(missing)}, only {', '.join(there)}{advice}")
        return cls(threads=threads, providers=tuple(providers))

    @property
    def is_cpu(self) -> bool:
        """Whether nothing but the processor computes."""
        return self.providers[0] == "CPUExecutionProvider"


def runtime() -> Any:
    """The package onnxruntime.

    Raises:
        MissingExtraError: It is not installed.
    """
    return require("onnxruntime", extra="local", purpose="OnnxEmbedder")


class Session:
    """A graph that is loaded. One for all threads: ONNX Runtime's own threads do the work of all calls.

    Args:
        graph: Its file.
        settings: What it runs on.

    Raises:
        ConfigurationError: ONNX Runtime cannot load it.
    """

    def __init__(self, graph: Path, settings: Runtime) -> None:
        package = runtime()
        options = package.SessionOptions()
        options.log_severity_level = 3  # errors; warnings are about its own optimizations
        if settings.threads is not None:
            options.intra_op_num_threads = settings.threads
        # Threads that wait for work in a loop take the cores from those that decode the next images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = package.InferenceSession(str(graph), options, providers=list(settings.providers))
        except Exception as error:  # its exceptions have no common class
            said = shorten(prose(str(error)), 300)
            raise ConfigurationError(
                f"onnxruntime {package.__version__} cannot load {graph}: {said}. If the file is whole, a newer "
                "onnxruntime may know it: pip install -U onnxruntime"
            ) from error
        self._graph = graph
        self._options = package.RunOptions
        self._running: set[Any] = set()
        self._lock = threading.Lock()

    def run(self, output: str, feeds: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """One output of the graph.

        Raises:
            EmbedderError: It failed, or was interrupted.
        """
        options = self._options()
        with self._lock:
            self._running.add(options)
        try:
            (found,) = self._session.run([output], dict(feeds), options)
        except Exception as error:  # as above
            if options.terminate:
                raise EmbedderError("interrupted") from None
            raise EmbedderError(f"{self._graph} failed: {shorten(prose(str(error)), 300)}") from error
        finally:
            with self._lock:
                self._running.discard(options)
        array: npt.NDArray[Any] = found
        return array

    def interrupt(self) -> None:
        """End the runs that are under way."""
        with self._lock:
            for options in self._running:
                options.terminate = True
