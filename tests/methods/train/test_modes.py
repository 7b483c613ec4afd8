"""Which modules of a network are in train mode while a part of it rests."""

import torch
from torch import nn

from cnnprobe.methods.train.modes import Modes
from tests.support.images.blobs import network

SIZE = (3, 8, 8)


def learning(model, strict=False):
    """Return by path whether a module is in train mode."""
    Modes(model, SIZE, strict).learn()
    return {path: module.training for path, module in model.named_modules()}


def test_a_layer_without_trainable_parameters_stays_in_eval_mode():
    model = network()
    model[1].requires_grad_(False)
    assert [learning(model)[path] for path in ("0", "1", "2", "3")] == [True, False, True, True]


def test_a_batch_norm_without_parameters_rests_with_the_layer_before_it():
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False), nn.Dropout()),
        *(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False)),
    )
    model[0].requires_grad_(False)
    assert list(learning(model).values()) == [True, False, False, True, True, True]


class Whitening(nn.Module):
    """Statistics of the images, a constant and dropout in the module that holds all others."""

    def __init__(self):
        super().__init__()
        self.images = nn.BatchNorm2d(3, affine=False)
        self.filters, self.weighted = nn.Conv2d(3, 4, 1), nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1))
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, images):
        maps = self.weighted(self.filters(self.images(images)).relu())
        return nn.functional.dropout(maps * self.scale, training=self.training)


def test_what_is_of_the_images_rests_where_it_must_and_a_constant_decides_nothing():
    """F59: beside a constant, dropout in a `forward` goes on; a parametrisation follows its layer."""
    model = Whitening()
    model.filters.requires_grad_(False)
    norm = "weighted.parametrizations.weight.0"
    for strict, expected in ((False, True), (True, False)):
        found = learning(model, strict)
        assert [found[path] for path in ("", "images", "filters", "weighted", norm)] == [
            True,
            expected,
            False,
            True,
            True,
        ]
    model.weighted.requires_grad_(False)
    model.filters.requires_grad_(True)
    assert not learning(model, strict=True)[norm]


def test_looking_for_statistics_changes_nothing():
    model = Whitening()
    model.filters.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    learning(model)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
