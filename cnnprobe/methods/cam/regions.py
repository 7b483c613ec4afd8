"""Regions of networks that give a class for every pixel: whose scores a map is the evidence for (Seg-Grad-CAM).

The score of class c is the sum over the pixels (i, j) of a region of y_c(i, j); from there on a map is made as that of
a classifier (Vinogradova, Dibrov, Myers 2020, Towards interpretable semantic segmentation via gradient-weighted class
activation mapping, equations 2 and 3). The published maps end with max(., 0); here the sign is kept.

    predicted   the pixels that are taken for class c
    truth       the pixels that are of class c
    [y, x]      one pixel
    all         every pixel
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.datasets.base.targets import middle
from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find, main_layers
from cnnprobe.instruments.network.about import about
from cnnprobe.instruments.network.layer import Layer

Region = str | list[int]
KINDS = "gradcam", "guided-gradcam", "layercam"
"""Kinds of maps that need no single output of an image."""
BOTTOM = "bottom"


@dataclass
class Regions:
    """The outputs of a network that returns (image, class, y, x), summed over regions; read as `kinds.Outputs`.

    Args:
        shape: (class, y, x).
        region: see the head of this file.
        judged: classes that are ranked by their pixels; the background comes last.
        masks: (image, y, x) true classes of the images that are shown next, as large as the output or larger.

    Attributes:
        order: (image, class) by which classes are ranked, largest first, of the last pass: their pixels (of the mask
            for `truth`), or their scores at one pixel; -1 for those that are not judged.
        pixels: (image, class) pixels of the region.
    """

    shape: tuple[int, ...]
    region: Region
    judged: tuple[int, ...]
    masks: Tensor | None = None
    before: ClassVar[None] = None
    binary: ClassVar[bool] = False
    kind: ClassVar[str] = "map"

    def everywhere(self) -> "Regions":
        """Return the same with the region of all pixels."""
        return replace(self, region="all", masks=None)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.shape[0]

    def scores(self, returned: Any, before: Tensor | None = None) -> Tensor:
        """Return what a network returned, summed over the region: (image, class)."""
        scores = returned.detach()
        counted = self._counted(scores)
        region = self._region(scores, counted)
        self.pixels = region.flatten(2).sum(2)
        if isinstance(self.region, str):
            order = counted.flatten(2).sum(2).to(scores.dtype)
            self.order = torch.full_like(order, -1)
            self.order[:, list(self.judged)] = order[:, list(self.judged)]
        else:
            self.order = scores[..., self.region[0], self.region[1]]
        return (returned * region).flatten(2).sum(2)

    @property
    def word(self) -> str:
        """The region as it is typed."""
        return _word(self.region)

    def _counted(self, scores: Tensor) -> Tensor:
        """Return (image, class, y, x) bool: the pixels of each class, of the mask for `truth`."""
        found = scores.argmax(1)
        if self.region == "truth":
            assert self.masks is not None  # images without masks were refused
            found = middle(self.masks, tuple(found.shape[1:]))
        return found[:, None] == torch.arange(self.classes, device=scores.device)[:, None, None]

    def _region(self, scores: Tensor, counted: Tensor) -> Tensor:
        if isinstance(self.region, str):
            return torch.ones_like(counted) if self.region == "all" else counted
        one = torch.zeros_like(counted)
        one[..., self.region[0], self.region[1]] = True
        return one

    @property
    def told(self) -> dict[str, np.ndarray]:
        """What is known of the last pass beside its scores, see `maps.Found`."""
        return {"order": self.order.float().cpu().numpy(), "pixels": self.pixels.cpu().numpy()}

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return NaN: sums over pixels give no probability."""
        return torch.full_like(scores, math.nan)


def regions_of(model: nn.Module, dataset: ImageSet, region: Region, kind: str) -> Regions | None:
    """Return the regions whose evidence is mapped; None for a network that gives no map of classes.

    Args:
        model: any network.
        dataset: the images.
        region: as asked.
        kind: of class activation map.

    Raises:
        UserError: a kind that needs one output per image, a region that is not there, or a network of courses.
    """
    try:
        (logits,) = find(model, "logits", dataset.size)
    except UserError:
        return None
    if len(logits.map_size) == 1 and logits.map_size != (1,):
        raise UserError("cam needs classes or maps, this network returns courses; gbp rule=gradient layer=logits shows "
                        "the pixels")  # fmt: skip
    if len(logits.map_size) != 2 or math.prod(logits.map_size) == 1:
        if region != "predicted":
            raise UserError(f"region={_word(region)} is of a network that gives a class for every pixel; this one "
                            "gives one for each image")  # fmt: skip
        return None
    shape = logits.channels, *logits.map_size
    words = " x ".join(map(str, shape))
    if kind not in KINDS:
        raise UserError(f"kind={kind} needs one output per image, this network returns maps ({words}): "
                        "say kind=gradcam region=predicted, truth, all or [y,x]")  # fmt: skip
    target = dataset.target
    same = target.kind == "map" and len(target.names) == shape[0]
    if region == "truth" and not same:
        raise UserError(f"region=truth needs images with masks of the network's {shape[0]} classes "
                        "(dataset.target=mask); say region=predicted")  # fmt: skip
    judged = target.judged if same else tuple(range(shape[0]))
    if isinstance(region, list):
        if len(region) != 2 or not all(0 <= place < side for place, side in zip(region, shape[1:])):
            raise UserError(f"region must be [y,x] from [0,0] to [{shape[1] - 1},{shape[2] - 1}], got {_word(region)}")
        judged = tuple(range(shape[0]))
    return Regions(shape, region, judged)


def deepest_map(model: nn.Module, size: Sequence[int]) -> Layer:
    """Return the last of the smallest maps on the way to a map of classes: where a path that contracts ends.

    A layer that the network calls `bottom` is it.

    Raises:
        UserError: there is no map before the output.
    """
    if BOTTOM in about(model).aliases:
        return find(model, BOTTOM, tuple(size))[0]
    maps = [one for one in main_layers(model, tuple(size)) if one.kind == "convolution" and len(one.map_size) == 2]
    if len(maps) < 2:
        raise UserError("the output is made from no other convolution with a map (image, channel, y, x); say layer=…")
    least = min(math.prod(one.map_size) for one in maps[:-1])
    return next(one for one in maps[-2::-1] if math.prod(one.map_size) == least)


@dataclass(frozen=True)
class RegionChoice:
    """Which classes are mapped for each image.

    Args:
        top: so many classes at most, first in `Regions.order`; those without pixels are left out.
        fixed: these instead, for every image.
        pixel: whether the region is one pixel, of which every class has a score.
    """

    top: int
    fixed: tuple[int, ...] = ()
    pixel: bool = False

    @property
    def count(self) -> int:
        """Classes per image."""
        return len(self.fixed) or self.top

    def __call__(self, order: Tensor, labels: Tensor) -> Tensor:
        """Return classes (n, count), -1 for none."""
        if self.fixed:
            return torch.tensor(self.fixed, device=order.device).expand(len(order), -1)
        values, best = torch.sort(order, dim=1, descending=True, stable=True)
        best = best[:, : self.top]
        return best if self.pixel else torch.where(values[:, : self.top] > 0, best, -1)


def _word(region: Region) -> str:
    return region if isinstance(region, str) else f"[{','.join(map(str, region))}]"
