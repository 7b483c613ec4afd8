"""Activations of layers in one pass."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import activations, tap, warn_of_nan
from cnnprobe.instruments.network.layer import Tap
from tests.support.calling import Told
from tests.support.networks import planted


def test_a_convolution_before_an_in_place_rectifier_keeps_its_negatives():
    """F20: what was read equals the network without in-place rectifiers, bit for bit."""
    model = torchvision.models.alexnet(weights=None).eval()
    images = torch.rand(2, 3, 127, 127)
    with torch.no_grad():
        read = activations(model, find(model, ["features.0", "conv1", "features.3"], (3, 127, 127)), images)
        expected = model.features[0](images)
        assert torch.equal(read["features.0"], expected) and torch.equal(read["conv1"], expected.relu())
        assert torch.equal(read["features.3"], model.features[3](model.features[2](expected.relu())))
    assert 0.3 < (read["features.0"] < 0).float().mean() < 0.7


@pytest.mark.parametrize("network", [planted.Functional, planted.Inline])
def test_functions_are_read_like_modules(network):
    model, images = network().eval(), torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        read = activations(model, find(model, ["conv1", "conv2", "dense"], (3, 8, 8)), images)
        first = model.first(images).relu()
        second = model.second(first).relu()
        assert torch.equal(read["conv1"], first) and torch.equal(read["conv2"], second)
        assert torch.equal(read["dense"], model(images))


def test_calls_and_parts_are_read_apart():
    """F19."""
    images = torch.rand(2, 3, 8, 8)
    block, odd = planted.Block().eval(), planted.Odd().eval()
    with torch.no_grad():
        read = activations(block, find(block, ["relu#1", "relu#2", "conv2"], (3, 8, 8)), images)
        first = block.bn1(block.conv1(images)).relu()
        assert torch.equal(read["relu#1"], first) and torch.equal(read["conv2"], block.conv2(first))
        assert torch.equal(read["relu#2"], (block.bn2(block.conv2(first)) + images).relu())
        parts = activations(odd, find(odd, ["pair[0]", "pair[1]"], (3, 8, 8)), images)
        assert torch.equal(parts["pair[0]"].relu(), parts["pair[1]"]) and (parts["pair[0]"] < 0).any()


def test_what_a_receiver_calls_is_not_counted_as_the_networks():
    """It splits the first layer as the network splits behind it: the second read was the receiver's own piece."""

    class Splitting(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 6)

        def forward(self, given):
            one, other = self.first(given.mean((2, 3))).split(3, 1)
            return one - other

    model, image, seen = Splitting().eval(), torch.rand(1, 4, 5, 5), {}
    layers = find(model, "first", (4, 5, 5))
    split = replace(layers[0], name="one", tap=Tap("", function="split", part=0), channels=3)

    def receive(layer, activation):
        seen[layer.name] = torch.cat(activation.split(1))

    with tap(model, [*layers, split], receive) as run:
        run(image)
    torch.testing.assert_close(seen["one"], model.first(image.mean((2, 3)))[:, :3].detach())


def test_tokens_come_with_channels_second():
    vit = torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=12, mlp_dim=20
    )
    layer = find(vit, "encoder.layers.encoder_layer_0", (3, 16, 16))
    assert activations(vit, layer, torch.rand(2, 3, 16, 16))[layer[0].name].shape == (2, 12, 5)


def test_the_pass_ends_after_the_deepest_layer_unless_it_is_to_be_complete():
    ran = []
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()
    layers = find(model, "conv1", (3, 8, 8))
    model[3].register_forward_hook(lambda *_: ran.append(1))
    images = torch.rand(2, 3, 8, 8)
    with tap(model, layers, lambda *_: None) as run:
        assert run(images) is None and run(images) is None and not ran
    with tap(model, layers, lambda *_: None, complete=True) as run:
        assert torch.equal(run(images), model(images)) and ran


def test_gradients_flow_from_what_was_read_to_the_image():
    model = planted.Block()
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    read = []
    with tap(model, find(model, "conv1", (3, 8, 8)), lambda _, activation: read.append(activation.clone())) as run:
        run(images)
        torch.autograd.grad(read[0].sum(), images)[0].abs().sum().item()
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_nothing_is_left_behind_after_an_error():
    def fails(*_):
        raise KeyboardInterrupt

    for network in (planted.Block, planted.Functional):
        model = network().train()
        with pytest.raises(KeyboardInterrupt), tap(model, find(model, "conv1", (3, 8, 8)), fails) as run:
            run(torch.rand(1, 3, 8, 8))
        assert model.training and all(parameter.requires_grad for parameter in model.parameters())
        assert not any(module._forward_hooks for module in model.modules())
        assert not nn.modules.module._global_forward_hooks


