"""Every command on networks that write into what they are given, or do something with their batch."""

import numpy as np
import pytest
import torch

import cnnprobe
from tests.support.calling import Labelled, Network, Told, called, joined, network
from tests.support.described import COMMANDS

SHOWN = [command for command, one in COMMANDS.items() if not one.learns and "dataset" not in one.options]


class Normalised(Network):
    """Values of another scale, of a copy."""

    def forward(self, images):
        return super().forward((images - 0.45) / 0.22)


class InPlace(Network):
    """The same, written into what it is given."""

    def forward(self, images):
        images.sub_(0.45)
        images[:] = images / 0.22
        return super().forward(images)


class Squeezed(Network):
    """Drops the axis of a batch of one."""

    def forward(self, images):
        x = self.act(self.norm(self.first(images)))
        return self.out(self.act(self.second(self.drop(x))).mean((2, 3), keepdim=True).squeeze())


SHARE = {"size": 0.8}
"""Of values that have to agree where they count places above a level: a place may lie on it."""


def alike(one, other, exact):
    assert one.keys() == other.keys()
    for key, values in one.items():
        if values.dtype.kind == "f":
            scale = max(np.nanmax(np.abs(values), initial=0), 0.1)  # of responses, about
            close = np.isclose(values, other[key], atol=exact * scale, rtol=0, equal_nan=True)
            assert close.mean() >= SHARE.get(key[1], 1), key
        else:
            assert np.array_equal(values, other[key]), key


@pytest.mark.parametrize("command", sorted(SHOWN))
def test_a_network_that_writes_into_its_input_changes_no_result_no_picture_and_no_array(command):
    """F84: the same rows as of the network that copies, whatever is stored."""
    found = []
    for kind in (Normalised, InPlace):
        pixels = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        before, given = pixels.clone(), Labelled(pixels, [n % 3 for n in range(12)], 3)
        own = COMMANDS[command].stimuli or "size" in COMMANDS[command].options
        found.append(joined(called(command, network(kind), **({} if own else {"dataset": given}))))
        assert torch.equal(pixels, before)
    alike(*found, max(COMMANDS[command].exact, 1e-5))


@pytest.mark.parametrize("command", ["record", "topk", "cam"])
def test_a_last_batch_of_one_image_counts_like_the_others(command):
    """F84: nine images in batches of four, of a network that drops the axis of a batch of one."""
    pixels = torch.rand(9, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    given = {"dataset": Labelled(pixels, [n % 3 for n in range(9)], 8), "batch_size": 4}
    with Told() as told:
        whole, dropped = (joined(called(command, network(kind), **given)) for kind in (Network, Squeezed))
    alike(whole, dropped, 1e-5)
    assert all("have no names: taken in the order of the dataset's classes" in line for line in told)


def test_the_best_images_by_what_a_squeezed_network_returns():
    """F84."""
    pixels = torch.rand(9, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    model = network(Squeezed)
    options = {"layer": "logits", "k": 9, "batch_size": 4, "dataset": Labelled(pixels, [0] * 9, 1)}
    rows = joined(cnnprobe.measure("topk", model=model, **options))
    with torch.no_grad():
        expected = model(pixels).sort(0, descending=True)
    table = next(name for name, column in rows if column == "response")
    assert np.array_equal(rows[table, "image"], expected.indices.T.numpy())
    assert np.allclose(rows[table, "response"], expected.values.T.numpy(), atol=1e-6)
