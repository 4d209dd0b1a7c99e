"""Run several threads at once that interrupt each other often."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def run_at_once(work: list[Callable[[], None]]) -> None:
    """Call each in a thread of its own; raises what one of them raises.

    The threads give way to each other in the middle of what they do, after one of some fifty calls of functions: what
    the interpreter's lock guards only by chance is seen by others then.
    """

    def run(number: int, each: Callable[[], None]) -> None:
        chance = random.Random(number)  # noqa: S311 (no secret)

        def give_way(*event: object) -> None:
            if chance.random() < 0.02:
                time.sleep(0)

        sys.setprofile(give_way)
        try:
            each()
        finally:
            sys.setprofile(None)

    with ThreadPoolExecutor(len(work)) as pool:
        for future in [pool.submit(run, number, each) for number, each in enumerate(work)]:
            future.result()