def test_a_layer_that_depends_on_the_image_is_told():
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, images):
            return self.relu(images) if images.mean() > 0.2 else images + 0

    model = Sometimes()
    with tap(model, find(model, "relu", (3, 8, 8)), lambda *_: None) as run:
        run(torch.ones(1, 3, 8, 8))
        with pytest.raises(UserError, match="layer 'relu' is not used for this input"):
            run(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("network", [planted.Functional, planted.Inline])
def test_a_pass_goes_on_with_what_stands_in_for_an_activation(network):
    model, images = network().eval(), torch.rand(3, 3, 8, 8)
    other = torch.rand(3, 5, 3, 3)
    with (
        torch.no_grad(),
        tap(model, find(model, "conv2", (3, 8, 8)), lambda *_: other, complete=True, replace=True) as run,
    ):
        assert torch.allclose(run(images), model.dense(other.mean((2, 3))))


class Difference(nn.Module):
    """Of the two parts of a tuple."""

    def __init__(self):
        super().__init__()
        self.pair = planted.Pair()

    def forward(self, images):
        first, second = self.pair(images)
        return first - second


def test_of_a_tuple_only_the_part_that_is_read_is_replaced():
    torch.manual_seed(0)
    model, images = Difference().eval(), torch.rand(2, 3, 8, 8)
    part = find(model, "pair[1]", (3, 8, 8))
    with torch.no_grad(), tap(model, part, lambda _, a: a * 0, complete=True, replace=True) as run:
        assert torch.equal(run(images), model.pair.conv(images))
    with torch.no_grad():
        assert not torch.equal(model(images), model.pair.conv(images))


def test_answers_that_are_not_finite_are_told_with_layer_image_and_counts():
    """F48: images that were not seen do not count."""
    responses = torch.zeros(4, 3)
    responses[1, 2], responses[3, :2] = torch.nan, -torch.inf
    seen, places = np.array([True, False, True, True]), np.array([8, 9, 10, 11])
    with Told() as lines:
        warn_of_nan("conv1", responses, places)
        warn_of_nan("conv1", responses, places, seen)
        warn_of_nan("conv1", torch.zeros(4, 3), places)
    assert lines == [
        "conv1: not finite in 3 of 3 units for 2 images, first image 9",
        "conv1: not finite in 2 of 3 units for 1 images, first image 11",
    ]


def test_what_a_network_is_tried_with_is_not_received():
    """F84: layers of a network are read in another one of the same architecture, which nobody has tried yet."""
    layers = find(planted.Functional(), ["conv1", "dense"], (3, 8, 8))
    images, seen = torch.rand(4, 3, 8, 8), []
    with tap(planted.Functional(), layers, lambda layer, a: seen.append((layer.name, len(a)))) as run:
        run(images)
    assert seen == [("conv1", 4), ("dense", 4)]


class Switching(nn.Module):
    """A network that computes something else of large batches."""

    def __init__(self, many):
        super().__init__()
        self.many = many
        self.conv = nn.Conv2d(3, 4, 3)
        self.other = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return (self.conv if len(x) < self.many else self.other)(x).mean((2, 3))


class Shifting(nn.Module):
    """A network that takes something of the image before, but for the first of a batch; only of even batches."""

    def forward(self, x):
        if len(x) % 2:
            return x.mean((2, 3))
        return torch.cat([x[:1], 0.9 * x[1:] + 0.1 * x[:-1]]).mean((2, 3))


class Crowded(nn.Module):
    """A network with room for five images of a batch; the others pass by."""

    def forward(self, x):
        return torch.cat([x[:5].mean((2, 3)), x[5:].amax((2, 3))])


@pytest.mark.parametrize("kind", [Shifting, Crowded])
def test_one_that_spares_the_first_image_of_a_batch_is_refused_too(kind):
    """F84."""
    model = kind().eval()
    with (
        tap(model, find(model, "logits", (3, 8, 8)), lambda *_: None) as run,
        pytest.raises(UserError, match="alone otherwise than in a batch of 8"),
    ):
        run(torch.rand(8, 3, 8, 8))


class Tiring(nn.Module):
    """A network that answers less with every image it is shown, after the eighth."""

    def __init__(self):
        super().__init__()
        self.shown = 0

    def forward(self, x):
        self.shown += len(x)
        return x.mean((2, 3)) * (1 if self.shown < 9 else 0.5)


class Keeping(nn.Module):
    """A network that keeps its last maps, and a table for each size; neither is a memory."""

    def __init__(self):
        super().__init__()
        self.tables = {}

    def forward(self, x):
        self.tables.setdefault(x.shape[-1], torch.arange(x.shape[-1]))
        self.last = x * 2
        return self.last.mean((2, 3))


def test_a_memory_is_told_and_what_is_only_kept_is_not(caplog):
    """F84: before anything is measured; and one image at a time is no way out of it."""
    model = Tiring().eval()
    layers = find(model, "logits", (3, 8, 8))
    assert "the forward of the network changes shown with every image" in caplog.text
    assert model.shown == 0
    with tap(model, layers, lambda *_: None) as run, pytest.raises(UserError, match=r"others among them$"):
        run(torch.rand(8, 3, 8, 8))
    caplog.clear()
    find(Keeping().eval(), "logits", (3, 8, 8))
    assert not caplog.text


@pytest.mark.parametrize("many", [4, 7])
def test_a_network_that_does_something_else_with_many_images_is_refused(many):
    """F84: it is tried with one and three; its first real batch tells."""
    model = Switching(many).eval()
    images = torch.rand(8, 3, 8, 8)
    layers = find(model, "logits", (3, 8, 8))
    got = []
    with tap(model, layers, lambda layer, activation: got.append(activation.clone())) as run:
        with pytest.raises(UserError, match=r"alone otherwise than in a batch of 8: .* give batch_size=1"):
            run(images)
        got.clear()
        for image in images.split(1):
            run(image)
    torch.testing.assert_close(torch.cat(got), model.conv(images).mean((2, 3)).detach())


def test_of_a_network_that_does_not_nothing_is_received_twice():
    model = Switching(99).eval()
    sizes = []
    with tap(model, find(model, "logits", (3, 8, 8)), lambda layer, activation: sizes.append(len(activation))) as run:
        run(torch.rand(8, 3, 8, 8))
        run(torch.rand(5, 3, 8, 8))
    assert sizes == [8, 5]
