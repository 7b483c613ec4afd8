"""What images a network has learned from: values of networks whose statistics were gathered over known images."""

import pytest
import torch
from torch import nn

from cnnprobe.datasets import shapes
from cnnprobe.datasets.base.given import Given
from cnnprobe.instruments.outputs.input_statistics import is_unknown, remark, seen

SIZE = (3, 24, 24)


def scenes(count, generator):
    """Return images of 0 to 1 with large uniform patches, as photographs have: pixels beside each other are alike."""
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    grey = torch.rand(count, 1, 4, 4, generator=generator)
    return 0.3 * nn.functional.interpolate(coarse, 24, mode="bilinear") + 0.7 * nn.functional.interpolate(grey, 24)


def learned(net, change):
    """Let a network gather statistics over changed scenes."""
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # a plain average
    generator = torch.Generator().manual_seed(0)
    net.train()
    with torch.no_grad():
        for _ in range(4):
            net(change(scenes(32, generator)))
    return net.eval()


NETWORKS = {
    "convolution": lambda: nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
    "with bias": lambda: nn.Sequential(nn.Conv2d(3, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU()),
    "padded": lambda: nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU()),
    "at the input": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)),
}
CHANGES = {  # what was done to images of 0 to 1, and whether the result can be such again
    "as they are": (lambda x: x, True),
    "dark": (lambda x: x * 0.3, True),
    "faint": (lambda x: 0.4 + 0.1 * x, True),
    "imagenet": (lambda x: (x - 0.5) / 0.21, False),
    "minus one to one": (lambda x: 2 * x - 1, False),
    "bytes": (lambda x: x * 255, False),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("change", CHANGES)
def test_what_was_seen_is_told(kind, change):
    """F88."""
    torch.manual_seed(3)
    how, possible = CHANGES[change]
    net = learned(NETWORKS[kind](), how)
    images = how(scenes(64, torch.Generator().manual_seed(9)))
    found = seen(net, SIZE)
    assert found.possible == possible
    assert abs(found.mean - float(images.mean())) < 0.15 * float(images.std()) + 0.1 * abs(float(images.mean()))
    deviation, border = float(images.std(dim=(0, 2, 3)).mean()), 0.1 * abs(float(images.mean()))  # zeros around them
    assert 0.5 * deviation < found.deviation < 2 * deviation + border
    shown = shapes.build(size=24, count=4, split="test", seed=0, contrast=0.15, noise=0.02)
    told = remark(net, shown)
    assert (told is None) == possible
    if told:
        assert "images of 0 to 1 meet a network that learned from others: by the statistics of " in told


def test_one_that_normalises_or_has_not_learned_says_nothing():
    class Normalising(nn.Sequential):
        def forward(self, x):
            return super().forward((x - 0.45) / 0.225)

    net = learned(Normalising(*NETWORKS["convolution"]()), lambda x: x)
    assert seen(net, SIZE) is None and not is_unknown(net, SIZE)
    assert seen(NETWORKS["convolution"]().eval(), SIZE) is None
    plain = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval()
    assert seen(plain, SIZE) is None and is_unknown(plain, SIZE)


def test_recordings_in_units_of_their_own_are_let_be():
    net = learned(NETWORKS["at the input"](), lambda x: (x - 0.45) / 0.225)
    assert remark(net, Given((torch.rand(4, *SIZE) - 0.45) / 0.225)) is None
    assert remark(net, Given(torch.rand(4, *SIZE))) is not None
