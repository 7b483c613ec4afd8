"""U-Net: the sizes and weights of the paper, what a pixel of its output sees, seamless tiles, and its training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import cnnprobe as package
from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find, main_layers
from cnnprobe.instruments.network.about import about
from cnnprobe.models import unet

OPTIONS = {
    "num_classes": 2, "input_size": 64, "channels": 3, "width": 8, "depth": 3, "padding": "same", "rise": "transposed",
}  # fmt: skip
PAPER = {"channels": 1, "width": 64, "depth": 4, "padding": "valid", "input_size": 572}
TINY = ("model=unet", "model.width=2", "model.depth=2", "model.input_size=16", "dataset=shapes", "dataset.target=mask")


def network(**options):
    torch.manual_seed(0)
    return unet.build(**OPTIONS | options)


def weights(model):
    return sum(one.numel() for one in model.parameters())


def test_the_network_of_the_paper():
    """Figure 1: 572 px in, 388 out, 23 convolutions; the number of weights is that of its layers, counted by hand."""
    with torch.device("meta"):
        model = network(**PAPER)
        assert model(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)
        assert weights(model) == 31_030_658
    kinds = [isinstance(one, nn.Conv2d | nn.ConvTranspose2d) for one in model.modules()]
    assert sum(kinds) == 23


@pytest.mark.parametrize(("options", "count"), [({}, 120_834), ({"num_classes": 9}, 120_897), ({"width": 16}, 482_050)])
def test_number_of_weights(options, count):
    model = network(**options)
    assert weights(model) == count
    assert not model.training


def test_two_classes_unless_told():
    assert network(num_classes=None).readout.out_channels == 2


def test_the_smallest_image_of_the_paper_gives_four_pixels():
    with torch.device("meta"):
        assert network(**PAPER | {"input_size": 188})(torch.zeros(1, 1, 188, 188)).shape == (1, 2, 4, 4)


@pytest.mark.parametrize("rise", ["transposed", "resize"])
@pytest.mark.parametrize(
    ("padding", "depth", "side"),
    [("same", 3, 16), ("valid", 1, 26), ("valid", 2, 60), ("mirror", 1, 16), ("mirror", 2, None), ("mirror", 3, None)],
)
def test_sides_that_are_taken_run_and_give_what_is_said(padding, depth, side, rise):
    sides = unet.Sides(depth, padding, rise)
    side = side or next(one for one in range(100) if sides.takes(one))
    model = network(width=1, depth=depth, padding=padding, rise=rise, input_size=side)
    with torch.no_grad():
        assert model(torch.rand(2, 3, side, side)).shape == (
            2,
            2,
            *[side if padding == "mirror" else sides.left(side)] * 2,
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input_size": 50}, "a multiple of 8 for unet with depth=3, such as 48 or 56, got 50"),
        ({"input_size": 4}, "a multiple of 8 for unet with depth=3, such as 8, got 4"),
        (PAPER | {"input_size": 190},
         "a multiple of 16 plus 12 for unet with depth=4 padding=valid, such as 188 or 204, got 190"),
        ({"padding": "mirror"}, "of 8 plus 4 for unet with depth=3 padding=mirror, such as 60 or 68, got 64"),
        ({"padding": "mirror", "input_size": 20}, "padding=mirror, such as 52, got 20"),
    ],
)  # fmt: skip
def test_other_sides_are_refused_in_one_line(options, words):
    """Of maps with an odd side, pooling would drop a row, and what comes up would not fit."""
    with pytest.raises(UserError, match=f"{words}$"):
        network(**options)


def test_needs_is_what_was_asked():
    given = {name: value for name, value in OPTIONS.items() if name != "num_classes"} | {"channels": 1}
    needs = unet.needs(**given)
    assert (needs.channels, needs.size, needs.resize) == (1, 64, 64)
    assert about(network(channels=1)).input_size == (1, 64, 64)


@pytest.mark.parametrize("rise", ["transposed", "resize"])
def test_tiles_are_seamless_at_multiples_of_the_coarsest_step_alone(rise):
    """The paper's overlap-tile: without padding, what a tile gives is what the whole image has there."""
    model = network(depth=2, width=2, padding="valid", rise=rise, input_size=60).double()
    images = torch.rand(1, 3, 120, 120, dtype=torch.float64)
    with torch.no_grad():
        whole = model(images)
        size = model(images[..., :60, :60]).shape[-1]
        for y, x, alike in ((0, 0, True), (4, 8, True), (32, 16, True), (1, 0, False), (0, 2, False), (4, 3, False)):
            tile = model(images[..., y : y + 60, x : x + 60])
            assert torch.allclose(tile, whole[..., y : y + size, x : x + size], atol=1e-6) == alike


def test_a_mirrored_image_is_answered_as_its_reflection_without_padding():
    mirrored = network(depth=2, width=2, padding="mirror", input_size=28).double()
    plain = network(depth=2, width=2, padding="valid", input_size=68).double()
    plain.load_state_dict(mirrored.state_dict())
    image = torch.rand(1, 3, 28, 28, dtype=torch.float64)
    around = torch.from_numpy(np.pad(image.numpy(), [(0, 0), (0, 0), (20, 20), (20, 20)], mode="reflect"))
    with torch.no_grad():
        assert torch.allclose(mirrored(image), plain(around), atol=1e-12)


