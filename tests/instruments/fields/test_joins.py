"""Fields through functions that move and join values, at every position, against the pixels that gradients reach."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.instruments.fields import rules as field_rules
from cnnprobe.instruments.layers.naming import find

SIZE = (2, 14, 17)


class Moving(nn.Module):
    """A function between two convolutions without rectifiers: a gradient reaches all that acts."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 2, (3, 2))
        self.function = function

    def forward(self, images):
        return self.last(self.function(self.first(images)))


def reached(model, position):
    """Return the first and last pixel (y, x) that a position of the last map reads; None: none."""
    image = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(3)).requires_grad_()
    (slope,) = torch.autograd.grad(model(image)[(0, slice(None), *position)].square().sum(), image)
    ys, xs = np.nonzero(slope[0].abs().sum(0).numpy())
    return ((ys.min(), ys.max()), (xs.min(), xs.max())) if len(ys) else None


def rows_reversed(maps):
    return torch.cat([maps[:, :, row : row + 1] for row in reversed(range(maps.shape[2]))], 2)


def bordered(maps):
    canvas = maps.new_zeros(*maps.shape[:2], maps.shape[2] + 3, maps.shape[3] + 2)
    canvas[:, :, 1:-2, 1:-1] = maps
    return canvas


def shifted(maps):
    out = torch.zeros_like(maps)
    out[:, :2, :-1], out[:, 2:3, 1:], out[:, 3:] = maps[:, :2, 1:], maps[:, 2:3, :-1], maps[:, 3:]
    return out


EXACT = {
    "flip x": lambda maps: maps.flip(3),
    "flip both": lambda maps: maps.flip((2, 3)),
    "index_select": lambda maps: maps.index_select(2, torch.arange(maps.shape[2] - 1, -1, -1)),
    "gather": lambda maps: maps.gather(3, torch.arange(maps.shape[3] - 1, -1, -1).expand_as(maps)),
    "take_along_dim": lambda maps: torch.take_along_dim(maps, torch.arange(0, 14, 2).view(1, 1, -1, 1), 2),
    "list of places": lambda maps: maps[:, :, :, [3, 5, 7, 9, 11]],
    "every other": lambda maps: maps[:, :, 1::2, ::3],
    "pixel_unshuffle": lambda maps: nn.functional.pixel_unshuffle(maps[..., :16], 2)[:, 5:9],
    "windows": lambda maps: maps.unfold(2, 3, 2).unfold(3, 2, 1).flatten(4).sum(4),
    "rows in reverse": rows_reversed,
    "a part along y": lambda maps: torch.cat([maps[:, :, 2:8], maps[:, :, 8:12]], 2),
    "border by hand": bordered,
    "stacked rows": lambda maps: torch.stack([maps[:, :, row] for row in range(14)], 2),
    "channels last and back": lambda maps: maps.permute(0, 2, 3, 1).roll(1, 3).permute(0, 3, 1, 2),
}
HELD = {
    "part of the channels": shifted,
    "index_copy": lambda maps: torch.zeros_like(maps).index_copy(3, torch.arange(16, -1, -1), maps),
    "scatter": lambda maps: maps.new_zeros(1, 4, 20, 17).scatter(
        2, torch.arange(4, 18).view(-1, 1).expand_as(maps), maps
    ),
    "a part over another": lambda maps: maps.slice_scatter(maps[:, :, :, 2:6] * 2, 3, 9, 13),
    "roll": lambda maps: maps.roll((3, -4), (2, 3)),
    "pixel_shuffle": lambda maps: nn.functional.pixel_shuffle(maps, 2).repeat(1, 4, 1, 1),
    "twice as wide": lambda maps: maps.repeat_interleave(2, 3),
    "halves exchanged": lambda maps: torch.cat(maps.chunk(2, 2)[::-1], 2),
    "with its mirror": lambda maps: maps + maps.flip(3),
    "beside its mirror": lambda maps: torch.cat([maps[:, :2], maps[:, :2].flip(2)], 1),
    "one row for all": lambda maps: maps + maps[:, :, 3:4],
    "one column, named": lambda maps: maps * maps[:, :, :, 5].unsqueeze(-1),
    "reflected, too wide": lambda maps: nn.functional.pad(maps, (4, 2, 3, 1), mode="reflect"),
    "replicated, too wide": lambda maps: nn.functional.pad(maps, (4, 2, 3, 1), mode="replicate"),
    "circular": lambda maps: nn.functional.pad(maps, (2, 2, 1, 1), mode="circular"),
}
TURNED = {
    "transpose": lambda maps: maps.transpose(2, 3),
    "rot90": lambda maps: torch.rot90(maps, 1, (2, 3)),
    "einsum": lambda maps: torch.einsum("nchw->ncwh", maps),
    "with its transpose": lambda maps: maps[..., :14] + maps[..., :14].transpose(2, 3),
    "transposed, y mixed": lambda maps: maps.softmax(2).transpose(2, 3),
}


NOTED = {
    "one row for all": "add() sees all of y",
    "one column, named": "mul() sees all of x",
    "roll": "roll() brings together",
    "halves exchanged": "cat() brings together",
    "beside its mirror": "cat() brings together",
    "circular": "pad() brings together",
}


