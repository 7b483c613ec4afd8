import errno
import logging
import os
import pickle
import signal
import subprocess
import sys
from multiprocessing import active_children

import numpy as np
import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from cnnprobe.datasets import folder
from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError
from cnnprobe.instruments.images import batches as loading
from cnnprobe.instruments.images.batches import LOADERS, Batch, batches
from tests.support.faults.hostile import corpus


class Levels(ImageSet):
    """Image i is of level i (uint8), 4 px; `planted` happens when image 5 is loaded."""

    def __init__(self, count=10, planted=None, size=4, held=False):
        names = [f"level {i}" for i in range(count)]
        super().__init__(name="levels", names=names, labels=range(count), size=(1, size, size), source_size=(1, 4, 4))
        self.planted = planted
        self.in_memory = held

    def load_source(self, indices):
        if 5 in indices and self.planted:
            self.planted(self)
        images = torch.tensor([int(i) for i in indices], dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
        readable = np.array([self.names[i] not in self.problems for i in indices])
        return images * torch.from_numpy(readable)[:, None, None, None], readable


def unreadable(dataset):
    dataset.unreadable(5, "planted")


def refuse(dataset):
    raise UserError("level 5 cannot be read (planted)")


def die(dataset):
    os.kill(os.getpid(), signal.SIGKILL)


def break_down(dataset):
    raise RuntimeError("our own mistake")


def end_group(dataset):
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)


