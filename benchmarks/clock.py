"""How benchmarks time: in turn, so that what else the machine does hits all sides alike."""

import math
import time
from collections.abc import Callable


def shortest(*works: Callable[[], object], times: int = 3) -> list[float]:
    """Return the shortest time of each work, done in turn, after one round that does not count."""
    found = [math.inf] * len(works)
    for round_ in range(times + 1):
        for place, work in enumerate(works):
            start = time.perf_counter()
            work()
            if round_:
                found[place] = min(found[place], time.perf_counter() - start)
    return found
