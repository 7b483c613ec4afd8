"""Random changes of training images: shifts, flips, resized crops and colours.

Every random number is a function of (seed, epoch, index of the image) alone, by a counter-based generator: the
changes depend neither on the batch an image is in, nor on loader processes, the device, or an interruption.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

KINDS = ("crop", "resized-crop", "flip", "colour")
DRAWS = ("shift_y", "shift_x", "flip", "area", "ratio", "y", "x", "brightness", "contrast", "saturation")
RATIO = 4 / 3  # resized crops are 3:4 to 4:3 (Szegedy et al. 2015, Going deeper with convolutions, section 6)
GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue in the brightness of a pixel (ITU-R BT.601)


@dataclass(frozen=True)
class Augmentation:
    """What is changed in an image each time it is shown.

    Args:
        kinds: any of `KINDS`; applied in that order.
        seed: of all random numbers.
        padding: crop: largest shift in each direction, px; zeros come in from the border.
        smallest: resized-crop: smallest share of the image's area that is kept.
        colour: largest change of brightness, contrast and saturation, as a share.
    """

    kinds: tuple[str, ...]
    seed: int
    padding: int = 4
    smallest: float = 0.4
    colour: float = 0.2

    def __call__(self, images: Tensor, indices: Tensor, epoch: int) -> Tensor:
        """Change a batch.

        Args:
            images: (image, channel, y, x) or (signal, channel, time), uint8 or float 0 to 1; not altered.
            indices: (image,) int64, which images of the dataset these are, on the same device.
            epoch: counted from 0.

        Returns:
            As `images`; float32 where resized-crop or colour is requested.
        """
        if not self.kinds:
            return images
        draws = dict(zip(DRAWS, uniform(self.seed, epoch, indices, len(DRAWS)).unbind(1)))
        mirrored = draws["flip"] < 0.5 if "flip" in self.kinds else None
        if "resized-crop" in self.kinds:
            images = self._resized(as_float(self._cropped(images, draws, None)), draws, mirrored)
        else:
            images = self._cropped(images, draws, mirrored)
        if "colour" in self.kinds:
            changes = [1 + self.colour * (2 * draws[name] - 1) for name in ("brightness", "contrast", "saturation")]
            images = coloured(as_float(images), *changes)
        return images

    def maps(self, maps: Tensor, indices: Tensor, epoch: int) -> Tensor:
        """Move maps of classes as the images of the same indices are moved; what comes in from the border is 255.

        Classes are not mixed: of a resized crop each pixel is the one in which its middle lies.

        Args:
            maps: (image, y, x) uint8.
            indices, epoch: see `__call__`.
        """
        if not {"crop", "resized-crop", "flip"} & set(self.kinds):
            return maps
        draws = dict(zip(DRAWS, uniform(self.seed, epoch, indices, len(DRAWS)).unbind(1)))
        mirrored = draws["flip"] < 0.5 if "flip" in self.kinds else None
        if "resized-crop" not in self.kinds:
            return self._cropped(maps[:, None], draws, mirrored, 255)[:, 0]
        maps = self._cropped(maps[:, None], draws, None, 255)[:, 0]
        rows, columns = (nearest(start, side, n) for start, side, n in self._parts(maps, draws))
        if mirrored is not None:
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        images = torch.arange(len(maps), device=maps.device)[:, None, None]
        return maps[images, rows[:, :, None], columns[:, None]]

    def _cropped(self, images: Tensor, draws: dict[str, Tensor], mirrored: Tensor | None, border: int = 0) -> Tensor:
        if "crop" in self.kinds:
            return shifted(images, draws["shift_y"], draws["shift_x"], self.padding, mirrored, border)
        return images if mirrored is None else shifted(images, draws["flip"], draws["flip"], 0, mirrored)

    def _parts(self, images: Tensor, draws: dict[str, Tensor]) -> list[tuple[Tensor, Tensor, int]]:
        """Return along y and x where the part of each image that is resized begins, its length, and the side, px."""
        height, width = images.shape[-2:]
        area = height * width * (self.smallest + (1 - self.smallest) * draws["area"])
        ratio = RATIO ** (2 * draws["ratio"] - 1)  # log-uniform
        sides = (area / ratio).sqrt().clamp(max=height), (area * ratio).sqrt().clamp(max=width)
        starts = draws["y"] * (height - sides[0]), draws["x"] * (width - sides[1])
        return list(zip(starts, sides, (height, width)))

    def _resized(self, images: Tensor, draws: dict[str, Tensor], mirrored: Tensor | None) -> Tensor:
        rows, columns = (resampling(start, side, n) for start, side, n in self._parts(images, draws))
        if mirrored is not None:
            columns = torch.where(mirrored[:, None, None], columns.flip(1), columns)
        return rows[:, None] @ images @ columns[:, None].mT


def uniform(seed: int, epoch: int, indices: Tensor, count: int) -> Tensor:
    """Return (index, count) numbers, uniform from 0 to below 1, the same for an index wherever it is requested.

    SplitMix64 (Steele et al. 2014, Fast splittable pseudorandom number generators, figure 16), the counter being
    (seed, epoch), index and draw.
    """
    counters = indices[:, None] * count + (torch.arange(count, device=indices.device) + _key(seed, epoch))
    bits = _mixed(_mixed(counters))
    return _shifted_right(bits, 40).float() / 2**24


@lru_cache
def _key(seed: int, epoch: int) -> int:
    return int(_mixed(_mixed(torch.tensor(seed)) + epoch))


def _mixed(z: Tensor) -> Tensor:
    """Scramble int64 numbers, as unsigned ones of 64 bits; overflow wraps around."""
    z = z + (0x9E3779B97F4A7C15 - 2**64)
    z = (z ^ _shifted_right(z, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    z = (z ^ _shifted_right(z, 27)) * (0x94D049BB133111EB - 2**64)
    return z ^ _shifted_right(z, 31)


def _shifted_right(z: Tensor, by: int) -> Tensor:
    return (z >> by) & ((1 << (64 - by)) - 1)  # int64 would draw in copies of its sign


def as_float(images: Tensor) -> Tensor:
    """Return images as float32 from 0 to 1; float images as they are."""
    return images if images.is_floating_point() else images.float().div_(255)


def shifted(
    images: Tensor, down: Tensor, right: Tensor, padding: int, mirrored: Tensor | None = None, border: int = 0
) -> Tensor:
    """Shift each image by whole pixels within a border of zeros (He et al. 2016, section 4.2), and mirror some.

    Args:
        images: (image, channel, y, x) or (signal, channel, time).
        down, right: (image,) from 0 to below 1: where in the range of shifts; `down` is not used for signals.
        padding: px or samples; shifts go from -padding to padding.
        mirrored: (image,) bool, which are mirrored, left to right, after the shift.
        border: what comes in.
    """
    two, width, count = images.ndim == 4, images.shape[-1], len(images)
    padded = pad(images, (padding,) * (4 if two else 2), value=border)
    number = torch.arange(count, device=images.device)
    top, left = ((draw * (2 * padding + 1)).long() for draw in (down, right))
    if mirrored is not None:
        padded = torch.cat([padded, padded.flip(-1)])
        number = number + count * mirrored
        left = torch.where(mirrored, 2 * padding - left, left)
    lines = torch.arange(images.shape[1], device=images.device)  # of one image: rows of pixels, or signals
    if two:
        rows = torch.arange(images.shape[2], device=images.device)
        lines = top[:, None, None] + (lines[:, None] * padded.shape[2] + rows)  # (image, channel, y)
    lines = number.view(-1, *(1,) * (images.ndim - 2)) * (padded[0].numel() // padded.shape[-1]) + lines
    starts = lines * padded.shape[-1] + left.view(-1, *(1,) * (images.ndim - 2))
    # whole rows are copied from where they start, seven times faster than pixel by pixel
    return padded.view(-1).unfold(0, width, 1).index_select(0, starts.flatten()).view(images.shape)


def resampling(start: Tensor, length: Tensor, pixels: int) -> Tensor:
    """Return matrices (image, pixels, pixels) that scale a part of an axis to the whole of it.

    Bilinear, and antialiased where the part is larger than what it is scaled to: triangles as wide as an output
    pixel, weights summing to 1. A part lies inside the axis and may begin between two pixels.

    Args:
        start, length: (image,) of the part, px.
        pixels: of the axis, before and after.
    """
    place = torch.arange(pixels, device=start.device)
    scale = (length / pixels)[:, None]
    centre = start[:, None] + (place + 0.5) * scale - 0.5
    width = scale.clamp(min=1)[..., None]
    weights = (1 - (place - centre.clamp(0, pixels - 1)[..., None]).abs() / width).clamp(min=0)
    return weights / weights.sum(-1, keepdim=True)


def nearest(start: Tensor, length: Tensor, pixels: int) -> Tensor:
    """Return (image, pixels) int64: in which pixel the middle of each one lies when a part is scaled to the whole axis.

    Args: as of `resampling`.
    """
    place = torch.arange(pixels, device=start.device)
    return (start[:, None] + (place + 0.5) * (length / pixels)[:, None]).floor().long().clamp(0, pixels - 1)


def coloured(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Multiply each image's brightness, contrast and saturation by its factor, (image,); the result stays in 0 to 1.

    Contrast is about the mean grey of the image, saturation about the grey of each pixel and only of colour images.
    """
    wide = (-1, *(1,) * (images.ndim - 1))
    images = images * brightness.view(wide)
    colour = images.shape[1] == 3
    grey = _grey(images) if colour else images.mean(1, keepdim=True)
    mean = grey.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
    images = mean + (images - mean) * contrast.view(wide)
    if colour:
        grey = _grey(images)
        images = grey + (images - grey) * saturation.view(wide)
    return images.clamp(0, 1)


def _grey(images: Tensor) -> Tensor:
    weights = torch.tensor(GREY, dtype=images.dtype, device=images.device)
    return (images * weights.view(3, *(1,) * (images.ndim - 2))).sum(1, keepdim=True)
