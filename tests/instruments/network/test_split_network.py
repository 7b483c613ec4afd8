"""Base and head of a network, run apart, are the network."""

import pytest
import torch
import torchvision

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.split_network import Head, WholeHead, cut
from cnnprobe.instruments.network.untouched import untouched
from tests.support.networks import planted
from tests.support.networks.gap import Deep, pictures

NETWORKS = [
    (planted.Functional, "conv1", 8),
    (planted.Inline, "conv2", 8),
    (Deep, "conv1", 12),
    (lambda: torchvision.models.resnet18(weights=None, num_classes=5), "layer3.0.conv1", 64),  # a residual passes by
    (lambda: torchvision.models.squeezenet1_0(weights=None, num_classes=5), "features.12", 64),
]


@pytest.mark.parametrize("kind", [Head, WholeHead])
@pytest.mark.parametrize(("network", "name", "side"), NETWORKS)
def test_base_and_head_are_the_network(network, name, side, kind):
    torch.manual_seed(0)
    model, images = network().eval(), pictures(3, side)
    layer = find(model, name, (3, side, side))[0]
    with torch.inference_mode(), untouched(model):
        head = kind(model, layer, (3, side, side))
        activation, sides = head.base(images)
        assert torch.allclose(head.ends(activation, sides)[0], model(images), atol=1e-5)
        changed = head.ends(activation * 0, sides)[0]
        assert not torch.allclose(changed, model(images), atol=1e-4)
        assert changed.shape == model(images).shape


def test_a_residual_beside_the_layer_is_kept():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None, num_classes=5).eval()
    layer = find(model, "layer3.0.conv1", (3, 64, 64))[0]
    assert Head(model, layer, (3, 64, 64)).sides
    one, other = (kind(model, layer, (3, 64, 64)) for kind in (Head, WholeHead))
    with torch.inference_mode(), untouched(model):
        activation, sides = one.base(pictures(2, 64))
        same, images = other.base(pictures(2, 64))
        assert torch.allclose(activation, same, atol=1e-6)
        without = activation.clone()
        without[:, :9] = 0
        assert torch.allclose(one.ends(without, sides)[0], other.ends(without, images)[0], atol=1e-5)


class Counting(Deep):
    """Leaves torch on its way: its calls cannot be repeated apart."""

    def forward(self, images):
        maps = self.maps(images)
        scale = float(maps.detach().mean()) + 1
        return self.out(self.hidden((maps * scale).mean((2, 3))).relu())


def test_what_cannot_be_cut_is_run_whole():
    model = Counting().eval()
    layer = find(model, "conv1", (3, 12, 12))[0]
    with torch.inference_mode():
        assert isinstance(cut(model, layer, (3, 12, 12)), WholeHead)
        assert isinstance(cut(Deep().eval(), layer, (3, 12, 12)), Head)
        with pytest.raises(UserError, match="max-pooling of this network cannot be left out; finer=false"):
            cut(model, layer, (3, 12, 12)).finer(pictures())
