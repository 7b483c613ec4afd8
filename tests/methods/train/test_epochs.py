"""What a training writes down, and what it remembers through a stop."""

import numpy as np
import pytest
import torch

from cnnprobe.datasets.base.targets import Target
from cnnprobe.methods.train.epochs import Progress, moments_of, put_back
from cnnprobe.methods.train.tasks import OneClass


def finished(accuracies):
    progress = Progress(2)
    best = []
    for number, accuracy in enumerate(accuracies, start=1):
        row = {"epoch": number, "val_accuracy": accuracy}
        best.append(progress.finish_epoch(row, "val_accuracy", torch.tensor([[number, 1], [0, 0]]), 4))
    return progress, best


def test_the_first_of_equal_epochs_is_the_best():
    progress, best = finished([0.5, 0.8, 0.8, 0.7])
    assert best == [True, True, False, False]
    assert progress.best_epoch == 2


def test_confusion_is_that_of_the_best_epoch_and_empty_classes_have_no_accuracy():
    rows = OneClass(Target("class", ("a", "b"))).rows(finished([0.5, 0.8, 0.8])[0].best_result)
    assert rows.columns["matrix"].tolist() == [[2, 1], [0, 0]]
    assert rows.columns["accuracy"][0] == pytest.approx(2 / 3)
    assert np.isnan(rows.columns["accuracy"][1])


def test_a_copy_is_the_same_and_apart():
    progress, _ = finished([0.5])
    copy = Progress(**progress.plain())
    assert copy.row(0).columns == progress.row(0).columns
    copy.finish_epoch({"epoch": 2, "val_accuracy": 1.0}, "val_accuracy", torch.zeros(2, 2), 4)
    assert progress.epoch == 1
    assert len(progress.history["epoch"]) == 1


@pytest.mark.parametrize("make", [torch.optim.AdamW, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)])
def test_an_optimiser_goes_on_with_its_moments(make):
    def stepped(parameter, optimiser):
        parameter.grad = parameter.detach() ** 2 + 1
        optimiser.step()

    kernel = torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last)
    one, other = (torch.nn.Parameter(kernel.clone()) for _ in range(2))
    first, second = make([one]), make([other])
    stepped(one, first)
    with torch.no_grad():
        other.copy_(one)
    put_back(second, moments_of(first))
    stepped(one, first)
    stepped(other, second)
    assert torch.equal(one, other)
    moment = next(value for value in second.state[other].values() if value.ndim == 4)
    assert moment.stride() == other.stride()
