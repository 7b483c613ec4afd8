"""MouseNet: the areas and layers of mouse visual cortex as one convolutional network.

Shi, Tripp, Shea-Brown, Mihalas, Buice (2022), "MouseNet: A biologically constrained convolutional neural
network model for the mouse visual cortex", PLOS Comput Biol 18(9): e1010427. A node is a layer of an area, an
edge a convolution whose taps exist with the probability of a connection at that distance.
"""

import functools
import operator
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnprobe.config.options import Range
from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import About
from cnnprobe.models.parts import anatomy
from cnnprobe.models.parts.inputs import Input
from cnnprobe.models.parts.normalisation import CIFAR10, normalise

Variant = Literal["mousenet64", "mousenet32", "mousenet64_may2020", "mousenet64_oct2020", "rebuilt"]


def needs(
    *,
    variant: Variant,
    readout: Literal["pool4", "fc2048"],
    mask: Literal["per_channel", "shared", "none"],
    mask_seed: Annotated[int, Range(0, 2**32 - 1)],
    input_size: Annotated[int, Range(8)] | None,
    upsample_to: Annotated[int, Range(8)] | None,
) -> Input:
    """Say which images the network was made for: RGB, 64 px (32 for mousenet32) unless `input_size` says otherwise."""
    side = input_size or (32 if variant == "mousenet32" else 64)
    return Input(channels=3, size=side, resize=side)


def build(
    *,
    num_classes: Annotated[int, Range(1)] | None,
    variant: Variant,
    readout: Literal["pool4", "fc2048"],
    mask: Literal["per_channel", "shared", "none"],
    mask_seed: Annotated[int, Range(0, 2**32 - 1)],
    input_size: Annotated[int, Range(8)] | None,
    upsample_to: Annotated[int, Range(8)] | None,
) -> nn.Module:
    """Build a MouseNet in eval() mode; weights from torch's generator, masks from `mask_seed`.

    Returns:
        A network of (image, 3, y, x), 0 to 1, to (image, class). `conv.convN` are the edges, `area.VISp23` and
        the others the nodes, whose output is the node's activation; its `About.aliases` name them as anatomists do.

    Raises:
        UserError: a side is odd: the maps of the higher areas are half as large as the image.
    """
    side = input_size or (32 if variant == "mousenet32" else 64)
    inside = upsample_to or side
    for name, value in (("input_size", side), ("upsample_to", inside)):
        if value % 2 and value == inside:
            raise UserError(f"{name} must be even for mousenet (higher areas have half the side), got {value}")
    table = anatomy.rebuilt(inside) if variant == "rebuilt" else anatomy.network(variant)
    model = MouseNet(table, anatomy.masks(table, mask, mask_seed), num_classes or 10, readout, inside)
    model.cnnprobe = About(input_size=(3, side, side), aliases=_aliases(table))
    model.upsample_to = upsample_to if inside != side else None
    return normalise(model, *CIFAR10).eval()


class Edge(nn.Conv2d):
    """A convolution whose taps exist only where its mask is True, all of them without a mask.

    The mask multiplies the weights, so a tap that does not exist has no effect and no gradient. It starts at
    zero and therefore stays there, under weight decay as well: norms and histograms of the weights are right.

    Padding is such that a map of side s becomes one of side s / stride. With stride 2 that needs one zero more on the
    right and at the bottom than `padding` says, which holds for the left and the top.
    """

    def __init__(self, edge: dict, mask: np.ndarray | None):
        channels = (edge["in_channels"], edge["out_channels"])
        super().__init__(*channels, edge["kernel_size"], stride=edge["stride"], padding=edge["padding"][0])
        self.register_buffer("mask", None if mask is None else torch.from_numpy(mask).to(self.weight.device))
        self._silence()

    def reset_parameters(self) -> None:
        """Draw new weights (PyTorch's default, fan-in of the dense kernel) for the taps that exist."""
        super().reset_parameters()
        self._silence()

    @torch.no_grad()
    def _silence(self) -> None:
        if getattr(self, "mask", None) is not None:
            self.weight.mul_(self.mask)

    def taps(self) -> Tensor:
        """Return the kernel, (channel out, channel in, y, x), zero where no tap exists."""
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, source: Tensor) -> Tensor:
        """Convolve (image, channel, y, x) with the taps that exist."""
        if self.stride == (2, 2):
            source = F.pad(source, (0, 1, 0, 1))
        return self._conv_forward(source, self.taps(), self.bias)


