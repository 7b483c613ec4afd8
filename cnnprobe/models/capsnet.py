"""Capsules with routing by agreement: groups of units whose length says whether a thing is there, and direction how.

Sabour, Frosst, Hinton 2017 (arXiv:1710.09829, sections 2 to 4): a convolution; primary capsules, a second one whose
channels are taken in groups; class capsules, each of which is predicted by every primary capsule through a matrix of
its own, and which gather the predictions that agree; a decoder that draws the image again from the capsule of its
class.

The output of class j is the log-odds of its length, which is 2 ln |s_j| before the squash: L = |s|² / (1 + |s|²).
"""

import math
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor, nn

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.targets import one_hot
from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import About
from cnnprobe.models.parts.inputs import Input

TINY = 1e-12
"""Added to a squared length, so that a vector of zeros has a direction, and a gradient that is a number."""
NEARLY = 1 - 2**-20
"""Longest length: log-odds end at 13.9."""
STRIDE = 2

Side = Annotated[int, Range(2)]
Channels = Annotated[int, Range(1, 4096)]
Count = Annotated[int, Range(1, 4096)]


def needs(
    *,
    input_size: Side,
    channels: Channels,
    width: Count,
    kernel: Annotated[int, Range(1)],
    types: Count,
    primary: Count,
    pose: Count,
    routing: Annotated[int, Range(1, 100)],
    decoder: list[Count] | None,
    reconstruction: Annotated[float, Range(0)],
) -> Input:
    """Say which images the network was made for."""
    return Input(channels=channels, size=input_size, resize=input_size)


def build(
    *,
    num_classes: Annotated[int, Range(1)] | None,
    input_size: Side,
    channels: Channels,
    width: Count,
    kernel: Annotated[int, Range(1)],
    types: Count,
    primary: Count,
    pose: Count,
    routing: Annotated[int, Range(1, 100)],
    decoder: list[Count] | None,
    reconstruction: Annotated[float, Range(0)],
) -> "CapsNet":
    """Build the network in eval() mode.

    Args:
        num_classes: class capsules; None: 10.
        input_size: side of the images, px.
        channels: of the images.
        width: channels of the first convolution.
        kernel: side of both convolutions, px.
        types: kinds of primary capsules, each at every place of the map.
        primary, pose: dimensions of a primary and of a class capsule.
        routing: iterations; 1 leaves all couplings equal.
        decoder: units of its hidden layers; None: no decoder.
        reconstruction: weight of the mean squared error of the drawn image in the loss.

    Returns:
        A network of (image, channel, y, x), 0 to 1, to (image, class) log-odds.

    Raises:
        UserError: nothing is left of an image behind two such convolutions.

    Example:
        model = build(num_classes=10, input_size=28, channels=1, width=256, kernel=9, types=32, primary=8, pose=16,
                      routing=3, decoder=[512, 1024], reconstruction=0.392)  # as published: 8,215,568 parameters
    """
    left = (input_size - kernel + 1 - kernel) // STRIDE + 1
    if input_size - kernel + 1 < kernel:
        least = 2 * kernel - 1
        raise UserError(f"input_size must be {least} or more for capsnet with kernel={kernel}, got {input_size}")
    image = (channels, input_size, input_size)
    classes = num_classes or 10
    model = CapsNet(image, classes, width, kernel, types, primary, pose, routing, left, decoder, reconstruction)
    model.cnnprobe = About(input_size=image, output="existence", capsules="pose")
    return model.eval()


