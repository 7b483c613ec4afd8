"""What is read off a unit's map when the image is occluded, as one number: the discrepancy, clean minus occluded.

    site      at one position of the map, that of the clean maximum; nothing outside its theoretical field acts on it
    max       maximum of the map
    mean      mean of the map
    anywhere  largest drop at any position

(Zhou et al. 2015, section 3.2, do not say which; `max` is theirs as a rule taken, `site` is confined to one field.)
"""

import torch
from torch import Tensor

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
