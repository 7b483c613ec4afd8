"""Small random changes of an image before it is shown, so that what is found does not depend on single pixels.

Pad, jitter, scale, rotate, jitter (Olah, Mordvintsev, Schubert 2017) are one sampling of the image, bilinear, with an
affine map of its own for every row; amounts in pixels are those for an image of 224 px and are brought to the image's
size. The random numbers of a row belong to it alone: what it is shown does not depend on the rows beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

REFERENCE = 224
"""Side of the images for which amounts in pixels are given."""
SMALL, SMALL_ANGLE = 64, 5.0
"""Images of this side and less are not rotated by more than this, degrees: a few pixels are all they have."""
_NUMBERS = 6  # jitter y x, scale, angle, second jitter y x
_CROP = 3  # side, centre y x


@dataclass(frozen=True)
class Transforms:
    """What is done to an image before each pass.

    Args:
        pad: grey border, px; 0: the pixels of the edge go on beyond it.
        jitter: range of the shift along each axis, px: half of it to either side.
        scales: factors, one of which is drawn.
        angles: degrees, one of which is drawn.
        jitter_after: range of a second shift, after scaling and rotating, px.
        crop: least and largest side of a square crop, share of the image's side; it is shown at the image's size. Its
            centre is drawn about the middle, standard deviation 0.15 of the side (Fel et al. 2023).
        noise: standard deviation of normal noise, and range of uniform noise, added to the pixels.
    """

    pad: float = 0
    jitter: float = 0
    scales: tuple[float, ...] = (1.0,)
    angles: tuple[float, ...] = (0.0,)
    jitter_after: float = 0
    crop: tuple[float, float] | None = None
    noise: float = 0

    @property
    def none(self) -> bool:
        """Whether an image is left as it is."""
        moved = self.jitter or self.jitter_after or self.crop or self.noise
        return not moved and set(self.scales) == {1.0} and set(self.angles) == {0.0}

    def draws(self, randoms: Sequence[np.random.Generator], steps: int, sides: tuple[int, ...]) -> Tensor:
        """Draw affine maps for every step.

        Args:
            randoms: by row.
            steps: how many draws.
            sides: (y, x) or (time,) of the images; a signal is shifted and nothing else.

        Returns:
            (steps, row, 2, 3), from coordinates of the result to those of the image, -1 to 1 as in
            `torch.nn.functional.affine_grid`.
        """
        numbers = np.stack([random.random((steps, _NUMBERS + _CROP)) for random in randoms], axis=1)
        amount = min(sides) / REFERENCE
        first, second = (numbers[..., place] - 0.5 for place in (slice(0, 2), slice(4, 6)))
        first, second = first * self.jitter * amount, second * self.jitter_after * amount  # (steps, row, yx) px
        zoom = 1 / _chosen(self.scales, numbers[..., 2])
        angle = np.radians(_chosen(self._angles(sides), numbers[..., 3]))
        if self.crop is not None:
            low, high = self.crop
            side = low + (high - low) * numbers[..., 6]
            zoom = zoom * side
            spread = 0.15 * np.sqrt(12) * (numbers[..., 7:9] - 0.5)  # uniform, of standard deviation 0.15
            room = ((1 - side) / 2)[..., None]
            first = first + np.clip(spread, -room, room) * np.array([sides[0], sides[-1]])
        if len(sides) == 1:
            first[..., 0] = second[..., 0] = 0
            zoom, angle = np.ones_like(zoom), np.zeros_like(angle)
        return torch.from_numpy(_affine(zoom, angle, first, second, sides)).float()

    def _angles(self, sides: tuple[int, ...]) -> tuple[float, ...]:
        largest = max(map(abs, self.angles))
        if min(sides) > SMALL or largest <= SMALL_ANGLE:
            return self.angles
        return tuple(angle * SMALL_ANGLE / largest for angle in self.angles)

    def apply(self, images: Tensor, maps: Tensor, grey: float, noises: Sequence[int] | np.ndarray = ()) -> Tensor:
        """Show images through affine maps.

        Args:
            images: (row, channel, y, x) or (row, channel, time).
            maps: (row, 2, 3), see `draws`.
            grey: value beyond the border.
            noises: by row, where there is noise: the seed of this image's.

        Returns:
            the same shape.
        """
        flat = images.dim() == 3
        pictures = images[:, :, None] if flat else images
        grid = _grid(maps, *pictures.shape[2:])
        if self.pad:
            shown = functional.grid_sample(pictures - grey, grid, padding_mode="zeros", align_corners=False) + grey
        else:
            shown = functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
        shown = shown[:, :, 0] if flat else shown
        return shown + self._noise(shown, noises) if self.noise else shown

    def _noise(self, shown: Tensor, noises: Sequence[int] | np.ndarray) -> Tensor:
        made = [
            torch.randn(shown.shape[1:], generator=one) + torch.rand(shown.shape[1:], generator=one) - 0.5
            for one in (torch.Generator().manual_seed(int(seed)) for seed in noises)
        ]
        return self.noise * torch.stack(made).to(shown.device)


def _grid(maps: Tensor, height: int, width: int) -> Tensor:
    """Return what `affine_grid` does, (row, y, x, 2), in a third of the time."""
    y, x = ((2 * torch.arange(side, device=maps.device) + 1) / side - 1 for side in (height, width))
    grid = maps.new_empty(len(maps), height, width, 2)
    for axis in range(2):
        along, across, shift = maps[:, axis, :, None].unbind(1)  # (row, 1) each
        torch.add((along * x)[:, None, :], (across * y + shift)[:, :, None], out=grid[..., axis])
    return grid


def _chosen(values: tuple[float, ...], numbers: np.ndarray) -> np.ndarray:
    """Choose one of some values by numbers from 0 to 1."""
    return np.array(values)[np.minimum((numbers * len(values)).astype(int), len(values) - 1)]


def _affine(
    zoom: np.ndarray, angle: np.ndarray, first: np.ndarray, second: np.ndarray, sides: tuple[int, ...]
) -> np.ndarray:
    """Return maps (…, 2, 3): place of the result, plus `second`, turned and zoomed about the middle, plus `first`."""
    height, width = (1, sides[0]) if len(sides) == 1 else sides
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    shift_y = cosine * second[..., 0] + sine * second[..., 1] + first[..., 0]
    shift_x = cosine * second[..., 1] - sine * second[..., 0] + first[..., 1]
    maps = np.empty((*zoom.shape, 2, 3))
    maps[..., 0, 0], maps[..., 0, 1], maps[..., 0, 2] = cosine, -sine * height / width, 2 * shift_x / width
    maps[..., 1, 0], maps[..., 1, 1], maps[..., 1, 2] = sine * width / height, cosine, 2 * shift_y / height
    return maps
