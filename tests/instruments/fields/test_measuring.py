"""The reach of operations that are in no table."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import deform_conv2d

from cnnprobe.instruments.fields.measuring import measured
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.receptive_field import BATCH, CHANNEL, Geometry, Span
from cnnprobe.instruments.network.tracing import trace

SIDE = 16


class Own(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def measure(function, size=(3, SIDE, SIDE)):
    """Return what is measured of the one function of a network."""
    (call,) = trace(Own(function), size).calls
    image = Geometry((BATCH, CHANNEL, *range(len(size) - 1)), (Span(0, 1, 1),) * (len(size) - 1), size[1:])
    return measured(call, [image] * len(call.inputs), call.outputs[0])


LIBRARY = torch.library.Library("cnnprobe_tests", "FRAGMENT")
LIBRARY.define("strange(Tensor maps, int reach) -> Tensor")
LIBRARY.impl("strange", lambda maps, reach: F.max_pool2d(F.pad(maps, (0, reach)), (1, reach + 1), 1), "CPU")


def strange(maps, reach):
    """Call an operator of somebody's own: the largest value from each place to `reach` columns to the right."""
    return torch.ops.cnnprobe_tests.strange(maps, reach)


ALL = Span(0, SIDE, 0)


@pytest.mark.parametrize(
    ("function", "spans"),
    [
        (lambda x: torch.special.i1(x), (Span(0, 1, 1), Span(0, 1, 1))),
        (lambda x: strange(x, 0), (Span(0, 1, 1), Span(0, 1, 1))),
        (lambda x: strange(x, 3), (Span(0, 1, 1), Span(0, 4, 1))),
        (lambda x: F.unfold(x, 2), (ALL, ALL)),
        (lambda x: torch.logcumsumexp(x, 2), (ALL, Span(0, 1, 1))),
        (lambda x: torch.einsum("nchw->ncwh", x), (Span(0, 1, 1), Span(0, 1, 1))),
        (lambda x: torch.einsum("nchw,hg->ncgw", x, torch.randn(SIDE, SIDE)), (ALL, Span(0, 1, 1))),
        (lambda x: torch.fft.fft2(x), (ALL, ALL)),
        (lambda x: torch.fft.fft(x, dim=1), (Span(0, 1, 1), Span(0, 1, 1))),
        (lambda x: F.fractional_max_pool2d(x, 2, (7, 8), _random_samples=torch.full((1, 3, 2), 0.5)), None),
        (lambda x: torch.quantile(x, 0.3, 3), (Span(0, 1, 1), ALL)),
        (lambda x: x.topk(4, 3)[0], (Span(0, 1, 1), ALL)),
    ],
)
def test_what_is_measured_of_one_function(function, spans):
    """F85: no pixel that acts is left out, and nothing unknown counts as acting value by value."""
    made = measure(function)
    if spans is not None:
        assert made.spans == spans
    else:
        assert all(span.size >= 2 for span in made.spans)


def test_an_axis_is_followed_to_where_it_goes():
    made = measure(lambda x: torch.einsum("nchw->ncwh", x))
    assert made.roles == (BATCH, CHANNEL, 1, 0)


def test_what_values_say_is_not_believed():
    """F85: how far an index, an offset or a sampling grid reaches, noise does not show."""
    gathered = lambda x: x.gather(3, (x * 3).long().clamp(0, 2))  # noqa: E731
    for function in (
        gathered,
        lambda x: F.grid_sample(x, 0.1 * x[:, :2].permute(0, 2, 3, 1), align_corners=False),
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
        lambda x: deform_conv2d(x, 0.01 * x.repeat(1, 6, 1, 1), torch.ones(3, 3, 3, 3), padding=1),
    ):

        class Ends(Own):
            def __init__(self, function):
                super().__init__(function)
                self.end = nn.Identity()

            def forward(self, images):
                return self.end(super().forward(images))

        (layer,) = find(Ends(function), "end", (3, SIDE, SIDE))
        assert layer.field.size == (SIDE, SIDE) or layer.field.stride[1] == 0, layer
        assert "sees" in layer.note and not layer.measured_whole


def test_a_call_that_would_take_too_long_is_taken_to_see_everything(monkeypatch):
    """F85."""
    assert measure(lambda x: strange(x, 3)).spans == (Span(0, 1, 1), Span(0, 4, 1))
    monkeypatch.setattr("cnnprobe.instruments.fields.measuring.WORK", 100)
    assert measure(lambda x: strange(x, 3)).spans == (Span(0, 1, 1), ALL)


def test_measuring_draws_no_numbers_of_anybody():
    before = torch.get_rng_state()
    measure(lambda x: torch.special.i1(x))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.isclose(measure(lambda x: torch.special.i1(x)).spans[0].size, 1)


def test_an_operator_of_somebodys_own_is_measured_and_said():
    """F85: it keeps the shape, and does not act value by value."""
    model = nn.Sequential(Own(lambda x: strange(x, 3)), nn.Conv2d(3, 2, 3)).eval()
    layer = find(model, "conv1", (3, SIDE, SIDE))[0]
    assert (layer.field.size, layer.field.stride) == ((3, 6), (1, 1)) and layer.note == "strange() was measured"
