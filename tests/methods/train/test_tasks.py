"""Tasks: what they count of batches is what a single pass over all images gives."""

import numpy as np
import pytest
import torch

from cnnprobe.datasets.base.targets import Target
from cnnprobe.instruments.outputs.average_precision import all_present, average_precision
from cnnprobe.methods.train.tasks import Courses, Maps, OneClass, SeveralClasses, task_of
from tests.support.images.asked import Masked, Several, Timed
from tests.support.images.blobs import Blobs

GENERATOR = torch.Generator().manual_seed(0)


def given(dataset):
    """Return random outputs for a dataset, and its targets."""
    targets, _ = dataset.targets(range(len(dataset)))
    shape = {"map": (4, 8, 8), "course": (2, 5)}.get(dataset.target.kind, (3,))
    return torch.randn(len(dataset), *shape, generator=GENERATOR), targets


SETS = [Blobs(20, 0), Several(20, 0), Masked(20, 0), Timed(20, 0)]


@pytest.mark.parametrize("dataset", SETS, ids=lambda one: one.target.kind)
def test_batches_add_up(dataset):
    task, (outputs, targets) = task_of(dataset), given(dataset)
    parts = [slice(0, 7), slice(7, 19), slice(19, 20)]
    whole = task.result(task.answers(outputs, targets))
    pieces = task.result(torch.cat([task.answers(outputs[part], targets[part]) for part in parts]))
    assert torch.equal(whole, pieces) or torch.allclose(whole, pieces)
    assert task.value(whole) == pytest.approx(task.value(pieces))
    sums = sum(task.sums(outputs[part], targets[part]) for part in parts)
    assert task.share(sums) == pytest.approx(task.share(task.sums(outputs, targets)))
    if task.learned == task.measure:
        assert task.share(sums) == pytest.approx(task.value(whole))
    table, rows = task.table(20), task.rows(whole)
    assert rows.table == table.name and len(rows) == table.rows == len(dataset.target.names)
    for name, values in rows.columns.items():
        assert values.shape == (table.rows, *table.columns[name].shape)


def test_several_classes_are_judged_by_average_precision_and_learned_by_those_that_come_first():
    dataset = Several(40, 1)
    task, (outputs, targets) = task_of(dataset), given(dataset)
    result = task.result(task.answers(outputs, targets))
    expected = average_precision(outputs.numpy(), targets.numpy())
    assert result[:, 0].tolist() == pytest.approx(expected)
    assert task.value(result) == pytest.approx(expected.mean())
    some = targets.numpy().any(1)
    assert task.share(task.sums(outputs, targets)) == pytest.approx(
        all_present(outputs.numpy(), targets.numpy())[some].mean()
    )
    assert task.chance == pytest.approx(targets.float().mean(0).mean())


def test_a_class_that_no_held_out_image_has_is_left_out_of_the_mean():
    task = SeveralClasses(Target("present", ("a", "b")), np.array([0.5, 0.0]))
    answers = task.answers(torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[1, 0], [0, 0]]))
    assert task.value(task.result(answers)) == 1 and task.chance == 0.5
    assert np.isnan(task.rows(task.result(answers)).columns["average_precision"][1])


def test_maps_of_a_network_without_padding_are_compared_with_the_middle():
    dataset = Masked(3, 0)
    task, (_, targets) = task_of(dataset), given(dataset)
    outputs = torch.zeros(3, 4, 4, 4)
    assert torch.equal(task.fitted(targets, outputs), targets[:, 2:6, 2:6])
    assert task.fitted(targets, torch.zeros(3, 4, 8, 8)) is targets


def test_all_background_has_no_overlap():
    dataset = Masked(6, 0)
    task, (_, targets) = task_of(dataset), given(dataset)
    outputs = torch.zeros(6, 4, 8, 8)
    outputs[:, 0] = 1
    assert task.value(task.result(task.answers(outputs, targets))) == task.chance == 0
    assert task.guess == "all background"
    truth = torch.nn.functional.one_hot(targets.long() % 255, 4).permute(0, 3, 1, 2).float()
    assert task.value(task.result(task.answers(truth, targets))) == 1


def test_each_target_has_its_task():
    assert [type(task_of(one)) for one in SETS] == [OneClass, SeveralClasses, Maps, Courses]
    assert [task_of(one).table(9).name for one in SETS] == ["confusion", "classes", "confusion", "channels"]
