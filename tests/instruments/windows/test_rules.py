"""Which functions carry windows: those that are known to be local, and no others."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnprobe.instruments.network.tracing import IMAGE, Value, trace
from cnnprobe.instruments.windows.operations import AveragePool, Convolution, Join, MaxPool, Pad, Pointwise, Scale, Sum
from cnnprobe.instruments.windows.rules import operation


class Only(nn.Module):
    """One function of the image."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, images):
        return self.function(images)


def rule(function):
    """Return the operation of the last call of a pass."""
    traced, local, how = trace(Only(function), (4, 8, 12)), {Value(IMAGE, 0, (1, 4, 8, 12))}, None
    for call in traced.calls:
        how = operation(call, local)
        if how is not None:
            local.add(call.outputs[0])
    return how


LOCAL = [
    (Convolution, nn.Conv2d(4, 6, 3)),
    (Convolution, lambda maps: F.conv2d(maps, torch.rand(2, 4, 3, 3))),
    (Convolution, lambda maps: F.conv2d(maps, weight=torch.rand(8, 1, 3, 3), padding=1, groups=4)),
    (Scale, nn.BatchNorm2d(4)),
    (MaxPool, nn.MaxPool2d(3)),
    (MaxPool, lambda maps: F.max_pool2d(maps, kernel_size=2, stride=2)),
    (MaxPool, lambda maps: torch.max_pool2d(maps, 2)),
    (AveragePool, nn.AvgPool2d(2)),
    (AveragePool, nn.AdaptiveAvgPool2d((4, 4))),
    (MaxPool, nn.AdaptiveMaxPool2d((8, 3))),
    (Pad, lambda maps: F.pad(maps, (1, 1))),
    (Pad, nn.ReplicationPad2d(1)),
    (Join, lambda maps: torch.cat([maps, maps], 1)),
    (Join, lambda maps: torch.concat([maps, maps], dim=1)),
    (Sum, lambda maps: maps + maps),
    (Sum, lambda maps: torch.add(maps, maps)),
    (Sum, lambda maps: maps.clone()),
    (Sum, lambda maps: F.dropout(maps.clone(), 0.5, training=False)),
    (Sum, lambda maps: maps + 1),
    (Pointwise, F.relu),
    (Pointwise, lambda maps: maps.relu_()),
    (Pointwise, lambda maps: maps * torch.rand(8, 12)),
    (Pointwise, lambda maps: maps * torch.rand(4, 1, 1)),
    (Pointwise, lambda maps: 2 - maps),
    (Pointwise, lambda maps: maps**2),
    (Pointwise, lambda maps: maps.softmax(1)),
    (Pointwise, lambda maps: maps.softmax(dim=-3)),
    (Pointwise, nn.LocalResponseNorm(3)),
]


@pytest.mark.parametrize("number", range(len(LOCAL)))
def test_local_functions(number):
    kind, function = LOCAL[number]
    assert type(rule(function)) is kind


NOT_LOCAL = {
    "pooled unevenly": nn.AdaptiveAvgPool2d((3, 5)),
    "maximum, unevenly": nn.AdaptiveMaxPool2d(7),
    "mean": lambda maps: maps.mean((2, 3), keepdim=True),
    "flat": nn.Flatten(),
    "softmax along x": lambda maps: maps.softmax(3),
    "softmax along -1": lambda maps: maps.softmax(dim=-1),
    "joined along y": lambda maps: torch.cat([maps, maps], 2),
    "joined images": lambda maps: torch.cat([maps, maps]),
    "joined with a constant": lambda maps: torch.cat([maps, torch.rand(1, 1, 8, 12)], 1),
    "a row for all": lambda maps: maps * torch.rand(12),
    "padded channels": lambda maps: F.pad(maps, (0, 0, 0, 0, 1, 1)),
    "turned": lambda maps: maps.transpose(2, 3),
    "flipped": lambda maps: maps.flip(3),
    "rolled": lambda maps: maps.roll(1, 3),
    "summed up": lambda maps: maps.cumsum(3),
    "transposed convolution": nn.ConvTranspose2d(4, 4, 3),
    "enlarged": lambda maps: F.interpolate(maps, scale_factor=2),
    "normalised over the map": nn.InstanceNorm2d(4),
    "normalised in groups": nn.GroupNorm(2, 4),
    "dropout that drops": lambda maps: F.dropout(maps, 0.5, training=True),
    "BatchNorm of the batch": lambda maps: F.batch_norm(maps, None, None, training=True),
    "kernel from the image": lambda maps: F.conv2d(maps, maps[:, :, :3, :3]),
    "by another map": lambda maps: maps * maps.mean((2, 3), keepdim=True),
    "more images": lambda maps: maps + torch.rand(2, 4, 8, 12),
    "more channels": lambda maps: maps[:, :1] + torch.rand(1, 4, 8, 12),
}


@pytest.mark.parametrize("name", NOT_LOCAL)
def test_other_functions(name):
    assert rule(NOT_LOCAL[name]) is None


def test_what_reads_no_windows_has_none():
    """A pointwise function of a value that is not local itself."""
    traced = trace(Only(lambda maps: maps.flip(3).relu()), (4, 8, 12))
    assert operation(traced.calls[-1], {Value(IMAGE, 0, (1, 4, 8, 12))}) is None
