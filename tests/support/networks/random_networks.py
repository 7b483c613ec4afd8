"""Small networks drawn at random: chains with branches of every kind that occurs in published networks."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor, nn

from cnnprobe.instruments.layers.naming import layers_of
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.windows.occluders import Grid
from tests.support.occluding import textured


class Function(nn.Module):
    """A function of maps, by name; `constant` is what some of them need."""

    def __init__(self, name: str, constant: Tensor | None = None):
        super().__init__()
        self.name, self.function = name, FUNCTIONS[name]
        self.register_buffer("constant", constant)

    def forward(self, maps: Tensor) -> Tensor:
        return self.function(maps) if self.constant is None else self.function(maps, self.constant)

    def extra_repr(self) -> str:
        return self.name


FUNCTIONS = {
    "F.relu": F.relu,
    "F.relu(inplace)": lambda maps: F.relu(maps, inplace=True),
    "Tensor.relu_": lambda maps: maps.relu_(),
    "clamp": lambda maps: maps.clamp(min=-0.1, max=0.8),
    "scale in place": lambda maps: maps.mul_(1.5).add_(0.1),
    "half": lambda maps: maps * 0.5 - 1,
    "difference": lambda maps: 1 - maps,
    "square": lambda maps: maps * maps,
    "by channel or map": lambda maps, constant: maps * constant + constant,
    "plus map": lambda maps, constant: maps + constant,
    "weighted sum": lambda maps: torch.add(maps, maps.relu(), alpha=0.5),
    "F.pad": lambda maps: F.pad(maps, (1, 0, 2, 1)),
    "F.pad(value)": lambda maps: F.pad(maps, (0, 2, 1, 0), value=0.7),
    "F.pad(negative)": lambda maps: F.pad(maps, (-1, 1, 0, -1)),
    "F.pad(reflect)": lambda maps: F.pad(maps, (1, 1, 1, 1), mode="reflect"),
    "response norm": lambda maps: F.local_response_norm(maps, 3, alpha=0.5),
    "softmax over channels": lambda maps: maps.softmax(1),
    "whole softmax": lambda maps: maps.flatten(2).softmax(-1).view(maps.shape) * 10,
    "shuffle": lambda maps: torch.cat(maps.chunk(2, 1)[::-1], 1),
    "slice": lambda maps: maps[:, :, 1:, ::2].clone(),  # what writes into a part cannot be followed
    "enlarge": lambda maps: F.interpolate(maps, scale_factor=2),
    "channels last": lambda maps: F.layer_norm(maps.permute(0, 2, 3, 1), maps.shape[1:2]).permute(0, 3, 1, 2).clone(),
    "max along x": lambda maps: maps.max(dim=3, keepdim=True).values,
}
ACTIVATIONS = (
    *(nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.2), nn.LeakyReLU(0.2, inplace=True), nn.GELU(), nn.Sigmoid()),
    *(nn.SiLU(inplace=True), nn.Hardswish(), nn.ELU(), nn.Tanh(), nn.ReLU6(inplace=True), nn.Softplus()),
)


class Branches(nn.Module):
    """Two ways that are joined; with `identity`, the second one is the input itself."""

    def __init__(self, kind: str, one: nn.Module, other: nn.Module):
        super().__init__()
        self.kind, self.one, self.other = kind, one, other

    def forward(self, maps: Tensor) -> Tensor:
        one, other = self.one(maps), self.other(maps)
        if self.kind == "cat":
            return torch.cat([one, other], dim=1)
        if self.kind == "add in place":
            one += other
            return one
        return F.relu(one + other, inplace=True) if self.kind == "add, relu" else torch.add(one, other)

    def extra_repr(self) -> str:
        return self.kind


class Gate(nn.Module):
    """Squeeze and excite: channels are weighted by what the whole map holds."""

    def __init__(self, channels: int, pool: bool):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1) if pool else None
        self.squeeze = nn.Conv2d(channels, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        means = maps.mean((2, 3), keepdim=True) if self.pool is None else self.pool(maps)
        return self.squeeze(means).sigmoid() * maps


def convolution(draw, channels: int, into: int | None = None, plain: bool = False, stride: int | None = None):
    """Draw a convolution; `plain`: it keeps the sides of the map."""
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    kernel = tuple(k // 2 * 2 + 1 for k in kernel) if plain and stride else kernel
    groups = draw(st.sampled_from([1, 1, 1, 2, channels]))
    groups = groups if channels % groups == 0 else 1
    into = groups * draw(st.integers(1, 3)) if into is None else into
    groups = groups if into % groups == 0 else 1
    dilation = draw(st.sampled_from([1, 1, 2]))
    if plain and stride is None:
        padding, steps = "same", 1
    elif plain:
        padding, steps = tuple(dilation * (k - 1) // 2 for k in kernel), stride
    else:
        padding = draw(st.sampled_from(["valid", "same", "numbers", "numbers"]))
        numbers = tuple(draw(st.integers(0, k)) for k in kernel)
        padding = numbers if padding == "numbers" else padding
        steps = 1 if padding == "same" else (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    if channels == 1 and steps != 1:  # torch 2.15 itself errs for one channel, unequal steps and one column
        steps = steps if isinstance(steps, int) else steps[0]
    mode = draw(st.sampled_from(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"]))
    bias = draw(st.booleans())
    return nn.Conv2d(channels, into, kernel, steps, padding, dilation, groups, bias, mode)


def pooling(draw, sides: tuple[int, int]) -> nn.Module:
    """Draw a pooling."""
    kind = draw(st.sampled_from(["max", "average", "adaptive average", "adaptive max"]))
    if kind.startswith("adaptive"):
        into = tuple(draw(st.one_of(st.integers(1, max(1, side)), st.just(max(1, side // 2)))) for side in sides)
        return nn.AdaptiveAvgPool2d(into) if kind == "adaptive average" else nn.AdaptiveMaxPool2d(into)
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding, ceil = tuple(draw(st.integers(0, k // 2)) for k in kernel), draw(st.booleans())
    if kind == "max":
        return nn.MaxPool2d(kernel, stride, padding, dilation=draw(st.integers(1, 2)), ceil_mode=ceil)
    return nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=draw(st.booleans()))


def block(draw, maps: Tensor) -> nn.Module:
    """Draw one step of a chain for maps (1, channel, y, x)."""
    channels, *sides = maps.shape[1:]
    kind = draw(st.sampled_from(["conv"] * 4 + ["norm", "activation", "activation", "pool", "pool"] + BLOCKS))
    if kind == "conv":
        return convolution(draw, channels)
    if kind == "pool":
        return pooling(draw, tuple(sides))
    if kind == "activation":
        return draw(st.sampled_from([*ACTIVATIONS, Function("F.relu"), Function("F.relu(inplace)")]))
    if kind == "norm":
        return nn.BatchNorm2d(channels)
    if kind == "dropout":
        return nn.Dropout2d() if draw(st.booleans()) else nn.Dropout(inplace=True)
    if kind == "gate":
        return Gate(channels, draw(st.booleans()))
    if kind == "residual":
        body = nn.Sequential(convolution(draw, channels, channels, plain=True), nn.BatchNorm2d(channels))
        return Branches(draw(st.sampled_from(["add", "add, relu", "add in place"])), body, nn.Identity())
    if kind == "downsample":
        into, steps = channels + 1, draw(st.integers(2, 3))
        body = nn.Sequential(convolution(draw, channels, into, True, steps), nn.BatchNorm2d(into))
        return Branches("add, relu", body, nn.Sequential(nn.Conv2d(channels, into, 1, steps), nn.BatchNorm2d(into)))
    if kind in ("cat", "sum"):
        into = None if kind == "cat" else 2
        one, other = (convolution(draw, channels, into, plain=True) for _ in range(2))
        return Branches("cat" if kind == "cat" else "add", one, other)
    name = draw(st.sampled_from(list(FUNCTIONS)))
    constant = None
    if name in ("by channel or map", "plus map"):
        shape = draw(st.sampled_from([(1, channels, 1, 1), (1, 1, *sides), (1, channels, *sides), (channels, *sides)]))
        constant = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    return Function(name, constant)


BLOCKS = ["dropout", "gate", "residual", "downsample", "cat", "sum", "function", "function", "function"]


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Give a network random weights that keep it alive, and BatchNorms random statistics; return it in eval mode."""
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            spread = 1.4 / module.weight[0].numel() ** 0.5
            module.weight.data.normal_(0, spread, generator=random)
            if module.bias is not None:
                module.bias.data.uniform_(-0.2, 0.4, generator=random)
    return textured(model, seed)


