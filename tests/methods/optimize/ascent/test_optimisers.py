"""Steps against the formulas of the papers."""

import pytest
import torch

from cnnprobe.methods.optimize.ascent.optimisers import stepper
from cnnprobe.methods.optimize.ascent.presets import Settings

GRADIENT = torch.tensor([[3.0, -4.0], [0.3, 0.4]])


def stepped(values, gradient=GRADIENT, value=None, **settings):
    values = values.clone().requires_grad_()
    made = stepper(Settings("pixel", **settings), values)
    with torch.no_grad():
        made.step(values, gradient, torch.zeros(len(values)) if value is None else value)
    return values.detach(), made


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"optimiser": "constant", "lr": 0.1}, 0.1 * GRADIENT),
        ({"optimiser": "normalised", "lr": 0.1}, 0.1 * torch.tensor([[0.6, -0.8], [0.6, 0.8]]) * 2**0.5),
        ({"optimiser": "progress", "lr": 100.0, "desired": 2.0}, torch.tensor([[0.24, -0.32], [2.4, 3.2]])),
        ({"optimiser": "progress", "lr": 1.0, "desired": 2.0}, torch.tensor([[0.24, -0.32], [0.3, 0.4]])),
        ({"optimiser": "adam", "lr": 0.1}, 0.1 * GRADIENT.sign()),
    ],
)
def test_the_first_step_is_that_of_the_formula(settings, expected):
    found, _ = stepped(torch.zeros(2, 2), **settings)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_progress01_expects_no_more_than_is_missing():
    value = torch.tensor([0.9, 2.0])  # the first has 0.1 to go, the second is past 1
    found, _ = stepped(torch.zeros(2, 2), value=value, optimiser="progress01", lr=100.0, desired=1.0, late=0.5)
    torch.testing.assert_close(found, torch.tensor([[0.006, -0.008], [0.0, 0.0]]), rtol=1e-4, atol=1e-7)


def test_a_row_without_gradient_stays():
    for kind in ("progress", "normalised", "constant"):
        found, _ = stepped(torch.ones(2, 2), torch.zeros(2, 2), optimiser=kind, lr=1.0, desired=1.0)
        assert torch.equal(found, torch.ones(2, 2))


@pytest.mark.parametrize("kind", ["adam", "nadam"])
def test_rows_that_go_on_keep_their_moments(kind):
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(6, 3, 4, generator=generator)

    def climbed(rows, dropped_after=None):
        values = torch.zeros(3, 4)[rows].clone().requires_grad_()
        made = stepper(Settings("pixel", optimiser=kind, lr=0.1), values)
        for number, gradient in enumerate(gradients):
            if number == dropped_after:
                kept = torch.tensor([0, 2])
                values, rows = values.detach()[kept].requires_grad_(), [rows[place] for place in kept]
                made.keep(values, kept)
            with torch.no_grad():
                made.step(values, gradient[rows], None)
        return values.detach()

    whole = climbed([0, 1, 2])
    assert torch.equal(climbed([0, 1, 2], dropped_after=3), whole[[0, 2]])
    assert torch.equal(climbed([2]), whole[2:])
    assert values_differ(whole)


def values_differ(values):
    return bool((values[0] != values[2]).any())


def test_weight_decay_pulls_towards_the_mean():
    found, _ = stepped(torch.ones(1, 2), torch.zeros(1, 2), optimiser="adam", lr=0.1, weight_decay=1e-3)
    torch.testing.assert_close(found, torch.full((1, 2), 0.9), rtol=1e-4, atol=1e-4)
