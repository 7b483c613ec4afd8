"""Calls of a traced pass, repeated: the same results, nothing written to, for one image and for many."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnprobe.instruments.layers.naming import find, layers_of
from cnnprobe.instruments.network.activations import activations
from cnnprobe.instruments.network.layer import Tap
from cnnprobe.instruments.network.replay import Unrepeatable, ancestors, is_in_place, repeat, repeat_batch, value_at
from cnnprobe.instruments.network.tracing import IMAGE, Value, trace
from tests.support.networks import planted


class Then(nn.Module):
    """A convolution, a function, and whatever comes of it."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.function = nn.Conv2d(3, 4, 1), function
        self.eval()

    def forward(self, images):
        return self.function(self.conv(images))


FUNCTIONS = {
    "relu": F.relu,
    "relu in place": nn.ReLU(inplace=True),
    "relu_": torch.relu_,
    "Tensor.relu_": lambda maps: maps.relu_(),
    "plus itself in place": lambda maps: maps.__iadd__(maps.relu()),
    "chain in place": lambda maps: maps.mul_(2).add_(1).clamp_(0, 1),
    "batch norm": nn.BatchNorm2d(4),
    "max pool": nn.MaxPool2d(2),
    "max pool with indices": lambda maps: F.max_pool2d(maps, 2, return_indices=True)[0],
    "adaptive": nn.AdaptiveAvgPool2d(3),
    "mean": lambda maps: maps.mean((2, 3)),
    "flatten, linear": nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 5)),
    "view": lambda maps: maps.view(1, 2, 2, 6, 6).transpose(1, 2).reshape(1, 4, 6, 6),
    "view by size": lambda maps: maps.view(maps.size(0), -1),
    "attention": lambda maps: F.scaled_dot_product_attention(*[maps.flatten(2).mT] * 3),
    "product": lambda maps: maps.flatten(2) @ maps.flatten(2).mT,
    "chunks": lambda maps: torch.cat(maps.chunk(2, 1)[::-1], 1),
    "split": lambda maps: maps.split([1, 3], 1)[1],
    "maximum along x": lambda maps: maps.max(3).values,
    "softmax": lambda maps: maps.flatten(2).softmax(-1),
    "norm": lambda maps: F.normalize(maps.flatten(1), dim=1),
    "einsum": lambda maps: torch.einsum("nchw,ndhw->ncd", maps, maps),
    "squeezed": lambda maps: maps.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1),
    "without the batch": lambda maps: maps[0].mean(0),
    "roll": lambda maps: maps.roll((1, 2), (2, 3)),
    "multi-head": lambda maps: MULTI(maps.flatten(2).mT),
    "encoder": lambda maps: ENCODER(maps.flatten(2).mT),
}


class Multi(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True).eval()

    def forward(self, tokens):
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


MULTI = Multi()
ENCODER = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, norm_first=True).eval()


