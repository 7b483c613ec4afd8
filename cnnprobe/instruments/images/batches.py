"""Images by the batch, on the device where the network is, in an order that nothing changes."""

import atexit
import logging
import math
import os
import re
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError

SHARED = "/dev/shm"
"""Where processes hand images over, on Linux; a container's may be small."""
AHEAD = 2
"""Batches that a process loads before they are requested."""
DEATH = re.compile("exited unexpectedly|killed by signal|shared memory")  # torch's words for a loader process gone
LOADERS: WeakSet[BaseProcess] = WeakSet()  # processes we started


LOG = logging.getLogger("cnnprobe")


class LoaderError(UserError):
    """Processes that load images cannot begin, or one was ended from outside; who loads in its own process needs none.

    Attributes:
        reason: without what is possible.
    """

    def __init__(self, reason: str):
        super().__init__(f"{reason}; try device.workers=0")
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason,)


@dataclass(frozen=True)
class Batch:
    """Images that pass through the network together.

    Args:
        indices: (image,) int64, their places in the dataset.
        images: (image, channel, y, x) float32, 0 to 1, on the device; 0 where not readable.
        labels: (image,) int64, -1 where unknown.
        readable: (image,) bool.
        targets: what a network is to answer, see `ImageSet.targets`, on the device; None where not asked for.
    """

    indices: np.ndarray
    images: Tensor
    labels: np.ndarray
    readable: np.ndarray
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def part(self, start: int, stop: int) -> "Batch":
        """Return some of the images."""
        own = slice(start, stop)
        targets = None if self.targets is None else self.targets[own]
        return Batch(self.indices[own], self.images[own], self.labels[own], self.readable[own], targets)


def readable(parts: Iterable[Batch]) -> Tensor:
    """Return the images of some batches that could be read, (image, channel, y, x)."""
    return torch.cat([part.images[torch.from_numpy(part.readable).to(part.images.device)] for part in parts])


def batches(
    dataset: ImageSet,
    *,
    batch_size: int,
    device: str | torch.device = "cpu",
    workers: int = 0,
    indices: Sequence[int] | np.ndarray | None = None,
    start: int = 0,
    targets: bool = False,
) -> Generator[Batch, None, None]:
    """Load a dataset batch by batch. Which images a batch holds depends on its number alone.

    Images held in memory are picked here and scaled on the device; others are decoded by `workers`
    processes, ahead of need. An image that cannot be read keeps its row and is warned of once.

    Args:
        dataset: an image set (datasets/base/imageset.py).
        batch_size: images in each batch but the last.
        device: where the images shall be.
        workers: loader processes; 0 loads in this one.
        indices: which images, in this order; None: all.
        start: place in `indices` to start from, a multiple of `batch_size`.
        targets: load the targets as well; an image without one counts as one that cannot be read.

    Raises:
        ValueError: `start` is not where a batch begins.
        UserError: the dataset is strict and an image cannot be read, or a loader process died, or cannot begin.
    """
    if start % batch_size:
        raise ValueError(f"start must be a multiple of the batch size {batch_size}, got {start}")
    chosen = np.arange(len(dataset)) if indices is None else np.asarray(indices, dtype=np.int64)
    places = [chosen[first : first + batch_size] for first in range(start, len(chosen), batch_size)]
    return _loaded_in_order(dataset, places, device, workers, targets)


def _loaded_in_order(
    dataset: ImageSet, places: list[np.ndarray], device: str | torch.device, workers: int, targets: bool
) -> Generator[Batch, None, None]:
    """Load batch by batch and bring each to the device."""
    on_device = dataset.in_memory and dataset.source_size is not None
    loaded = _Loaded(dataset, dataset.load_source if on_device else dataset.load, places, targets)
    workers = 0 if dataset.in_memory or len(places) < 2 else _that_can_share(min(workers, len(places)), dataset, places)
    if workers:
        parts = _by_processes(loaded, workers, torch.device(device).type == "cuda")
    else:
        parts = (loaded[number] for number in range(len(places)))
    with closing(parts):
        for place, part in zip(places, parts):
            if isinstance(part, UserError):
                raise part
            images, readable, problems, remarks, asked = part
            dataset.report(problems, remarks)
            images = images.to(device, non_blocking=True)
            if on_device:
                images = dataset.fit(images)
            images = images.float().div_(255) if images.dtype == torch.uint8 else images.float()
            if asked is not None:
                asked = asked.to(device, non_blocking=True)
            yield Batch(place, images, dataset.labels[place], readable, asked)


