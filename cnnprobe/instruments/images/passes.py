"""Work that proceeds image by image, or draw by draw, and that a stopped run resumes where it left off."""

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import numpy as np

from cnnprobe.instruments.images.batches import Batch
from cnnprobe.machine.memory import UNBOUNDED, Carried, in_parts
from cnnprobe.store.tables import Advance
from cnnprobe.store.unfinished import State, Unfinished, Within, put

Source = Callable[[int], Iterable[Batch]] | Iterable[Batch]
"""Given a place where a batch begins, the batches from there on; or all batches, where nothing is kept."""


def passing(
    name: str,
    images: int | None,
    loaded: Source,
    show: Callable[[Batch], Any],
    use: Callable[[Batch, Any], None],
    *,
    take: Callable[[], State],
    restore: Callable[[State], None],
    unfinished: Unfinished | Within | None = None,
    carried: Carried | None = None,
) -> Iterator[Advance]:
    """Show images batch by batch and use the answers; between two batches what came of it can be kept.

    Args:
        name: of this part of the work, see `Unfinished.begin`.
        images: how many are shown; None: as many as are loaded.
        loaded: the images.
        show: a batch, or as much of it as fits in memory, to the network; done again after a lack of memory.
        use: what `show` has returned, of images that were not used before.
        take, restore: all that `use` has made of the images so far.
        unfinished: keeps it; None: nothing does.
        carried: how many images are shown at once; None: whole batches.
    """
    done, whole = 0, True

    def now() -> State | None:
        return {"images": done, "state": take()} if whole else None

    def back(state: State) -> None:
        nonlocal done
        restore(state["state"])
        done = int(state["images"])

    unfinished, carried = unfinished or Unfinished(), carried or Carried(UNBOUNDED)
    there = unfinished.begin(name, now, back)
    if done:
        yield Advance(done)
    if there:
        return
    if images is not None and done >= images:
        batches: Iterable[Batch] = ()
    else:
        batches = loaded(done) if callable(loaded) else loaded
    for batch in batches:
        left = len(batch)
        for part, answer in in_parts(batch, carried, show):
            use(part, answer)
            done, left = done + len(part), left - len(part)
            whole = not left
            yield Advance(len(part))
    unfinished.end(name)


def collected(
    name: str,
    shape: tuple[int, ...],
    given: Callable[[int], Iterable[np.ndarray]],
    unfinished: Unfinished | None = None,
) -> Generator[Advance, None, np.ndarray]:
    """Collect one array after the other; returns them as one, (…), of float64.

    Args:
        name: of this part of the work.
        shape: of all, their number first.
        given: gives them from a place on.
        unfinished: keeps those so far.
    """
    found, done = np.full(shape, np.nan), 0

    def restore(state: State) -> None:
        nonlocal done
        put({"found": found}, state)
        done = state["done"]

    unfinished = unfinished or Unfinished()
    unfinished.begin(name, lambda: {"done": done, "found": found}, restore)
    if done:
        yield Advance(done)
    for one in given(done):
        found[done] = one
        done += 1
        yield Advance()
    unfinished.end(name)
    return found