class CapsNet(nn.Module):
    """The network; every layer that is looked at is a module of its own.

    Args:
        image: (channel, y, x).
        classes, width, kernel, types, primary, pose, routing, decoder, reconstruction: see `build`.
        left: side of the map of primary capsules.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        width: int,
        kernel: int,
        types: int,
        primary: int,
        pose: int,
        routing: int,
        left: int,
        decoder: list[int] | None,
        reconstruction: float,
    ):
        super().__init__()
        self.image, self.iterations, self.reconstruction = image, routing, reconstruction
        self.conv1 = nn.Conv2d(image[0], width, kernel)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, types * primary, kernel, stride=STRIDE)
        self.types = nn.Identity()  # (image, type, y, x), lengths of the primary capsules
        self.primary = nn.Identity()  # (image, type × dimension, y, x)
        self.predictions = nn.Parameter(0.05 * torch.randn(classes, types * left * left, pose, primary))
        self.couplings = nn.Identity()  # (image, class, primary capsule), of the last iteration
        self.lengths = nn.Identity()  # (image, class)
        self.pose = nn.Identity()  # (image, class × dimension)
        sizes = [classes * pose, *(decoder or ())]
        layers = [part for before, after in pairwise(sizes) for part in (nn.Linear(before, after), nn.ReLU())]
        drawn = image[0] * image[1] * image[2]
        self.decoder = nn.Sequential(*layers, nn.Linear(sizes[-1], drawn), nn.Sigmoid()) if decoder else None
        self.shown: Tensor | None = None  # poses of the last pass, for `penalties`

    def forward(self, images: Tensor) -> Tensor:
        """Return the log-odds (image, class) of images (image, channel, y, x)."""
        return self._shown(images)[0]

    def votes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-odds, and what the primary capsules at each place add to the length of what a class gathers.

        A prediction counts as far as it points where s does: the sum of c_ij û_ij · s_j / |s_j| over all primary
        capsules is |s_j|, and the log-odds are 2 ln |s_j|.

        Args:
            images: (image, channel, y, x).

        Returns:
            (image, class), and (image, class, y, x), summed over the types at each place.
        """
        scores, predicted, couplings, s = self._shown(images)
        along = s / (s.square().sum(-1, keepdim=True) + TINY).sqrt()
        shares = couplings * torch.einsum("nijd,njd->nji", predicted, along)
        side = math.isqrt(shares.shape[2] * self.predictions.shape[-1] // self.conv2.out_channels)
        return scores, shares.unflatten(2, (-1, side, side)).sum(2)

    def _shown(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return log-odds, predictions (image, capsule, class, dimension), couplings, and what is gathered."""
        x = self.conv2(self.relu(self.conv1(images)))
        with torch.autocast(x.device.type, enabled=False):  # sums of many small products
            capsules = self._primary(x.to(torch.promote_types(x.dtype, torch.float32)))
            predicted = torch.einsum("jidk,nik->nijd", self.predictions, capsules)
            couplings, s = self._gathered(predicted)
            squared = s.square().sum(-1)
            length = self.lengths(squared / (1 + squared))
            v = self.pose((length[..., None] * s / (squared + TINY).sqrt()[..., None]).flatten(1))
            self.shown = v.view(s.shape)
            length = (self.shown.square().sum(-1) + TINY**2).sqrt().clamp(max=NEARLY)
            return length.log() - (-length).log1p(), predicted, couplings, s

    def _primary(self, x: Tensor) -> Tensor:
        """Squash a map in groups of channels; return primary capsules (image, capsule, dimension)."""
        count, types = len(x), self.predictions.shape[-1]
        grouped = x.unflatten(1, (-1, types))  # (image, type, dimension, y, x)
        squared = grouped.square().sum(2)
        length = self.types(squared / (1 + squared))
        squashed = length[:, :, None] * grouped / (squared + TINY).sqrt()[:, :, None]
        return self.primary(squashed.flatten(1, 2)).unflatten(1, (-1, types)).movedim(2, -1).reshape(count, -1, types)

    def _gathered(self, votes: Tensor) -> tuple[Tensor, Tensor]:
        """Route votes (image, capsule, class, dimension) by agreement.

        Returns:
            couplings of the last iteration (image, class, capsule), and what is gathered, before the squash.
        """
        count, capsules, classes, _ = votes.shape
        logits = votes.new_zeros(count, classes, capsules)
        for left in range(self.iterations, 0, -1):
            couplings = logits.softmax(1)  # over the classes: a capsule is a part of one thing
            if left == 1:
                couplings = self.couplings(couplings)
            s = torch.einsum("nji,nijd->njd", couplings, votes)
            if left > 1:
                logits = logits + torch.einsum("nijd,njd->nji", votes, squash(s))
        return couplings, s

    def drawn(self, pose: Tensor, present: Tensor) -> Tensor:
        """Return images (image, channel, y, x), 0 to 1, as the decoder draws them.

        Args:
            pose: (image, class, dimension).
            present: (image, class), 1 for the capsules that are drawn.

        Raises:
            UserError: there is no decoder.
        """
        if self.decoder is None:
            raise UserError("this network has no decoder (model.decoder)")
        return self.decoder((pose * present[..., None]).flatten(1)).view(-1, *self.image)

    def penalties(self, images: Tensor, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the weighted error of the image that the capsules of its classes draw (section 4.1).

        Args:
            images: (image, channel, y, x) that were shown in the last pass.
            outputs: of that pass.
            targets: (image,) class, or (image, class) 1 where it is there.
        """
        if self.decoder is None or self.shown is None:
            return {}
        present = one_hot(targets, outputs.shape[1]) if targets.ndim == 1 else targets
        made = self.drawn(self.shown, present.to(images.dtype)).float()
        return {"reconstruction": self.reconstruction * (made - images.float()).square().mean()}


def squash(s: Tensor) -> Tensor:
    """Return vectors of the same direction and of length |s|² / (1 + |s|²) (equation 1)."""
    squared = s.square().sum(-1, keepdim=True)
    return squared / (1 + squared) * s / (squared + TINY).sqrt()
