"""Networks that take gradients in their own forward, as predictive coding does; the right values are plain torch's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cnnprobe
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import activations
from cnnprobe.instruments.network.conduct import conduct_of
from cnnprobe.instruments.windows.occluders import Grid
from cnnprobe.methods.gbp.gradients import Gradients, Recipe
from cnnprobe.methods.rf_map.occlusion import Occlusion

SIZE = (3, 12, 12)


class Predicting(nn.Module):
    """Two steps down the error of a linear prediction of the image; `way`: how the gradient of it is taken."""

    def __init__(self, way: str):
        super().__init__()
        torch.manual_seed(3)
        self.way = way
        self.code = nn.Conv2d(3, 5, 3, 2, 1)
        self.error, self.top = nn.Identity(), nn.Conv2d(5, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)
        self.eval()

    def energy(self, z: Tensor, x: Tensor) -> Tensor:
        guess = F.conv_transpose2d(z, self.code.weight, stride=2, padding=1, output_padding=1)
        return self.error(x - guess).square().sum() / 2

    def slope(self, z: Tensor, x: Tensor) -> Tensor:
        if self.way == "func":
            return torch.func.grad(self.energy)(z, x)
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            if self.way == "grad":
                return torch.autograd.grad(self.energy(z, x), z)[0]
            self.energy(z, x.detach()).backward()
        return z.grad

    def forward(self, x: Tensor) -> Tensor:
        z = self.code(x)
        for _ in range(2):
            z = z - 0.2 * self.slope(z, x)
        return self.head(self.top(F.relu(z)).mean((2, 3)))

    def by_hand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activation of `top` and the logits; the gradient is a convolution of the error."""
        with torch.no_grad():
            z = self.code(x)
            for _ in range(2):
                error = F.conv_transpose2d(z, self.code.weight, stride=2, padding=1, output_padding=1) - x
                z = z - 0.2 * F.conv2d(error, self.code.weight, stride=2, padding=1)
            top = self.top(F.relu(z))
            return top, self.head(top.mean((2, 3)))


@pytest.fixture(params=["grad", "backward", "func"])
def model(request):
    return Predicting(request.param)


def images(count: int) -> Tensor:
    return torch.rand(count, *SIZE, generator=torch.Generator().manual_seed(1))


def test_activations_and_answers_are_those_of_the_network(model):
    """F87: torch's inference mode, in which no gradient can be taken, is left for them."""
    assert conduct_of(model, SIZE).differentiates == (model.way != "func")
    pixels = images(9)
    top, logits = model.by_hand(pixels)
    with torch.inference_mode():
        found = activations(model, find(model, ["top", "logits"], SIZE), pixels)
    torch.testing.assert_close(found["top"], top)
    torch.testing.assert_close(found["logits"], logits)
    if model.way != "func":  # what its own gradient needs is handed on without its graph
        with torch.inference_mode():
            (error,) = activations(model, find(model, "error#1", SIZE), pixels).values()
        guess = F.conv_transpose2d(model.code(pixels), model.code.weight, stride=2, padding=1, output_padding=1)
        torch.testing.assert_close(error, (pixels - guess).detach())
        assert not error.requires_grad
    assert not conduct_of(nn.Sequential(nn.Conv2d(3, 2, 3)).eval(), SIZE).differentiates


@pytest.mark.parametrize("command", ["record", "topk", "cam", "perturb", "rsa"])
def test_every_command_measures_them(model, command):
    """F87."""
    inside = ["error#1"] if model.way != "func" else []
    options = {"record": {"layer": ["top", *inside], "keep": "maps"}, "topk": {"layer": ["top", "head"], "k": 3},
               "perturb": {"layer": "top"}, "cam": {},
               "rsa": {"layer": "top", "bootstrap": 0, "permutations": 0}}  # fmt: skip
    pixels = images(8)
    rows = list(cnnprobe.measure(command, model=model, dataset=pixels, **options[command]))
    _, logits = model.by_hand(pixels)
    if command == "record":
        found = [row.prediction for row in rows if row.table == "images"]
        assert found == logits.argmax(1).tolist()
    assert rows


def test_occluded_images_run_through_the_whole_network(model):
    """F85: its calls cannot be repeated one by one, and every position sees more than the convolutions say."""
    (layer,) = find(model, "top", SIZE)
    image, grid = images(1)[0], Grid(SIZE[1:], 3, 3)
    with Occlusion(model, layer, SIZE, grid) as occlusion:
        assert occlusion.engine.startswith("brute force")
        fill = torch.zeros(1, *SIZE)
        found = occlusion.discrepancies(image, fill, [1], [[2, 3]], "site")[0, 0]
    clean, _ = model.by_hand(image[None])
    tops, lefts = (corners.tolist() for corners in grid.corners)
    for row, column in np.ndindex(found.shape):
        seen = image.clone()
        seen[:, max(tops[row], 0) : tops[row] + 3, max(lefts[column], 0) : lefts[column] + 3] = 0
        other, _ = model.by_hand(seen[None])
        assert found[row, column] == pytest.approx(float(clean[0, 1, 2, 3] - other[0, 1, 2, 3]), abs=1e-5)


def test_a_gradient_through_them_is_that_of_autograd():
    """F87: torch.func allows no look at what a pass saves, whose size is then that of all it computes."""
    model, pixels = Predicting("func"), images(2)
    (layer,) = find(model, "top", SIZE)
    with Gradients(model, layer, SIZE, Recipe(rule="gradient")) as gradients:
        found = gradients.maps(pixels, np.arange(2), np.array([0, 1]), np.array([[2, 3], [4, 1]]))
    shown = pixels.clone().requires_grad_()
    z = model.code(shown)
    for _ in range(2):
        error = F.conv_transpose2d(z, model.code.weight, stride=2, padding=1, output_padding=1) - shown
        z = z - 0.2 * F.conv2d(error, model.code.weight, stride=2, padding=1)
    top = model.top(F.relu(z))
    (expected,) = torch.autograd.grad(top[0, 0, 2, 3] + top[1, 1, 4, 1], shown)
    np.testing.assert_allclose(found.values, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("way", ["grad", "backward"])
def test_where_they_cut_it_that_is_said(way, caplog):
    """F87."""
    list(cnnprobe.measure("gbp", model=Predicting(way), dataset=images(4), layer="top", rule="gradient").events)
    assert "is not the derivative: it differs from finite differences by" in caplog.text
