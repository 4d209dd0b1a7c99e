"""What `import multimodal_search` takes, next to `import numpy`: each in fresh interpreters, in turn."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from _common import describe_machine, spread

NUMPY, OURS = "import numpy", "import multimodal_search"
INDEX = "from multimodal_search import MultimodalIndex, MemoryStore"  # which imports NumPy and Pillow


def seconds(statement: str) -> float:
    code = f"import time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
    run = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return float(run.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=41)
    options = parser.parse_args()
    print(describe_machine("numpy"))
    times: dict[str, list[float]] = {NUMPY: [], OURS: [], INDEX: []}
    for number in range(options.repeats + 1):
        for statement, each in times.items():
            took = seconds(statement)
            if number:  # the first time, files are read from the disk
                each.append(took * 1000)
    for statement, each in times.items():
        print(f"  {spread(each, 1)} ms: {statement}")
    ratio = statistics.median(times[OURS]) / statistics.median(times[NUMPY])
    print(f"multimodal_search / numpy: {ratio:.3f}   [aim < 0.5]")


if __name__ == "__main__":
    main()
