"""Which classes are mapped."""

import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.methods.cam.class_choice import Choice, class_count
from tests.support.networks import planted
from tests.support.networks.gap import Pooled


def test_what_is_chosen():
    logits = torch.tensor([[1.0, 3, 3, 0], [5.0, 1, 2, 4]])
    labels = torch.tensor([3, 0])
    assert Choice(2)(logits, labels).tolist() == [[1, 2], [0, 3]]
    assert Choice(2, own=True)(logits, labels).tolist() == [[1, 2, 3], [0, 3, -1]]
    assert Choice(2, (3,))(logits, labels).tolist() == [[3], [3]]
    assert (Choice(2).count, Choice(2, own=True).count, Choice(2, (3,)).count) == (2, 3, 1)


def test_the_number_of_classes_is_that_of_the_logits():
    assert class_count(Pooled(7).eval(), (3, 12, 12)) == 7


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "this network returns 4 x 10 x 10 per image"),
        (planted.Pair(), "a network that returns one tensor (image, class)"),
    ],
)
def test_what_is_no_classifier_is_refused(model, said):
    with pytest.raises(UserError) as error:
        class_count(model.eval(), (3, 12, 12))
    assert said in str(error.value)