@pytest.mark.parametrize("name", [*EXACT, *HELD, *TURNED])
def test_every_pixel_that_acts_lies_in_the_field(name):
    """F85."""
    model = Moving((EXACT | HELD | TURNED)[name]).eval()
    (layer,) = find(model, "last", SIZE)
    field = layer.field
    assert not layer.measured_whole  # the algebra knew it, not the comparison with the network
    for position in [*np.ndindex(layer.map_size)][:: 1 + np.prod(layer.map_size) // 200]:
        seen = reached(model, position)
        region = [span.start + u * span.stride for span, u in zip(field.spans, position)]  # as a store is read
        for axis, (first, (low, high)) in enumerate(zip(region, seen or ())):
            last = first + field.size[axis] - 1
            assert np.floor(first) <= low and high <= np.ceil(last), (position, axis, field)
            if name in EXACT and first >= 0 and last < SIZE[1 + axis]:
                assert (first, last) == (low, high), (position, axis, field)
    if name in NOTED:
        assert NOTED[name] in layer.note and not field.whole
    elif name in TURNED:
        assert field.whole and layer.note
    else:
        assert all(field.stride) and not layer.note


def test_a_network_reads_backwards_with_a_negative_stride():
    """F85: the field of position u begins at start + u stride also where that runs against the image."""
    (layer,) = find(Moving(lambda maps: maps.flip(3)).eval(), "last", SIZE)
    assert layer.field.stride == (1, -1) and layer.field.size == (5, 4)
    assert layer.field.region((0, 0)) == ((-1, 3), (14, 17)) and layer.field.region((0, 15)) == ((-1, 3), (-1, 2))


def test_maps_of_fewer_axes_than_the_image_know_which_they_run_along():
    """F85: a mean over rows leaves a map along x."""

    class Rows(Moving):
        def forward(self, images):
            return self.first(images).mean(2)

    class Ends(Rows):
        def __init__(self, function):
            super().__init__(function)
            self.end = nn.Identity()

        def forward(self, images):
            return self.end(super().forward(images))

    (layer,) = find(Ends(None).eval(), "end", SIZE)
    assert layer.map_size == (17,) and layer.field.along == (None, 0)
    assert layer.field.region((5,)) == ((0, 13), (4, 6))


def test_tensors_that_a_network_makes_by_itself_are_no_part_of_the_image():
    """F85: one x - x.new_tensor(0.45) leaves every field as it is."""

    def centred(images):
        mean = images.new_tensor([0.4, 0.5]).view(1, 2, 1, 1)
        ramp = torch.arange(images.shape[3], dtype=images.dtype) / images.shape[3]
        return (images - mean) / images.new_full((1,), 0.3) + torch.zeros_like(images) + ramp.expand_as(images)

    class Centred(Moving):
        def forward(self, images):
            return super().forward(centred(images))

    plain, own = (find(kind(nn.ReLU()).eval(), "conv*", SIZE) for kind in (Moving, Centred))
    assert [layer.field for layer in own] == [layer.field for layer in plain] and not any(one.note for one in own)


GAINS = {
    "a number by it": lambda m: 2.0 / m,
    "a number less it": lambda m: 2.0 - m,
    "a number to its power": lambda m: 2.0**m,
    "rsub": lambda m: torch.rsub(m, 2.0),
    "pow": lambda m: torch.pow(2.0, m),
    "where": lambda m: torch.where(m < 0, 2.0, m),
    "times a number": lambda m: 2.0 * m,
    "its reciprocal": lambda m: m.reciprocal(),
    "by a sum": lambda m: m / (m + 1) * m.new_tensor(3.0),
    "stacked": lambda m: torch.stack([m, 2 * m]).sum(),
    "in place": lambda m: m.clone().mul_(3).add_(1),
    "summed again": lambda m: m.sum(0),
    "over no axes": lambda m: m.logsumexp(0),
    "ldexp": lambda m: torch.ldexp(m, torch.tensor(1)),
    "einsum": lambda m: torch.einsum(",->", m, m),
    "sort": lambda m: m.sort()[0],
}


@pytest.mark.parametrize("gain", GAINS)
def test_a_gain_made_from_a_single_number_sees_the_whole_image(gain):
    """F85: whichever way a number and the mean of a map come together."""
    model = Moving(lambda maps: maps * GAINS[gain](maps.abs().mean()))
    first, last = find(model, ["conv1", "conv2"], SIZE)
    assert first.field.size == (3, 3) and last.field.size == SIZE[1:]
    assert reached(model, (0, 0)) == ((0, 13), (0, 16))


@pytest.mark.parametrize(
    "function",
    [
        lambda maps: torch.rsub(maps, 2),
        lambda maps: torch.ldexp(maps, torch.tensor(1)),
        lambda maps: maps + (2 << maps.abs().int()),
        lambda maps: maps + (maps.int() >> 1),
    ],
)
def test_functions_of_single_numbers_stay_at_their_place(function):
    """F85: without a note, as they are known by name."""
    plain, own = (find(Moving(one), ["conv1", "conv2"], SIZE) for one in (nn.ReLU(), function))
    assert [layer.field for layer in own] == [layer.field for layer in plain] and not any(one.note for one in own)


@pytest.mark.parametrize("error", [AssertionError, OverflowError, StopIteration, LookupError])
def test_whatever_a_rule_fails_on_sees_the_whole_image(error, monkeypatch):
    """F85: what a rule meets in a network that was never seen before ends no run."""

    def fails(*_):
        raise error("of a rule")

    monkeypatch.setattr(field_rules, "rule", lambda call: fails)
    for layer in find(Moving(nn.ReLU()), ["conv1", "conv2"], SIZE):
        assert layer.field.whole and layer.field.size == SIZE[1:]


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_is_no_fault_of_a_rule_is_no_field(error, monkeypatch):
    """F85: of a shortage of memory, and of an interrupt, others know what to do."""

    def fails(*_):
        raise error

    monkeypatch.setattr(field_rules, "rule", lambda call: fails)
    with pytest.raises(error):
        find(Moving(nn.ReLU()), ["conv1"], SIZE)
