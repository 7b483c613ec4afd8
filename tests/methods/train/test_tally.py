"""The tally of an epoch: means over images, the first loss that is no number, and what older versions left."""

import math

import pytest
import torch

from cnnprobe.methods.train.tally import COUNT, LOSS, TERMS, Tally
from cnnprobe.methods.train.tasks import task_of
from tests.support.images.blobs import Blobs

DEVICE = torch.device("cpu")


def tally(losses, owned=(), counts=(4, 4, 2)):
    made = Tally(task_of(Blobs(10, 0)), 3, len(owned), DEVICE)
    for step, (loss, count) in enumerate(zip(losses, counts)):
        outputs = torch.eye(3)[[0] * count]
        made.write(step, torch.tensor(loss), torch.tensor(owned), outputs, torch.arange(count) % 3)
    return made


def test_means_are_over_images():
    made = tally([1.0, 2.0, 4.0], [0.5])
    assert made.shown == 10
    assert made.means() == {LOSS: (4 * 1 + 4 * 2 + 2 * 4) / 10, COUNT: (16 + 16 + 4) / 10, TERMS: 0.5}
    assert made.share() == pytest.approx((2 + 2 + 1) / 10)
    made.clear()
    assert made.shown == 0 and made.sums is None


def test_the_first_loss_that_is_no_number_is_found_once_it_is_looked_at():
    made = tally([1.0, math.inf, math.nan])
    assert made.look(1) is None and made.look(3) == (1, math.inf)
    made = tally([1.0, 1.0, 1.0], [math.nan])
    assert made.look(3)[0] == 0  # of what the network adds, too


@pytest.mark.parametrize("owned", [(), (0.5, 2.0)])
def test_it_goes_on_from_what_it_left(owned):
    made, again = tally([1.0, 2.0], owned), tally([], owned)
    again.put_back(made.plain())
    assert torch.equal(again.losses, made.losses) and torch.equal(again.sums, made.sums)
    again.put_back(tally([], owned).plain())
    assert again.sums is None


def test_it_goes_on_from_what_versions_left_that_knew_accuracy_alone():
    again = tally([])
    again.put_back({"tally": torch.tensor([[1.0, 2, 4], [2.0, 3, 4], [0, 0, 0]], dtype=torch.float64)})
    assert again.losses.tolist() == [[1, 4], [2, 4], [0, 0]] and again.share() == 5 / 8


def test_a_tally_of_another_training_is_refused():
    with pytest.raises(RuntimeError):
        tally([]).put_back({"tally": torch.zeros(7, 2)})
