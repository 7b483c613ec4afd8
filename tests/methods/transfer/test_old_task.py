"""The old task, asked with the old readout: the network answers as it did, and comes back as it was."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.outputs.readout import new_readout, put, readout_of
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.transfer.old_task import OldTask, share_right
from cnnprobe.methods.transfer.recoverable import refitted_accuracy
from tests.support.images.blobs import Blobs, network

GIVEN = {"computation": Computation(batch_size=7), "preload": True}


def taught():
    """Return a network with a readout of 5 classes in place of its own of 3, and its own."""
    model = network()
    old = readout_of(model, (3, 8, 8))
    whole = copy.deepcopy(model)
    put(model, old.path, new_readout(old.module, 5, seed=0))
    return model, old, whole


@pytest.mark.parametrize("preload", [True, False])
def test_answers_are_those_of_the_network_with_its_old_readout(preload):
    model, old, whole = taught()
    images = Blobs(40, 3, broken=9)
    found = OldTask(model, old, images, **GIVEN | {"preload": preload}).right_by_class()
    readable = images.can_read
    with torch.no_grad():
        answers = whole(images.pixels.float() / 255).argmax(1).numpy()
    for label in range(3):
        own = readable & (images.labels == label)
        assert found[label].tolist() == [own.sum(), (answers[own] == label).sum()]
    assert share_right(found) == pytest.approx((answers == images.labels)[readable].mean())


def test_the_network_comes_back_with_its_new_readout_and_modes():
    model, old, _ = taught()
    new = model[6]
    model.train()
    model[3].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    OldTask(model, old, Blobs(20, 3), **GIVEN).accuracy()
    assert model[6] is new
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_it_follows_the_body():
    """Where the body loses everything, one class is left for all images."""
    model, old, _ = taught()
    task = OldTask(model, old, Blobs(30, 3), **GIVEN)
    for parameter in model[0].parameters():
        parameter.data.zero_()
    found = task.right_by_class()
    assert sorted(found[:, 1]) == [0, 0, 10]
    assert task.accuracy() == pytest.approx(1 / 3)


def test_images_of_no_class_do_not_count():
    model, old, _ = taught()
    images = Blobs(30, 3)
    images.labels[:] = -1
    assert np.isnan(OldTask(model, old, images, **GIVEN).accuracy())


def test_another_number_of_classes_is_told():
    model, old, _ = taught()
    with pytest.raises(UserError, match="old_task: blobs has 4 classes, the old readout 6 has 3"):
        OldTask(model, old, Blobs(30, 3, classes=4), **GIVEN)


class Rewritten(nn.Sequential):
    """Writes into what its readout has read."""

    def forward(self, images):
        features = images
        for module in list(self)[:-1]:
            features = module(features)
        outputs = self[-1](features)
        features.zero_()
        return outputs


@pytest.mark.parametrize("kind", ["linear", "rewritten", "pooled", "whole map"])
def test_what_is_recoverable_is_read_from_what_enters_the_readout(kind):
    """The features by hand; the network comes back without a hook. F20: also where they are written over."""
    images = Blobs(60, 3, broken=7)
    torch.manual_seed(1)
    if kind == "linear":
        model = network()
    elif kind == "rewritten":
        model = Rewritten(*network()).eval()
    else:
        last = nn.Conv2d(6, 3, 1) if kind == "pooled" else nn.Conv2d(6, 3, 8)
        ending = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), last, *ending).eval()
    old = readout_of(model, (3, 8, 8))
    pixels, labels = images.pixels.float()[images.can_read] / 255, images.labels[images.can_read]
    with torch.no_grad():
        maps = nn.Sequential(*list(model)[: int(old.path)])(pixels)
    features = maps.mean((2, 3)) if kind == "pooled" else maps.flatten(1)
    task = OldTask(model, old, images, **GIVEN)
    found = task.recoverable(1000, seed=2)
    assert found == pytest.approx(refitted_accuracy(features.numpy(), labels, 2), abs=1e-9)
    assert not old.module._forward_pre_hooks
    assert 0 <= task.recoverable(20, seed=2) <= 1
