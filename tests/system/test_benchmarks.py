"""The benchmark programs can be started: what they import is where they look for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from paths import ROOT

CODE = """
import importlib, importlib.util, pathlib, sys
sys.path.insert(0, "benchmarks")
for path in sorted(pathlib.Path("benchmarks").glob("*.py")):
    if path.stem != "torch_models" or importlib.util.find_spec("sentence_transformers"):
        importlib.import_module(path.stem)
"""


def test_every_benchmark_can_be_imported() -> None:
    pytest.importorskip("aleph_alpha_client")
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