def halved(source: Tensor, edges: list[Edge]) -> list[Tensor]:
    """Convolve one map with several edges of stride 2 at once, each to (image, channel, y / 2, x / 2).

    The four phases of the map (pixels of even or odd row and column) become channels, those of the kernels as well,
    and the stride is gone; the kernels, one behind the other, are widened with zeros to one side. The sums are the
    same. On CPUs the gradient of the weights takes a tenth of the time so, and learning as a whole two thirds.
    """
    reach = max((edge.kernel_size[0] + 1) // 4 for edge in edges)
    kernels = [_phases_of(edge, reach) for edge in edges]
    bias = torch.cat([edge.bias for edge in edges])
    together = F.conv2d(F.pixel_unshuffle(source, 2), torch.cat(kernels), bias, padding=reach)
    return list(together.split([edge.out_channels for edge in edges], dim=1))


def _phases_of(edge: Edge, reach: int) -> Tensor:
    """Return a kernel's four phases as channels, each 2 reach + 1 taps wide with the output pixel in the middle.

    An odd kernel k is padded by (k - 3) / 2 at the left and (k - 1) / 2 at the right.
    """
    before = 2 * reach - (edge.kernel_size[0] - 3) // 2
    behind = 2 * (2 * reach + 1) - edge.kernel_size[0] - before
    return F.pixel_unshuffle(F.pad(edge.taps(), (before, behind) * 2), 2)


def key(name: str) -> str:
    """Return a node's name as it stands in module paths and files: VISp2/3 is VISp23."""
    return name.replace("/", "")


class MouseNet(nn.Module):
    """A network built from a connection table.

    Published form: area = ReLU(BatchNorm(sum of the convolutions that reach it)). In the form of May 2020
    (`merge` of the table) each convolution has its own BatchNorm and ReLU and the rectified maps are added. There the
    authors' code walked the edges in an order that lost four of them; here nodes are complete before they send.
    """

    def __init__(self, table: anatomy.Network, masks: list, num_classes: int, readout: str, side: int):
        super().__init__()
        self.upsample_to: int | None = None
        nodes = [node for node in table["nodes"] if node["name"] != "input"]
        self.incoming = {node["name"]: [e for e in table["edges"] if e["target"] == node["name"]] for node in nodes}
        self.halving: dict[str, list[str]] = {}
        for edge in table["edges"]:
            if edge["stride"] == 2:
                self.halving.setdefault(edge["source"], []).append(edge["id"])
        self.linear = table.get("linear_nodes", [])  # no BatchNorm (though the tables count it), no rectifier
        self.conv = nn.ModuleDict({e["id"]: Edge(e, mask) for e, mask in zip(table["edges"], masks)})
        if table["merge"] == "sum_of_relu_bn_conv":  # every edge has its own BatchNorm and rectifier
            self.linear = list(self.incoming)
            normed = {edge["id"]: edge["out_channels"] for edge in table["edges"]}
            self.relu = nn.ModuleDict({edge: nn.ReLU() for edge in normed})
        else:
            normed = {key(node["name"]): node["channels"] for node in nodes}
        self.norm = nn.ModuleDict({name: nn.BatchNorm2d(channels) for name, channels in normed.items()})
        self.area = nn.ModuleDict(
            {key(name): nn.Identity() if name in self.linear else nn.ReLU() for name in self.incoming}
        )
        self.outputs = table["readout"]["concat_order"]
        channels = {node["name"]: node["channels"] for node in nodes}
        self.shrink, self.readout = _readout(readout, [channels[name] for name in self.outputs], num_classes, side)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (image, class) of normalised images (image, 3, y, x)."""
        if self.upsample_to:
            images = F.interpolate(images, size=(self.upsample_to,) * 2, mode="bilinear", antialias=True)
        maps = {"input": images}
        halved_maps: dict[str, Tensor] = {}
        for node, edges in self.incoming.items():
            total = functools.reduce(operator.add, [self._arriving(edge, maps, halved_maps) for edge in edges])
            if node not in self.linear:
                total = self.norm[key(node)](total)
            maps[node] = self.area[key(node)](total)
            if self.training and node in self.halving:
                leaving = self.halving[node]
                halved_maps |= zip(leaving, halved(maps[node], [self.conv[edge] for edge in leaving]))
        return self.readout(self._features([maps[name] for name in self.outputs]))

    def _arriving(self, edge: dict, maps: dict[str, Tensor], halved_maps: dict[str, Tensor]) -> Tensor:
        """Return what an edge adds to its target, (image, channel, y, x), from its source's map unless it is there."""
        carried = halved_maps.pop(edge["id"], None)
        if carried is None:
            carried = self.conv[edge["id"]](maps[edge["source"]])
        if edge["id"] in self.norm:
            carried = self.relu[edge["id"]](self.norm[edge["id"]](carried))
        return carried

    def _features(self, maps: list[Tensor]) -> Tensor:
        """Return the maps that are read out as one vector per image, (image, feature)."""
        if self.shrink is None:
            return torch.cat([_pool4(activation).flatten(1) for activation in maps], dim=1)
        *others, primary = maps  # VISp5 stands last
        return torch.cat([activation.flatten(1) for activation in (*others, self.shrink(primary))], dim=1)


def _pool4(activation: Tensor) -> Tensor:
    """Average to 4x4. Adaptive pooling gives the same; its gradient on a GPU depends on the order of additions."""
    height, width = activation.shape[-2:]
    if height % 4 or width % 4:
        return F.adaptive_avg_pool2d(activation, 4)
    return F.avg_pool2d(activation, (height // 4, width // 4))


def _readout(kind: str, channels: list[int], classes: int, side: int) -> tuple[nn.Module | None, nn.Module]:
    """Return the convolution that shrinks VISp5 (None for pool4) and the classifier.

    "pool4": one linear layer on 4x4 averages (published). "fc2048": two hidden layers of 2048 units on the full maps
    (the code of May 2020); `channels` are those of the areas, VISp5 last.
    """
    if kind == "pool4":
        return None, nn.Linear(16 * sum(channels), classes)
    features = (sum(channels[:-1]) + 32) * (side // 2) ** 2
    hidden = [nn.Linear(features, 2048), nn.ReLU(), nn.Dropout(0.5), nn.Linear(2048, 2048), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Conv2d(channels[-1], 32, 1, stride=2), nn.Sequential(*hidden, nn.Linear(2048, classes))


def _aliases(table: anatomy.Network) -> dict[str, str]:
    """Name nodes by the anatomist's names and edges by their number, conv1 to conv3 after their rectifier."""
    names = [node["name"] for node in table["nodes"] if node["name"] != "input"]
    areas = {spelling: f"area.{key(name)}" for name in names for spelling in (name, key(name))}
    areas |= dict.fromkeys(("LGN", "LGNd", "LGNv"), f"area.{names[0]}")
    alone = ("conv1", "conv2", "conv3")  # the only edge of their target
    targets = {e["id"]: f"area.{key(e['target'])}" if e["id"] in alone else f"conv.{e['id']}" for e in table["edges"]}
    return areas | targets