def joined(parts):
    parts = list(parts)
    join = lambda name: np.concatenate([getattr(part, name) for part in parts])  # noqa: E731
    return Batch(join("indices"), torch.cat([part.images for part in parts]), join("labels"), join("readable"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("size", [4, 8])
def test_batches_follow_the_dataset_s_order_as_numbers_from_0_to_1(workers, held, size):
    parts = list(batches(Levels(held=held, size=size), batch_size=4, workers=workers))
    whole = joined(parts)
    assert [len(part) for part in parts] == [4, 4, 2]
    assert whole.indices.tolist() == whole.labels.tolist() == list(range(10)) and whole.readable.all()
    assert whole.images.dtype == torch.float32 and whole.images.shape == (10, 1, size, size)
    torch.testing.assert_close(whole.images[:, 0, 0, 0], torch.arange(10) / 255)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_start_gives_the_same_batches_as_going_there(workers):
    order = [9, 3, 5, 1, 7, 0, 2]
    whole = list(batches(Levels(), batch_size=2, indices=order, workers=workers))
    later = list(batches(Levels(), batch_size=2, indices=order, workers=workers, start=4))
    assert [part.indices.tolist() for part in whole] == [[9, 3], [5, 1], [7, 0], [2]]
    for one, two in zip(whole[2:], later, strict=True):
        assert torch.equal(one.images, two.images) and one.labels.tolist() == two.labels.tolist()
    with pytest.raises(ValueError, match="start must be a multiple of the batch size 2, got 3"):
        batches(Levels(), batch_size=2, start=3)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_keeps_its_row_and_is_warned_of_once(workers, caplog):
    """F32."""
    dataset = Levels(planted=unreadable)
    with caplog.at_level(logging.WARNING, "cnnprobe"):
        for _ in range(2):
            whole = joined(batches(dataset, batch_size=4, workers=workers))
    assert whole.readable.tolist() == [i != 5 for i in range(10)] and whole.labels[5] == 5
    assert not whole.images[5].any() and whole.images[6].any()
    assert [record.getMessage() for record in caplog.records] == ["level 5: skipped (planted)"]
    assert caplog.records[0].skipped == "level 5" and dataset.problems == {"level 5": "planted"}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_strict_dataset_ends_in_one_line_after_the_batches_before(workers):
    parts = batches(Levels(planted=refuse), batch_size=2, workers=workers)
    assert next(parts).indices.tolist() == [0, 1] and next(parts).indices.tolist() == [2, 3]
    with pytest.raises(UserError, match=r"^level 5 cannot be read \(planted\)$"):
        next(parts)
    assert not active_children()


def test_a_loader_process_that_dies_is_told_in_one_line():
    """F58."""
    parts = batches(Levels(planted=die), batch_size=2, workers=2)
    with pytest.raises(UserError, match=r"^a loader process was killed \(memory\?\); try device\.workers=0$"):
        list(parts)


def test_the_death_of_a_loader_process_is_raised_where_its_images_are_waited_for_and_nowhere_else():
    """F58: torch's handler of SIGCHLD would raise it here, in the middle of whatever the main process does."""
    before = signal.getsignal(signal.SIGCHLD)
    parts = batches(Levels(), batch_size=1, workers=2)
    assert next(parts).indices.tolist() == [0]
    for process in LOADERS:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert sum(range(10**5)) == 4999950000
    with pytest.raises(UserError, match=r"^a loader process was killed"):
        list(parts)
    assert signal.getsignal(signal.SIGCHLD) == before
    assert len(joined(batches(Levels(), batch_size=2, workers=2))) == 10


@pytest.mark.parametrize("error", [ConnectionRefusedError, EOFError])
def test_a_loader_process_that_dies_while_it_hands_images_over_is_told_in_one_line(monkeypatch, error):
    """F58: it does not answer, and is not yet known to be gone."""

    def broken(self):
        raise error

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_next_data", broken)
    with pytest.raises(UserError, match=r"^a loader process was killed"):
        list(batches(Levels(), batch_size=2, workers=2))


def test_an_error_of_ours_in_a_loader_process_stays_one():
    with pytest.raises(RuntimeError, match="our own mistake"):
        list(batches(Levels(planted=break_down), batch_size=2, workers=1))


def test_signals_to_the_whole_group_leave_loader_processes_alone():
    """F63: A batch scheduler signals every process; the main one must be able to finish its batch."""
    assert len(joined(batches(Levels(planted=end_group), batch_size=2, workers=2))) == 10


@pytest.mark.slow
def test_the_hostile_corpus_loads_alike_with_and_without_processes(tmp_path):
    expected = corpus(tmp_path)
    options = {"split": None, "classes": None, "labels": None, "size": 8, "resize": None, "strict": False}
    alone, helped = (
        joined(batches(folder.build(root=str(tmp_path), **options), batch_size=7, workers=workers))
        for workers in (0, 2)
    )
    assert torch.equal(alone.images, helped.images) and alone.readable.tolist() == helped.readable.tolist()
    assert alone.readable.sum() == sum(words == "" for words in expected.values())


@pytest.mark.slow
def test_a_loader_kept_alive_by_an_error_does_not_hold_up_the_end_of_python():
    words = """
import sys
from tests.instruments.images.test_batches import Levels
from cnnprobe.instruments.images.batches import batches
kept = batches(Levels(), batch_size=1, workers=2)
next(kept)
sys.kept = kept
raise SystemExit(3)
"""
    assert subprocess.run([sys.executable, "-c", words], timeout=60, check=False).returncode == 3


def test_where_no_memory_can_be_shared_images_are_loaded_here(monkeypatch, caplog):
    """F58: shared memory may be there for reading only."""
    monkeypatch.setattr(loading.os, "access", lambda *_: False)
    monkeypatch.setattr(loading, "_by_processes", None)
    assert len(joined(batches(Levels(), batch_size=2, workers=2)).indices) == 10
    assert f"shared memory ({loading.SHARED}) cannot be written to" in caplog.text
    assert "as with device.workers=0" in caplog.text


def test_processes_that_cannot_begin_are_told():
    """F58: the folder of the run is not to blame."""

    class Refused:
        num_workers = 2

        def __iter__(self):
            raise OSError(errno.EROFS, "Read-only file system")

    told = r"^2 loader processes cannot begin \(Read-only file system\); try device\.workers=0$"
    with pytest.raises(loading.LoaderError, match=told) as caught:
        loading._begun(Refused())
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
