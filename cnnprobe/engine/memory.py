"""Work in pieces that fit into memory: where one does not, half of it is tried."""

import logging
import re
from collections.abc import Callable

import torch

LOG = logging.getLogger("cnnprobe")
SHORT = re.compile(
    r"out of memory|can't allocate|cannot allocate|not enough memory|alloc.*fail|could not create a memory", re.I
)


def is_short(error: BaseException) -> bool:
    """Say whether an error means that memory did not suffice."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and bool(SHORT.search(str(error)))
    )


class Carried:
    """How many things are carried at once; halved for good when they did not fit.

    Args:
        most: to begin with.
        what: their name in the warning.
    """

    def __init__(self, most: int, what: str = "batch"):
        self.most, self.what = most, what

    def through(self, count: int, work: Callable[[int, int], None]) -> None:
        """Call work(start, stop) for pieces of range(count), in order.

        Raises:
            whatever `work` raises, and its memory error where a single thing does not fit.
        """
        start = 0
        while start < count:
            stop = min(start + self.most, count)
            try:
                work(start, stop)
            except (MemoryError, RuntimeError) as error:
                if not is_short(error) or stop - start == 1:
                    raise
                reason = stop - start
            else:
                start = stop
                continue
            # outside of the handler: the traceback would keep the tensors alive
            self.most = max(1, reason // 2)
            LOG.warning(f"{self.what} {reason} does not fit in memory, going on with {self.most}")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
