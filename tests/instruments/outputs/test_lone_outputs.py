"""Networks that return one number for each image, (image,), without an axis of classes, beside plain torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import cnnprobe
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import activations, tap

SIZE = (3, 12, 12)
ENDS = {
    "squeezed": lambda y: y.squeeze(1),
    "squeezed whole": lambda y: y.squeeze(),
    "first": lambda y: y[:, 0],
    "sigmoid": lambda y: torch.sigmoid(y).flatten(),
}


class Net(nn.Module):
    """Two convolutions, a mean over positions, one number; `end`: what becomes of its axis."""

    def __init__(self, end):
        super().__init__()
        torch.manual_seed(5)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.head, self.end = nn.Linear(5, 1), end
        self.eval()

    def forward(self, x):
        return self.end(self.head(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3))))


def images(count: int) -> torch.Tensor:
    return torch.rand(count, *SIZE, generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=ENDS)
def model(request):
    return Net(ENDS[request.param])


@pytest.mark.parametrize("count", [1, 7])
def test_what_is_returned_is_one_unit(model, count):
    """F84."""
    pixels = images(count)
    (layer,) = find(model, "logits", SIZE)
    assert (layer.channels, layer.map_size, layer.lone, layer.plain) == (1, (), True, False)
    found = activations(model, [layer], pixels)["logits"]
    torch.testing.assert_close(found, torch.stack([model(one) for one in pixels.split(1)]).view(count, 1))


@pytest.mark.parametrize("count", [1, 3])
def test_what_stands_in_for_it_has_its_shape(model, count):
    """F84."""
    (layer,) = find(model, "logits", SIZE)
    assert layer.tapped(torch.ones(count, 1), count).shape == model(images(count)).shape


def test_every_command_measures_it_as_that_of_a_network_with_the_axis(model):
    """F84: the ranking, the maps of its gradient, of occlusion and of the class, and the image it prefers."""
    whole = Net(torch.sigmoid if model.end is ENDS["sigmoid"] else lambda y: y)
    pixels = images(9)
    options = {
        "topk": {"layer": "logits", "k": 4},
        "rf-map": {"layer": "logits", "top_images": 2},
        "gbp": {"layer": "logits", "top_images": 3, "rule": "gradient", "sanity": False},
        "cam": {},
        "optimize": {"objective": "class", "units": [0], "steps": 3},
    }
    for command, given in options.items():
        one, other = (list(cnnprobe.measure(command, model=net, dataset=pixels, **given)) for net in (model, whole))
        assert len(one) == len(other) > 0
        for mine, theirs in zip(one, other):
            for name, value in vars(theirs).items():
                if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                    np.testing.assert_allclose(
                        getattr(mine, name), value, rtol=1e-3, atol=1e-5, err_msg=f"{command} {name}"
                    )
                elif isinstance(value, int):
                    assert getattr(mine, name) == value


def test_values_of_it_can_be_replaced(model):
    """F84."""
    (layer,) = find(model, "logits", SIZE)
    with torch.no_grad(), tap(model, [layer], lambda _, a: a + 1, complete=True, replace=True) as run:
        torch.testing.assert_close(run(images(3)), model(images(3)) + 1)
