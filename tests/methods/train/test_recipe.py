"""Optimisers against torch's, weights of classes, and what cannot be taught."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.methods.train.recipe import check, class_weights, has_batch_norm
from tests.support.images.blobs import Blobs, network, recipe


def test_class_weights_give_every_class_the_same_say():
    labels = np.array([0] * 90 + [1] * 9 + [3] * 1)
    weights = class_weights(np.bincount(labels, minlength=4))
    assert [weights[labels[labels == c]].sum() for c in (0, 1, 3)] == pytest.approx([100 / 3] * 3)
    assert weights[2] == 0


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, fused=False, foreach=False)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01, fused=False, foreach=False)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01, fused=False, foreach=False)),
    ],
)
def test_optimisers_move_as_those_of_torch(name, peer):
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2))
    moving = [recipe(optimizer=name, lr=0.1, weight_decay=0.01).optimiser([{"params": [ours]}]), peer([theirs])]
    for step in range(4):
        for parameter, optimiser in zip((ours, theirs), moving):
            parameter.grad = torch.sin(parameter.detach() * (step + 1))
            optimiser.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


class Unlabelled(Blobs):
    def __init__(self, labels, classes=3):
        super().__init__(len(labels), 0, classes=classes)
        self.labels = np.array(labels)


@pytest.mark.parametrize(
    ("dataset", "held_out", "model", "changes", "words"),
    [
        (
            Blobs(9, 0, classes=1),
            Blobs(9, 1, classes=1),
            network(1),
            {},
            "training needs 2 or more classes, blobs has 1",
        ),
        (Blobs(9, 0), Blobs(9, 1, classes=2), network(), {}, "held-out set of blobs has other classes"),
        (Unlabelled([0, 1, -1, -1]), Blobs(9, 1), network(), {}, "2 of the 4 training images of blobs have no class"),
        (Blobs(9, 0), Unlabelled([0, 1, 7]), network(), {}, "1 of the 3 held-out images of blobs have no class"),
        (Unlabelled([1, 1, 1]), Blobs(9, 1), network(), {}, "these 3 are all of one"),
        (Blobs(9, 0), Blobs(0, 1), network(), {}, "the held-out set of blobs has no images"),
        (Blobs(9, 0), Blobs(9, 1), network(5), {}, "one output per class, 3; it gives 5 outputs"),
        (
            Blobs(9, 0),
            Blobs(9, 1),
            nn.Conv2d(3, 3, 1),
            {},
            r"one output per class, 3; it gives maps \(3 x 8 x 8\).* has none, shapes has",
        ),
        (Blobs(9, 0), Blobs(9, 1), nn.Linear(7, 3), {}, "does not take images of 3x8x8"),
        (Blobs(9, 0), Blobs(9, 1), nn.ReLU(), {}, "nothing to train"),
        (Blobs(9, 0), Blobs(9, 1), network(), {"batch_size": 1}, "batch_size must be 2 or more"),
        (Blobs(9, 0), Blobs(9, 1), network(), {"warmup": 3.0}, "warmup must be at most the 2 epochs, got 3"),
        (Blobs(9, 0), Blobs(9, 1), network(), {"checkpoints": [1, 9]}, "epochs from 0 to 2, got 9"),
    ],
)
def test_what_cannot_be_taught_is_told_before_the_first_update(dataset, held_out, model, changes, words):
    with pytest.raises(UserError, match=words):
        check(model, dataset, held_out, recipe(**changes), changes.get("batch_size", 16))


def test_signals_are_not_flipped():
    signals = Blobs(9, 0)
    signals.size = (3, 64)
    with pytest.raises(UserError, match=r"augment of signals is none or \[crop\]"):
        check(nn.Sequential(nn.Conv1d(3, 3, 64), nn.Flatten()), signals, signals, recipe(augment=["flip"]), 16)


def test_checking_changes_nothing():
    model = network().train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    check(model, Blobs(9, 0), Blobs(9, 1), recipe(), 16)
    assert model.training
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert has_batch_norm(model)