class _Loaded(Dataset):
    """The batches of a dataset by their number, with the reasons why images cannot be read.

    A `UserError` is handed over instead of raised: out of a loader process it would arrive as pages of traceback.
    """

    def __init__(
        self,
        dataset: ImageSet,
        load: Callable[[np.ndarray], tuple[Tensor, np.ndarray]],
        places: list[np.ndarray],
        targets: bool,
    ):
        self.dataset, self.load, self.places, self.targets = dataset, load, places, targets

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> tuple[Tensor, np.ndarray, dict, dict, Tensor | None] | UserError:
        place, targets = self.places[number], None
        try:
            images, readable = self.load(place)
            if self.targets:
                targets, known = self.dataset.targets(place)
                readable = readable & known
        except UserError as error:
            return error
        names = [self.dataset.names[index] for index in place[~readable]]
        problems = {name: self.dataset.problems.get(name, "unreadable") for name in names}
        return images, readable, problems, dict(self.dataset.remarks), targets


def _by_processes(loaded: _Loaded, workers: int, pinned: bool) -> Generator[Any, None, None]:
    """Load by processes, in order.

    Raises:
        UserError: they cannot begin, or one of them died.
    """
    loader = DataLoader(
        loaded,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=pinned,
        worker_init_fn=_start,
        prefetch_factor=AHEAD,
    )
    try:
        with ExitStack() as end:
            source = _begun(loader)
            # now: left to the garbage collector after an error, each process takes 5 s to end
            end.callback(source._shutdown_workers)
            yield from source
    except (ConnectionError, EOFError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not DEATH.search(str(error)):
            raise
        raise LoaderError("a loader process was killed (memory?)") from None


def _that_can_share(workers: int, dataset: ImageSet, places: list[np.ndarray]) -> int:
    """Return the number of loader processes: as requested, or 0 with a warning where they could not share memory."""
    try:
        free = os.statvfs(SHARED).f_bavail * os.statvfs(SHARED).f_frsize
    except OSError:
        return workers
    if workers and not os.access(SHARED, os.W_OK):
        LOG.warning(
            f"shared memory ({SHARED}) cannot be written to, and loader processes need it: "
            "images are loaded in this process, as with device.workers=0"
        )
        return 0
    needed = (workers * AHEAD + 1) * len(places[0]) * math.prod(dataset.size)  # bytes of 8-bit images
    if workers and free < needed:
        LOG.warning(
            f"shared memory ({SHARED}) has {free / 1e6:.3g} MB free, {workers} loader processes need "
            f"{needed / 1e6:.3g} MB: images are loaded in this process, as with device.workers=0"
        )
        return 0
    return workers


def _begun(loader: DataLoader) -> Any:
    """Start the processes. That one is killed is noticed within 5 s of waiting for its images, and nowhere else.

    torch would have a SIGCHLD raise it at once, wherever the main process is: in the writing of rows, in a callback.

    Raises:
        UserError: the system refuses what they need: processes, open files, semaphores.
    """
    others = set(active_children())
    main = threading.current_thread() is threading.main_thread()  # in others torch sets no handler, and none can be
    before = signal.getsignal(signal.SIGCHLD)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # more workers than cores; fork beside torch's own threads
            return iter(loader)
    except OSError as error:  # not of the disk that rows are written to
        raise LoaderError(f"{loader.num_workers} loader processes cannot begin ({error.strerror})") from None
    finally:
        if main and before is not None:
            signal.signal(signal.SIGCHLD, before)
        LOADERS.update(set(active_children()) - others)


def _as_it_is(part: Any) -> Any:
    """Keep NumPy arrays NumPy arrays."""
    return part


@atexit.register
def _end() -> None:
    """End the processes of loaders that nobody closed: Python would wait at exit for ever for what ignores SIGTERM."""
    for process in set(active_children()) & set(LOADERS):
        process.kill()


def _start(worker: int) -> None:
    """Leave Ctrl-C, SIGTERM and SIGHUP to the main process, which finishes its batch and ends us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # what cannot be handed over is dropped, and waited for without end: an end of this process is noticed
    end = staticmethod(lambda *_: os._exit(1))
    Queue._on_queue_feeder_error = end  # type: ignore[attr-defined]  # mypy does not know what is private in there
    torch.set_num_threads(1)
