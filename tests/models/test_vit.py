"""vit: the right network of torchvision, with the number of weights its authors and torchvision give."""

import pytest
import torch

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import about
from cnnprobe.models import vit


@pytest.mark.parametrize(
    ("options", "architecture", "weights"),
    [
        ({"kind": "b_16"}, "vit_b_16", 86567656),
        ({"kind": "l_32"}, "vit_l_32", 306535400),
    ],
)
def test_architecture_and_number_of_weights(options, architecture, weights):
    """The numbers are those of torchvision's page of models, 1000 classes."""
    options = options | {"input_size": None}
    with torch.device("meta"):
        model = vit.build(num_classes=None, **options)
    assert vit.architecture(**options) == architecture
    assert sum(parameter.numel() for parameter in model.parameters()) == weights
    assert not model.training
    needs = vit.needs(**options)
    assert about(model).input_size == (needs.channels, needs.size, needs.size)


def test_another_side_changes_the_number_of_patches():
    with torch.device("meta"):
        model = vit.build(num_classes=None, kind="b_16", input_size=64)
    assert model.encoder.pos_embedding.shape[1] == 4 * 4 + 1


def test_a_side_that_is_no_multiple_of_the_patch_is_refused():
    with pytest.raises(UserError, match=r"vit_b_16 cannot be built for images of 100 px"):
        vit.build(num_classes=None, kind="b_16", input_size=100)
