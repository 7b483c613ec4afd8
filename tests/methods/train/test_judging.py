"""Held-out images batch by batch: the loss and the measure are those of all of them, also after a stop."""

import pytest
import torch

from cnnprobe.errors import UserError
from cnnprobe.methods.train.judging import Judging
from cnnprobe.methods.train.losses import Loss
from cnnprobe.methods.train.tasks import task_of
from tests.support.images.asked import Masked

DATASET = Masked(10, 0)
OUTPUTS = torch.randn(10, 4, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = DATASET.targets(range(10))[0]
LOSS = Loss("cross-entropy+dice", ("map", "map"), judged=(1, 2, 3))


def judged(parts, terms=()):
    made = Judging(task_of(DATASET), LOSS, terms, "blobs")
    for part in parts:
        if part is None:
            made.skip()
        else:
            made.add(OUTPUTS[part], TARGETS[part], torch.tensor([float(part.start)] * len(terms)))
    return made


def test_loss_and_measure_do_not_depend_on_the_batches():
    whole, found = judged([slice(0, 10)]).result()
    pieces, others = judged([slice(0, 4), None, slice(4, 5), slice(5, 10)]).result()
    assert torch.equal(whole, pieces) and others == pytest.approx(found)
    assert found["val_loss"] == pytest.approx(float(LOSS.total(LOSS.terms(OUTPUTS, TARGETS))))
    assert set(found) == {"val_loss", "val_iou"}


def test_what_the_network_adds_is_a_mean_over_images():
    _, found = judged([slice(0, 4), slice(4, 10)], ("own",)).result()
    assert found["val_own"] == pytest.approx((4 * 0 + 6 * 4) / 10)


def test_a_stopped_one_goes_on_to_the_same_bits():
    parts = [slice(0, 4), None, slice(4, 10)]
    expected = judged(parts, ("own",)).result()
    before, after = judged(parts[:2], ("own",)), judged([], ("own",))
    after.put_back(before.plain(), torch.device("cpu"))
    after.add(OUTPUTS[4:], TARGETS[4:], torch.tensor([4.0]))
    result, found = after.result()
    assert torch.equal(result, expected[0]) and found == expected[1]
    with pytest.raises(ValueError, match="of another training"):
        judged([]).put_back(before.plain(), torch.device("cpu"))


def test_of_nothing_that_can_be_read_there_is_no_judgement():
    with pytest.raises(UserError, match="no batch of the held-out images of blobs has enough that can be read"):
        judged([None, None]).result()
