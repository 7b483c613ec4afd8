"""Every image of an epoch comes once, in the order asked for, whether held in memory or loaded."""

import logging

import numpy as np
import pytest
import torch

from cnnprobe.methods.train.training_images import Supply, order_of, parted
from tests.support.images.blobs import Blobs

CPU = torch.device("cpu")


def supply(dataset, preload=True, source=False, filled=True):
    made = Supply(dataset, device=CPU, workers=0, preload=preload, source=source)
    if filled:
        made.fill(lambda: False)
    return made


@pytest.mark.parametrize(("count", "size"), [(33, 32), (64, 32), (1, 32), (3, 1), (65, 32), (31, 7), (0, 4)])
def test_batches_hold_every_image_once_and_none_is_alone(count, size):
    """F23."""
    parts = parted(count, size)
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(count))
    lengths = [stop - start for start, stop in parts]
    assert all(length in (size, size + 1) for length in lengths[:-1])
    if count > 1 and size > 1:
        assert min(lengths) > 1


@pytest.mark.parametrize("source", [False, True])
def test_held_and_loaded_images_are_the_same_batches(source):
    dataset = Blobs(33, 0, side=8, size=12)
    order, parts = order_of(33, seed=1, epoch=0), parted(33, 16)
    held = list(supply(dataset, True, source).shown(order, parts, 16))
    loaded = list(supply(dataset, False, source).shown(order, parts, 16))
    assert [len(images) for images, _, _ in loaded] == [16, 17]
    for (a, labels_a, indices_a), (b, labels_b, indices_b) in zip(held, loaded):
        assert torch.equal(a.float() / (255 if a.dtype == torch.uint8 else 1), b)
        assert torch.equal(labels_a, labels_b)
        assert torch.equal(indices_a, indices_b)
        assert a.shape[-1] == (8 if source else 12)
    assert torch.cat([indices for _, _, indices in held]).tolist() == order.tolist()


def test_bytes_are_held_as_the_bytes_they_were():
    dataset = Blobs(9, 0)
    assert torch.equal(supply(dataset, source=True).held, dataset.pixels)


def test_a_part_of_the_batches_goes_on_where_the_others_ended():
    dataset, parts = Blobs(40, 0), parted(40, 8)
    for preload in (True, False):
        images = supply(dataset, preload)
        later = list(images.shown(np.arange(40), parts[3:], 8))
        assert torch.cat([indices for _, _, indices in later]).tolist() == list(range(24, 40))


@pytest.mark.parametrize("preload", [True, False])
def test_images_that_cannot_be_read_are_not_shown(preload, caplog):
    caplog.set_level(logging.CRITICAL, logger="cnnprobe")
    images = supply(Blobs(20, 0, broken=5), preload)
    shown = [indices.tolist() for _, _, indices in images.shown(np.arange(20), parted(20, 8), 8)]
    assert shown == [[0, 1, 2, 3, 5, 6, 7], [8, 10, 11, 12, 13, 15], [16, 17, 18]]


def test_orders_differ_by_epoch_and_seed_and_by_nothing_else():
    once = order_of(50, 3, 1)
    assert sorted(once) == list(range(50))
    assert (once == order_of(50, 3, 1)).all()
    assert (once != order_of(50, 3, 2)).any()
    assert (once != order_of(50, 4, 1)).any()


def test_odds_make_a_rare_class_as_frequent_as_the_others():
    rare = np.arange(1000) < 100
    drawn = rare[order_of(1000, 0, 0, np.where(rare, 9.0, 1.0))]
    assert abs(drawn.mean() - 0.5) < 5 * (0.25 / 1000) ** 0.5


def test_auto_holds_what_fits_only(monkeypatch):
    for room, expected in ((10**9, True), (9 * 3 * 64 * 2 - 1, False)):
        monkeypatch.setattr("cnnprobe.methods.train.training_images.free_memory", lambda device, room=room: room)
        assert (supply(Blobs(9, 0), preload="auto").held is not None) == expected


def test_filling_ends_when_asked_to():
    images = supply(Blobs(9, 0), filled=False)
    images.fill(lambda: True)
    assert images.held is None