def run_calls(traced, image, how):
    """Run every call of a pass on another image with `repeat` or `repeat_batch`; return the last result."""
    known = {Value(IMAGE, 0, (1, *traced.size)): image}
    for call in traced.calls:
        before = {value: known[value].clone() for value in call.inputs}
        known.update(zip(call.outputs, how(call, {value: known[value] for value in call.inputs})))
        assert all(torch.equal(before[value], known[value]) for value in before if value not in call.outputs)
    return known[traced.modules[-1].output]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_pass_is_repeated_call_by_call_on_another_image(name):
    model, image = Then(FUNCTIONS[name]), torch.rand(1, 3, 6, 6)
    with torch.inference_mode():
        expected = model(image.clone())
        torch.testing.assert_close(run_calls(trace(model, (3, 6, 6)), image, repeat), expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_many_images_at_once_are_each_as_alone(name):
    model, images = Then(FUNCTIONS[name]), torch.rand(5, 3, 6, 6)
    with torch.inference_mode():
        expected = torch.stack([model(image[None].clone()) for image in images])
        found = run_calls(trace(model, (3, 6, 6)), images, repeat_batch)
        torch.testing.assert_close(found.reshape(expected.shape), expected, atol=1e-6, rtol=1e-5)


def test_what_is_done_to_one_image_alone_is_not_mixed_with_others():
    """Means over the axis of the images, in a network that only ever saw one."""
    model, images = Then(lambda maps: maps - maps.mean(0, keepdim=True) * 0.5), torch.rand(5, 3, 6, 6)
    with torch.inference_mode():
        expected = torch.cat([model(image[None]) for image in images])
        torch.testing.assert_close(run_calls(trace(model, (3, 6, 6)), images, repeat_batch), expected)


@pytest.mark.parametrize(
    ("function", "writes"),
    [
        (F.relu, False),
        (lambda maps: F.relu(maps, inplace=True), True),
        (lambda maps: F.relu(maps, True), True),
        (lambda maps: F.leaky_relu(maps, 0.1, True), True),
        (torch.relu_, True),
        (lambda maps: maps.add_(1), True),
        (lambda maps: maps + 1, False),
        (lambda maps: maps.__iadd__(1), True),
        (lambda maps: maps.__add__(1), False),
        (lambda maps: torch.add(maps, 1, out=maps), True),
        (lambda maps: maps.__setitem__(0, 1.0) or maps, True),
    ],
)
def test_which_calls_write_into_what_they_get(function, writes):
    """F20."""
    assert is_in_place(trace(Then(function), (3, 6, 6)).calls[-1]) is writes


def test_a_tap_is_found_in_the_pass_under_every_name_of_a_layer():
    for model in (planted.Functional(), planted.Inline(), planted.Block(), planted.Odd(), planted.Twice()):
        size, model = (3, 12, 12), model.eval()
        traced, image = trace(model, size), torch.rand(1, 3, 12, 12)
        for layer in layers_of(model, size):
            target, known = value_at(traced, layer.tap), {Value(IMAGE, 0, (1, *size)): image}
            with torch.inference_mode():
                for call in ancestors(traced, target):
                    known.update(zip(call.outputs, repeat(call, {value: known[value] for value in call.inputs})))
            torch.testing.assert_close(known[target], activations(model, [layer], image)[layer.name])


def test_only_what_a_layer_is_made_by_is_repeated():
    class Sides(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.end = (nn.Conv2d(3, 3, 1) for _ in range(3))

        def forward(self, images):
            left, right = self.left(images).relu(), self.right(images)
            return self.end(left) + right

    model = Sides()
    traced = trace(model, (3, 6, 6))
    (layer,) = find(model, "end", (3, 6, 6))
    assert [(call.module, call.name) for call in ancestors(traced, value_at(traced, layer.tap))] == [
        ("left", "conv2d"), ("", "relu"), ("end", "conv2d"),
    ]  # fmt: skip


def test_a_place_that_is_not_in_the_pass():
    traced = trace(planted.Functional(), (3, 12, 12))
    for place in (Tap("third"), Tap("", 0, "tanh"), Tap("first", 1)):
        with pytest.raises(Unrepeatable, match="was not seen in the pass"):
            value_at(traced, place)


def test_a_call_that_gives_another_shape_is_refused():
    model = Then(F.relu)
    call = trace(model, (3, 6, 6)).calls[-1]
    with pytest.raises(Unrepeatable, match="relu gave other shapes when it was repeated"):
        repeat(call, {call.inputs[0]: torch.rand(1, 4, 5, 6)})


def test_a_call_that_cannot_be_run_for_several_images_says_so():
    """F87: in words of its own, not in those of torch."""
    model = Then(lambda maps: maps[:, :, maps[0, 0, 0].argsort()].masked_select(maps > -100))
    traced = trace(model, (3, 6, 6))
    with pytest.raises(Unrepeatable, match=r"masked_select cannot be run for several images at once$"):
        run_calls(traced, torch.rand(4, 3, 6, 6), repeat_batch)


def test_a_tensor_that_a_network_makes_and_fills_is_made_anew_for_each_repetition():
    """F85: a border by hand, repeated for two images, keeps nothing of the first."""

    def bordered(maps):
        canvas = maps.new_zeros(1, 4, 8, 8)
        canvas[:, :, 1:-1, 1:-1] = maps
        return canvas

    (_, write) = trace(Then(bordered), (3, 6, 6)).calls
    values = [torch.rand(1, 4, 6, 6) for _ in range(2)]
    found = [repeat(write, {write.inputs[0]: value})[0] for value in values]
    for value, made in zip(values, found):
        assert torch.equal(made, F.pad(value, (1, 1, 1, 1)))


def test_a_function_that_is_run_image_by_image_is_not_told_on_the_screen(capfd, recwarn):
    """F95: torch wrote a line about itself for every group of images, which nobody could act on."""
    weight, offsets = torch.rand(5, 4, 3, 3), torch.zeros(1, 18, 6, 6)
    model = Then(lambda maps: torchvision.ops.deform_conv2d(maps, offsets, weight))
    call = trace(model, (3, 8, 8)).calls[-1]
    maps = torch.rand(3, *call.inputs[0].shape[1:])
    (found,) = repeat_batch(call, {call.inputs[0]: maps})
    assert torch.allclose(found, F.conv2d(maps, weight), atol=1e-5)
    assert capfd.readouterr().err == "" and not recwarn.list
