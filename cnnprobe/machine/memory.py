"""Work in pieces that fit into memory: a piece that does not fit is halved and tried again."""

import logging
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from cnnprobe.machine import room

LOG = logging.getLogger("cnnprobe")
SHORT = re.compile(
    r"out of memory|can't allocate|cannot allocate|not enough memory|alloc(?:(?!alloc).)*fail|"
    r"could not create a (memory|primitive)",
    re.I,
)
UNBOUNDED = 10**9
"""As many at once as their size alone allows."""
UNKNOWN = 2**31
"""Bytes taken to be free where the system does not say how many are."""


def is_short(error: BaseException) -> bool:
    """Say whether an error means that memory did not suffice."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and bool(SHORT.search(str(error)))
    )


def free_memory(device: torch.device | str) -> int:
    """Return the bytes that are free where tensors of a device live: its own, or those of the machine or container."""
    device = torch.device(device)
    told = None if device.type == "cpu" else getattr(torch.get_device_module(device), "mem_get_info", None)
    if told is not None:
        return told(device)[0]
    free = room.available()
    return UNKNOWN if free is None else free


def in_parts(batch: Any, carried: "Carried", show: Callable[[Any], Any]) -> Iterator[tuple[Any, Any]]:
    """Show a batch to a network whole or, where that does not fit, part by part; gives the parts and their answers.

    Args:
        batch: `images.batches.Batch`.
        carried: how many images are shown at once from here on.
        show: given a part; what a failed call of it has done to anything, the next one undoes or does once more.

    Raises:
        whatever `show` raises, and its memory error where a single image does not fit.
    """

    def shown(part: Any) -> tuple[Any]:
        return (show(part),)

    start = 0
    while start < len(batch):
        part = batch if carried.most >= len(batch) else batch.part(start, start + carried.most)
        answer = carried.attempt(len(part), partial(shown, part))
        if answer is not None:
            yield part, answer[0]
            start += len(part)


class Carried:
    """How many things are carried at once; halved for good when they did not fit.

    Args:
        most: to begin with.
        what: their name in the warning.
    """

    def __init__(self, most: int, what: str = "batch"):
        self.most, self.what = most, what

    def attempt(self, count: int, work: Callable[[], Any]) -> Any | None:
        """Return what `work` returns for `count` things, or None where they did not fit; then try half of them.

        Raises:
            whatever `work` raises, and its memory error where a single thing does not fit.
        """
        try:
            return work()
        except (MemoryError, RuntimeError) as error:
            if is_short(error) and count == 1:
                vars(error)["single"] = True
            if not is_short(error) or count == 1:
                raise
        # outside of the handler: the traceback would keep the tensors alive
        self.most = max(1, count // 2)
        LOG.warning(f"{self.what} {count} does not fit in memory, going on with {self.most}")
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        return None
