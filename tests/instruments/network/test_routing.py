"""Networks that send images to parts of their own by what is in them, beside plain torch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import cnnprobe
from cnnprobe.instruments.layers.naming import find

SIZE = (3, 12, 12)


class Experts(nn.Module):
    """Each image passes through one of three convolutions; `way`: how its rows are found and put back."""

    def __init__(self, way: str):
        super().__init__()
        self.way = way
        self.experts = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(3))

    def forward(self, x):
        chosen = (x.mean((2, 3)) @ torch.eye(6, 3) * 7).argmax(1)
        made = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            if self.way == "mask":
                mask = chosen == number
                made[mask] = F.relu(expert(x[mask]))
                continue
            rows = torch.where(chosen == number)[0] if self.way == "where" else (chosen == number).nonzero()[:, 0]
            if not len(rows):
                continue
            part = F.relu(expert(x[rows]))
            if self.way == "where":
                made[rows] = part
            elif self.way == "add":
                made.index_add_(0, rows, part)
            elif self.way == "copy":
                made = made.index_copy(0, rows, part)
            else:
                made = made.index_put((rows,), part)
        return made


@pytest.fixture(params=["mask", "where", "add", "copy", "put"])
def model(request):
    torch.manual_seed(2)
    stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
    return nn.Sequential(stem, Experts(request.param), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval()


def expected(model, pixels):
    """Return what the experts give, image by image."""
    with torch.no_grad():
        stem = model[0](pixels)
        chosen = (stem.mean((2, 3)) @ torch.eye(6, 3) * 7).argmax(1)
        return torch.stack([F.relu(model[1].experts[int(at)](one[None])[0]) for one, at in zip(stem, chosen)])


def test_units_are_channels_also_where_images_are_sent_by_their_values(model):
    """F85: not the columns of the map, which comes last of its axes."""
    (layer,) = find(model, "1", SIZE)
    assert (layer.channels, layer.map_size) == (6, (6, 6))
    pixels = torch.rand(12, *SIZE, generator=torch.Generator().manual_seed(1))
    maps = expected(model, pixels)
    rows = cnnprobe.measure("topk", model=model, dataset=pixels, layer="1", k=5)
    values, images = maps.flatten(2).amax(2).sort(0, descending=True)
    for row in rows:
        if row.table == "units/1":
            assert row.image.tolist() == images[:5, row.unit].tolist()
            torch.testing.assert_close(torch.tensor(row.response), values[:5, row.unit])
    for row in cnnprobe.measure("record", model=model, dataset=pixels, layer="1"):
        if row.table == "activations/1":
            torch.testing.assert_close(torch.tensor(row.max), maps[row.row].amax((1, 2)))


class Last(nn.Module):
    """The same with channels in the last axis, and rows that are added where values say."""

    def __init__(self):
        super().__init__()
        self.stem, self.mixed = nn.Conv2d(3, 5, 3, 2, 1), nn.Linear(5, 5)

    def forward(self, x):
        x = self.stem(x).permute(0, 2, 3, 1)
        rows = (x.mean((1, 2, 3)) > 0).nonzero()[:, 0]
        return torch.zeros_like(x).index_add(0, rows, self.mixed(x[rows]))


def test_channels_in_the_last_axis_stay_there_where_rows_are_added():
    """F85."""
    (layer,) = find(Last().eval(), "logits", SIZE)
    assert (layer.channels, layer.map_size) == (5, (6, 6))
