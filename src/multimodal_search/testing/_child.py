"""Run a backend in another process, and read what it prints."""
# ruff: noqa: S101, S603 (these are tests, and run the code of their author)

from __future__ import annotations

import os
import subprocess
import sys

_TIMEOUT_S = 120.0


def output_of(program: str, *arguments: str, **environment: str) -> str:
    """The last line that a program prints, in a process of its own that finds what this one can import.

    Args:
        program: Python code.
        arguments: What it finds in `sys.argv[1:]`.
        environment: Variables to set for it.
    """
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=_environment() | environment,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def run_and_kill(program: str, *arguments: str) -> None:
    """Run a program until it prints a line, and kill it without a chance to clean up (SIGKILL)."""
    with subprocess.Popen(
        [sys.executable, "-c", program + "\nimport sys\nprint(flush=True)\nsys.stdin.read()", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=_environment(),
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        line = child.stdout.readline()
        child.kill()
        assert line, child.stderr.read()


def _environment() -> dict[str, str]:
    """This process's own, with its import path."""
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
