"""Tokens of planted networks, whose order is known by construction."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.cam.maps import Grid
from cnnprobe.methods.cam.tokens import token_order

SIZE = (3, 12, 16)
ROWS = np.arange(12)  # of a map 3 x 4


class Transformer(nn.Module):
    """Patches of 4 px as tokens, in an order, between others."""

    def __init__(self, first=0, last=0, order=None, mixed=False):
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, 6, 4, 4)
        self.norm = nn.LayerNorm(6)
        self.encoder = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, norm_first=True)
        self.own = nn.Parameter(torch.randn(1, first + last, 6))
        self.first, self.order, self.mixed = first, order, mixed
        self.eval()

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        if self.order is not None:
            x = x[:, self.order]
        if self.mixed:
            x = x + x.mean(1, keepdim=True)
        own = self.own.expand(len(x), -1, -1)
        x = self.norm(torch.cat([own[:, : self.first], x, own[:, self.first :]], 1))
        return self.encoder(x).mean(1)


COLUMNS = np.arange(12).reshape(3, 4).T.flatten()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ROWS),
        ({"first": 1}, ROWS + 1),
        ({"last": 2}, ROWS),
        ({"first": 1, "last": 3}, ROWS + 1),
        ({"first": 2, "order": COLUMNS}, 2 + np.argsort(COLUMNS)),
    ],
)
def test_the_token_of_each_place_is_found(given, expected):
    """F84: class token and registers at either end, patches column by column."""
    model = Transformer(**given)
    (layer,), (patches,) = find(model, "encoder", SIZE), find(model, "conv1", SIZE)
    assert token_order(model, layer, patches, SIZE).tolist() == expected.tolist()
    grid = Grid(model, layer, SIZE)
    tokens = torch.arange(layer.map_size[0]).expand(2, 6, -1)
    assert grid.of(tokens)[1, 3].flatten().tolist() == expected.tolist() and grid.shape == (3, 4)


def test_tokens_that_show_several_places_are_refused():
    """F84."""
    model = Transformer(first=1, mixed=True)
    (layer,) = find(model, "encoder", SIZE)
    with pytest.raises(UserError, match=r"which of the 13 tokens of encoder .* place of conv1 \(3 x 4\) cannot"):
        Grid(model, layer, SIZE)
