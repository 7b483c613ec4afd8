"""Maps of rows and columns out of tokens."""

import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.cam.grids import Grid


class Tokens(nn.Module):
    """Patches of 4 px as tokens behind a class token."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 5, 4, stride=4), nn.LayerNorm(5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.norm(torch.cat([x.mean(1, keepdim=True), x], 1))[:, 0]


def test_tokens_stand_row_by_row_behind_the_class_token():
    size = (3, 8, 12)
    model = Tokens()
    grid = Grid(model, find(model, "norm", size)[0], size)
    assert grid.shape == (2, 3)
    assert grid.of(torch.arange(14.0).reshape(1, 2, 7))[0, 1].tolist() == [[8, 9, 10], [11, 12, 13]]


def test_a_layer_without_a_map_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten())
    with pytest.raises(UserError, match="positions: none"):
        Grid(model, find(model, "1", (3, 8, 8))[0], (3, 8, 8))