def linear(depth, side):
    """Return a network whose weights are all positive and whose pooling averages: a pixel counts where it may."""
    model = network(depth=depth, width=2, padding="valid", input_size=side).double()
    model.pool = nn.AvgPool2d(2)
    with torch.no_grad():
        for one in model.parameters():
            one.fill_(1 / max(1, one[0].numel()) if one.ndim > 1 else 0)
    return model


def seen(model, side, y, x):
    """Return how many rows of the image one pixel of the output rests on."""
    image = torch.ones(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    model(image)[0, 0, y, x].backward()
    return int((image.grad[0].abs().amax((0, 2)) > 0).sum())


def through(model, level):
    """Cut everything but the skip of one level: what comes up into it, and the skips above."""
    with torch.no_grad():
        for above in range(level - 1):
            first = model.expand[above][0].weight
            first[:, : first.shape[1] // 2] = 0
        first = model.expand[level - 1][0].weight
        first[:, first.shape[1] // 2 :] = 0
    return model


@pytest.mark.parametrize(("level", "field"), [(1, 9), (2, 26), (3, 60)])
def test_what_a_pixel_sees_through_one_skip(level, field):
    """By hand: level 1 alone has four 3x3 convolutions; each level below doubles what is left of it."""
    assert {seen(through(linear(3, 100), level), 100, y, 5) for y in range(4, 12)} == {field}


def test_what_a_pixel_sees_depends_on_its_place_in_the_grid_of_the_pooling():
    assert [seen(linear(2, 60), 60, y, 5) for y in range(8)] == [44] * 8
    fields = [seen(linear(3, 108), 108, y, 5) for y in range(8)]
    assert sorted(fields) == [92] * 4 + [100] * 4


def test_layers_have_the_names_of_both_arms():
    model = network(depth=2)
    names = [layer.name for layer in main_layers(model, (3, 64, 64))]
    both = [f"{part}{level}" for part in ("contract", "skip", "rise", "expand") for level in (1, 2)]
    assert set(names) == {f"conv{number}" for number in range(1, 14)} | {"bottom", *both}
    arms = find(model, ["skip*", "rise*"], (3, 64, 64))
    assert [layer.name for layer in arms] == ["skip2", "skip1", "rise2", "rise1"]
    assert [(layer.channels, *layer.map_size) for layer in arms] == [(16, 32, 32), (8, 64, 64)] * 2
    (logits,) = find(model, "logits", (3, 64, 64))
    assert (logits.channels, logits.map_size) == (2, (64, 64))


def test_all_layers_are_each_told_of_once(caplog):
    """A level of the way down is what its last convolution gives: that is no remark to whoever asked for everything."""
    names = [layer.name for layer in find(network(depth=2), "all", (3, 64, 64))]
    assert len(names) == 13 + 2  # the skips are no convolution
    assert not caplog.records


def test_a_skip_is_a_place_of_its_own():
    """What is changed there does not go down: the bottom is as it was."""
    model = network(depth=2)
    (skip, contract) = find(model, ["skip1", "contract1"], (3, 64, 64))
    assert skip.tap != contract.tap
    found = []
    model.bottom.register_forward_hook(lambda module, given, output: found.append(output))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model(images)
        with_zeros = model.skip[0].register_forward_hook(lambda module, given, output: output * 0)
        after = model(images)
        with_zeros.remove()
    assert torch.equal(*found)
    assert not torch.equal(before, after)


def test_what_is_risen_by_repeating_pixels_is_smooth_before_its_convolution():
    model = network(rise="resize")
    maps = torch.rand(1, 16, 4, 4)
    with torch.no_grad():
        risen = functional.interpolate(maps, scale_factor=2, mode="nearest")
        assert torch.equal(model.rise[0](maps), model.rise[0][1](risen))


@pytest.mark.parametrize("options", [(), ("model.padding=valid", "model.input_size=48"), ("dataset.target=classes",)])
def test_a_training_from_the_command_line(cnnprobe, options):
    words = [*TINY, *options, "dataset.count=16", "epochs=1", "batch_size=8", "device.workers=0"]
    answer = cnnprobe("train", *words)
    assert answer.status == 0, answer.err
    folder = answer.out.splitlines()[-1]
    run = package.open(folder)
    matrix = run["confusion"]["matrix"]
    assert {"iou", "val_iou"} <= set(run["epochs"].columns)
    classes = 9 if "dataset.target=classes" in options else 2
    assert matrix.shape == (classes, classes)
    assert matrix.sum() == 16 * (8 if "model.padding=valid" in options else 16) ** 2  # pixels that are answered
    assert {path.name for path in Path(folder, "figures").iterdir()} == {"learning.png", "confusion.png"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset=shapes"], "which learn from masks: say dataset.target=mask"),
        (["dataset=avatar"], "which learn from masks: say dataset.target=cue"),
    ],
)
def test_images_without_masks_are_refused_with_the_word_that_gives_them(cnnprobe, words, said):
    answer = cnnprobe("train", "model=unet", *words)
    assert answer.status == 2
    assert answer.err.strip().endswith(said)
    assert len(answer.err.splitlines()) == 1
