"""The generators of random numbers that all of a process draws from: torch's, NumPy's and Python's, treated alike.

A network may draw from any of them: `torch.rand`, `np.random.normal`, `random.uniform`. What makes a generator for
itself (`np.random.default_rng()`) draws what it likes.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

LEGACY: Any = np.random
"""NumPy's functions that share a generator; its types leave out those that say which."""


def seed(value: int, gpus: Sequence[int] | None = ()) -> None:
    """Seed them.

    Args:
        value: any whole number that torch takes.
        gpus: numbers of those whose generators are seeded too; None: of every device, which takes sixty times as long.
    """
    if gpus is None:
        torch.manual_seed(value)
    else:
        torch.default_generator.manual_seed(value)
    for gpu in gpus or ():
        torch.cuda.default_generators[gpu].manual_seed(value)
    np.random.seed(value % 2**32)
    random.seed(value)


@contextmanager
def forked(gpus: Sequence[int] = ()) -> Iterator[None]:
    """Give them back after the block as they were before it.

    Inside it torch's goes on from where it stands, the others begin at the same place every time.

    Args:
        gpus: numbers of those whose generators are given back too.
    """
    # NumPy's is another object meanwhile: to copy its state takes half a millisecond
    numbers, own = LEGACY.get_bit_generator(), random.getstate()
    with torch.random.fork_rng(list(gpus)):
        LEGACY.set_bit_generator(np.random.MT19937(0))
        random.seed(0)
        try:
            yield
        finally:
            LEGACY.set_bit_generator(numbers)
            random.setstate(own)


def standing() -> tuple:
    """Return where they stand, for comparison."""
    words = repr(sorted(np.random.get_state(legacy=False)["state"].items(), key=str))
    return torch.get_rng_state().numpy().tobytes(), words, random.getstate()


class Own:
    """Generators of a work that is done in parts: they go on from part to part, and whoever asks for it has theirs.

    They begin as those of the process are when this is made. Those of a GPU are not among them.
    """

    def __init__(self) -> None:
        given = LEGACY.get_bit_generator()
        numbers = type(given)(0)
        numbers.state = given.state
        self.now = numbers, torch.get_rng_state(), random.getstate()

    @contextmanager
    def drawn_from(self) -> Iterator[None]:
        """Draw from them inside the block."""
        before = LEGACY.get_bit_generator(), torch.get_rng_state(), random.getstate()
        _put(*self.now)
        try:
            yield
        finally:
            self.now = LEGACY.get_bit_generator(), torch.get_rng_state(), random.getstate()
            _put(*before)

    def events(self, events: Iterable[Any]) -> Iterator[Any]:
        """Give what a work gives, each made by drawing from them, and close it."""
        work = iter(events)
        try:
            while True:
                with self.drawn_from():
                    try:
                        event = next(work)
                    except StopIteration:
                        return
                yield event
        finally:
            with self.drawn_from():
                getattr(work, "close", lambda: None)()


def _put(numbers: Any, torch_state: torch.Tensor, own: tuple) -> None:
    LEGACY.set_bit_generator(numbers)
    torch.set_rng_state(torch_state)
    random.setstate(own)
