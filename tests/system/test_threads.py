"""Work that runs in threads of ours, or many times a search, stays in its thread: pools meet no pools."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from multimodal_search.vectors import products, table_of_products

_HEAD = """
import time
import numpy as np, PIL.Image
from multimodal_search import ColorEmbedder, Image, MemoryStore, MultimodalIndex, Record
from multimodal_search.types import StoreSchema

random = np.random.default_rng(0)

def memory_index(count):
    index = MultimodalIndex(ColorEmbedder(), MemoryStore(), auto_calibrate=False)
    rows = random.random((count, index.embedder.spec.dimension), np.float32)
    index.add_vectors([Record(at, {}, vector=row) for at, row in enumerate(rows)], progress=False)
    return index, rows
"""

_WORK = {
    "embedding colours": """
image = Image(PIL.Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)))
embedder = ColorEmbedder()
work = lambda: embedder.embed([image], role="document")
""",
    "searching in memory": """
index, rows = memory_index(10_000)
work = lambda: index.search(rows[0])
""",
    "diverse hits": """
index, rows = memory_index(500)
work = lambda: index.search(rows[0], limit=200, diversity=0.5)
""",
    "deduplicated hits": """
index, rows = memory_index(500)
work = lambda: list(index.search_all(rows[0], deduplicate=0.9999))
""",
}

_MEASURE = """
work()
time.sleep(0.5)  # whatever another thread of the process has begun is over
own, all_threads = time.thread_time(), time.process_time()
end = time.monotonic() + 1
while time.monotonic() < end or time.thread_time() < own + 0.3:
    work()
own, all_threads = time.thread_time() - own, time.process_time() - all_threads
print(all_threads / own)
"""


@pytest.mark.parametrize("name", _WORK)
def test_work_is_done_in_the_thread_that_asks_for_it(name: str) -> None:
    """A BLAS library has threads of its own below ours, which wait for each other without sleeping.

    Where cores are short, as with two runs at once, that takes several times as long as the work.
    """
    code = _HEAD + _WORK[name] + _MEASURE
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.1


@pytest.mark.parametrize(("count", "others", "dimension"), [(1, 1, 1), (31, 33, 7), (200, 122, 500), (64, 32, 192)])
def test_products_are_those_of_numpy(count: int, others: int, dimension: int) -> None:
    random = np.random.default_rng(1)
    rows = random.standard_normal((count, dimension)).astype(np.float32)
    columns = random.standard_normal((others, dimension)).astype(np.float32)
    exact = rows.astype(np.float64) @ columns.T.astype(np.float64)
    np.testing.assert_allclose(table_of_products(rows, columns), exact, atol=1e-3)
    np.testing.assert_allclose(products(rows, columns[0]), exact[:, 0], atol=1e-3)
    np.testing.assert_allclose(products(rows.astype(np.float64), columns[0].astype(np.float64)), exact[:, 0])