@st.composite
def networks(draw) -> tuple[nn.Sequential, tuple[int, int, int]]:
    """Draw a network and the size (channel, y, x) of its images."""
    size = (draw(st.integers(1, 3)), draw(st.integers(7, 20)), draw(st.integers(7, 20)))
    maps, steps = torch.rand(1, *size), []
    for _ in range(draw(st.integers(1, 6))):
        step = block(draw, maps).eval()
        try:
            after = step(maps.clone())
        except (RuntimeError, ValueError):  # too small for it by now
            continue
        if after.numel() and after.shape[1] <= 24 and max(after.shape[2:]) <= 40:
            steps.append(step)
            maps = after.detach()
    if draw(st.integers(0, 4)) == 0:
        steps += [nn.Flatten(), nn.Linear(maps[0].numel(), 3)]
    assume(steps)
    return randomise(nn.Sequential(*steps), draw(st.integers(0, 99))), size


@dataclass
class Case:
    """What is measured: a layer, occluders, units and their sites."""

    model: nn.Module
    size: tuple[int, int, int]
    layer: Layer
    grid: Grid
    image: Tensor
    filled: Tensor
    units: np.ndarray
    sites: np.ndarray


@st.composite
def cases(draw) -> Case:
    """Draw a network, one of its layers, and what is asked of it."""
    model, size = draw(networks())
    layers = [layer for layer in layers_of(model, size) if len(layer.map_size) in (0, 2)]
    assume(layers)
    layer = draw(st.sampled_from(layers))
    grid = Grid(size[1:], draw(st.integers(1, min(size[1:]))), draw(st.sampled_from([1, 2, 2, 3, 4, 7, 30])))
    assume(np.prod(grid.shape) <= 150)
    random = np.random.default_rng(draw(st.integers(0, 99)))
    count = draw(st.integers(1, 4))
    units = random.integers(0, layer.channels, count)
    sites = np.stack([random.integers(0, side, count) for side in layer.map_size] or [np.zeros(count, int)], 1)
    sites = sites[:, : len(layer.map_size)]
    image, filled = random.random(size, np.float32), random.random((draw(st.integers(1, 3)), *size), np.float32)
    return Case(model, size, layer, grid, torch.from_numpy(image), torch.from_numpy(filled), units, sites)
