"""What `MemoryBudget` promises: never more than there is, nobody waits for ever, and no trace of whoever gave up."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from multimodal_search.media.memory_budget import MemoryBudget


def test_never_more_is_held_than_there_is_and_all_come_through() -> None:
    budget = MemoryBudget(100)
    held = most = 0
    lock = threading.Lock()

    def work(size: int) -> int:
        nonlocal held, most
        with budget.hold(size):
            with lock:
                held += min(size, 100)
                most = max(most, held)
            time.sleep(0.001)
            with lock:
                held -= min(size, 100)
        return size

    sizes = [1, 60, 99, 100, 5000, 30] * 10  # one beyond the budget goes alone
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, sizes)) == sizes
    assert 60 <= most <= 100
    with budget.hold(100):  # all of it is back
        pass


def test_the_large_are_not_overtaken_for_ever() -> None:
    """In the order of asking: small ones that keep coming leave room in the end."""
    budget = MemoryBudget(10)
    done = threading.Event()

    def small() -> None:
        while not done.is_set():
            with budget.hold(4):
                time.sleep(0.0005)

    threads = [threading.Thread(target=small) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with budget.hold(10):
            pass
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_an_error_gives_back_what_was_held() -> None:
    budget = MemoryBudget(10)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), budget.hold(10):
            raise ValueError("broken")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_starts_with_all_of_it() -> None:
    """The threads that hold the parent's do not exist in the child: it would wait for ever."""
    code = """
import os, threading, time
from multimodal_search.media.memory_budget import MemoryBudget
budget = MemoryBudget(10)
with budget.hold(6):
    child = os.fork()
    if child == 0:
        with budget.hold(10):
            pass
        os._exit(7)
    status = os.waitpid(child, 0)[1]
print(os.waitstatus_to_exitcode(status))
with budget.hold(10):
    pass
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "7\n"


def test_ctrl_c_while_waiting_leaves_the_queue() -> None:
    code = """
import signal, threading, time
from multimodal_search.media.memory_budget import MemoryBudget
signal.signal(signal.SIGINT, signal.default_int_handler)
budget = MemoryBudget(10)
release = threading.Event()
def other():
    with budget.hold(10):
        release.wait()
thread = threading.Thread(target=other)
thread.start()
threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGINT)).start()
try:
    with budget.hold(10):
        print("got it")
except KeyboardInterrupt:
    print("interrupted")
release.set()
thread.join()
with budget.hold(10):
    print("all of it")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "interrupted\nall of it\n"
