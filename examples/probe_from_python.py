"""Probe a network and an array of images from Python, without a file.

The network has four units, each a filter of one orientation; the images are gratings of twelve orientations. What is
found is what was built in: each unit responds most to the gratings of its own orientation.

    python examples/probe_from_python.py
"""

import numpy as np
import torch
from torch import nn

import cnnprobe

SIDE, CYCLES = 24, 4
ORIENTATIONS = np.arange(0, 180, 15)
"""Of the gratings, degrees."""
BUILT_IN = (0, 45, 90, 135)
"""Of the filters, degrees."""


def grating(degrees: float, phase: float, side: int = SIDE) -> np.ndarray:
    """Return a grating, (1, y, x), values 0 to 1; its bars are orthogonal to the direction `degrees`."""
    y, x = np.mgrid[:side, :side] / SIDE
    along = x * np.cos(np.radians(degrees)) + y * np.sin(np.radians(degrees))
    return (0.5 + 0.5 * np.cos(2 * np.pi * CYCLES * along + phase))[None].astype(np.float32)


def network() -> nn.Module:
    """Return a convolution of four gratings of 12 px, each without its mean, and a rectifier."""
    layer = nn.Conv2d(1, len(BUILT_IN), 12, bias=False)
    filters = np.stack([grating(degrees, 0.0, 12) for degrees in BUILT_IN])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(filters - filters.mean((2, 3), keepdims=True)))
    return nn.Sequential(layer, nn.ReLU()).eval()


def main() -> dict[int, int]:
    """Print, and return, the orientation that each unit responds to most."""
    images = np.stack([grating(degrees, phase) for degrees in ORIENTATIONS for phase in (0.0, 1.5, 3.0)])
    found = {}
    for row in cnnprobe.measure("topk", model=network(), dataset=images, layer="conv1", k=3):
        if row.table == "units/conv1":
            preferred = ORIENTATIONS[row.image // 3]  # three phases of each
            print(f"unit {row.unit}: {preferred[0]} degrees, response {row.response[0]:.1f}")
            found[int(row.unit)] = int(preferred[0])
    return found


if __name__ == "__main__":
    main()
