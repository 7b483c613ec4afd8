"""Forms of outputs by their axes, and what a network says itself."""

import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import About
from cnnprobe.instruments.outputs.forms import form_for, form_of


@pytest.mark.parametrize(
    ("shape", "form"),
    [
        ((2, 5), "classes"),
        ((2, 5, 4, 4), "map"),
        ((2, 5, 1, 4), "map"),
        ((2, 5, 1, 1), None),  # one number per class, in axes of one
        ((2, 5, 9), "course"),
        ((2, 5, 1), None),
        ((2,), None),
    ],
)
def test_axes_tell_the_form(shape, form):
    assert form_of(nn.Identity(), torch.zeros(shape)) == form


def test_what_is_no_tensor_of_numbers_has_no_form():
    assert form_of(nn.Identity(), {"logits": torch.zeros(2, 5)}) is None
    assert form_of(nn.Identity(), torch.zeros(2, 5, dtype=torch.int64)) is None


def test_a_network_says_that_its_outputs_stand_each_for_itself():
    model = nn.Identity()
    assert form_for(model, "class") == form_for(model, "present") == "classes"
    model.cnnprobe = About(output="existence")
    assert form_of(model, torch.zeros(2, 5)) == "existence"
    assert form_of(model, torch.zeros(2, 5, 4, 4)) == "map"  # it is of another layer
    assert (form_for(model, "class"), form_for(model, "map")) == ("existence", "map")
    with pytest.raises(UserError, match=r"About\.output must be classes, existence, map or course, got 'maps'"):
        About(output="maps")
