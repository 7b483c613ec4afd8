"""Maps of rows and columns out of tokens."""

import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.cam.grids import Grid, displacement


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


def test_a_map_whose_edge_looks_further_inside_than_it_is_drawn_is_told():
    """Two filters of 9 px without padding: fields of 17 px, that of the first place from 0, of the last from 10."""
    valid = nn.Sequential(nn.Conv2d(1, 2, 9), nn.Conv2d(2, 2, 9, stride=2))
    said = displacement(find(valid, "1", (1, 28, 28))[0], (1, 28, 28))
    assert said.startswith(
        "the map of 1 belongs to px 8.5 to 18.5 down and 8.5 to 18.5 across (the middles of its fields, of "
    )
    padded = nn.Sequential(nn.Conv2d(1, 2, 9, padding=4), nn.Conv2d(2, 2, 9, stride=2, padding=4))
    assert displacement(find(padded, "1", (1, 28, 28))[0], (1, 28, 28)) == ""
