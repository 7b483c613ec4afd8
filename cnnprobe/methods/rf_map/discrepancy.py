"""The discrepancy, clean minus occluded: the one number read off a unit's map when the image is occluded.

    site      at one position of the map, that of the clean maximum; nothing outside its theoretical field acts on it
    max       maximum of the map
    mean      mean of the map
    anywhere  largest drop at any position

Zhou et al. 2015 (section 3.2) leave open which is theirs; `site` is confined to one field, the others are not.
"""

import math

import numpy as np
import torch
from torch import Tensor

from cnnprobe.instruments.windows.spans import Stretch

READINGS = ("site", "max", "mean", "anywhere")


def read(reading: str, clean: Tensor, occluded: Tensor, units: Tensor, places: Tensor) -> Tensor:
    """Return discrepancies from whole maps.

    Args:
        reading: one of `READINGS`.
        clean: (channel, position) of the clean image.
        occluded: (occluder, channel, position).
        units: (n,) channels.
        places: (n,) flat positions, for `site`.

    Returns:
        (occluder, n).
    """
    if reading == "site":
        return clean[units, places] - occluded[:, units, places]
    if reading == "max":
        return clean[units].amax(-1) - occluded[:, units].amax(-1)
    if reading == "mean":
        return (clean[units] - occluded[:, units]).mean(-1)
    if reading == "anywhere":
        return (clean[units] - occluded[:, units]).amax(-1)
    raise ValueError(f"reading must be one of {', '.join(READINGS)}, got {reading!r}")


def flat_places(sites: Tensor, map_size: tuple[int, ...]) -> Tensor:
    """Return positions (n, map axis) as flat places (n,)."""
    flat = torch.zeros(len(sites), dtype=torch.int64)
    for axis, side in enumerate(map_size):
        flat = flat * side + sites[:, axis]
    return flat


class WindowReader:
    """Reads discrepancies off changed windows; what lies outside of them is as in the clean image.

    Args:
        reading: one of `READINGS`.
        clean: (channel, y, x) of the clean image.
        units: (n,) channels.
        sites: (n, yx) positions, for `site`.
    """

    def __init__(self, reading: str, clean: Tensor, units: Tensor, sites: Tensor):
        self.reading, self.units, self.sites = reading, units, sites.cpu().numpy()
        self.channels, self.which = torch.unique(units, return_inverse=True)
        self.clean = clean[self.channels] if reading == "max" else None
        self.side = tuple(clean.shape[1:])

    def read(self, first: tuple[np.ndarray, np.ndarray], changed: tuple[Stretch, Stretch], changes: Tensor) -> Tensor:
        """Return (draw, row, column, n).

        Args:
            first: where the windows begin: (row,) and (column,).
            changed: (first, stop) of the part of each window that can have changed, per axis.
            changes: (draw, row, column, y, x, channel) occluded minus clean.
        """
        if self.reading == "site":
            return self._sites(first, changed, changes)
        if len(self.channels) < changes.shape[-1]:
            changes = changes.index_select(-1, self.channels)
        if self.reading == "mean":
            found = changes.sum((3, 4)) / -math.prod(self.side)
        elif self.reading == "anywhere":
            found = -changes.amin((3, 4))
            if changes.shape[3:5] != self.side:
                found = found.clamp_min(0)  # nothing changes outside
        else:
            found = self._largest(first, changes)
        return found[..., self.which]

    def _sites(self, first: tuple[np.ndarray, np.ndarray], changed: tuple[Stretch, Stretch], changes: Tensor) -> Tensor:
        """Read one position of each window, 0 where it cannot have changed (there rounding may differ)."""
        width = changes.shape[4]
        rows, columns = (self.sites[None, :, axis] - at[:, None] for axis, at in enumerate(first))  # (occluder, n)
        within = [
            (self.sites[None, :, axis] >= low[:, None]) & (self.sites[None, :, axis] < high[:, None])
            for axis, (low, high) in enumerate(changed)
        ]
        inside = within[0][:, None] & within[1][None]
        index = np.where(inside, rows[:, None] * width + columns[None], 0)  # (row, column, n)
        index = (index * changes.shape[5] + self.units.cpu().numpy()).astype(np.int64)
        flat = changes.flatten(3)
        found = flat.gather(3, torch.from_numpy(index).to(flat.device).expand(len(flat), *index.shape))
        return torch.where(torch.from_numpy(inside).to(flat.device), -found, found.new_zeros(()))

    def _largest(self, first: tuple[np.ndarray, np.ndarray], changes: Tensor) -> Tensor:
        """Compare the maxima: of the window as it is now, and of the clean map around it."""
        height, width = changes.shape[3:5]
        rows, columns = (torch.from_numpy(np.ascontiguousarray(at)).to(changes.device) for at in first)
        within = rows[:, None] + torch.arange(height, device=rows.device)
        across = columns[:, None] + torch.arange(width, device=rows.device)
        assert self.clean is not None  # kept for this reading
        maps = self.clean.permute(1, 2, 0)  # (y, x, channel)
        clean = maps[within[:, None, :, None], across[None, :, None, :]]  # (row, column, y, x, channel)
        now = (clean + changes).amax((3, 4))
        around = self._around(maps, rows, columns, height, width)
        return maps.amax((0, 1)) - torch.maximum(now, around)

    @staticmethod
    def _around(maps: Tensor, rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
        """Return the clean maximum outside of each window, (row, column, channel); -inf where there is nothing."""
        above, below = _running(maps.amax(1))
        outside = torch.maximum(above[rows], below[rows + height])  # (row, channel)
        within = rows[:, None] + torch.arange(height, device=rows.device)
        left, right = _running(maps[within].amax(1).transpose(0, 1))  # along x: (x, row, channel)
        beside = torch.maximum(left[columns], right[columns + width]).transpose(0, 1)
        return torch.maximum(outside[:, None], beside)


def _running(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima of what stands before each place, and of what stands from it on; both one longer."""
    nothing = values.new_full((1, *values.shape[1:]), -torch.inf)
    before = torch.cat([nothing, values.cummax(0).values])
    after = torch.cat([values.flip(0).cummax(0).values.flip(0), nothing])
    return before, after
