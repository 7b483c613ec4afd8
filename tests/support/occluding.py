"""What tests of occlusion share: both engines side by side, a plain loop, and which occluders miss a field."""

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.activations import activations
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.windows.occluders import Grid
from cnnprobe.methods.rf_map.occlusion import Occlusion


def measured(model: nn.Module, layer: Layer, grid: Grid, image: Tensor, filled: Tensor, units, sites, reading, **how):
    """Measure discrepancies (n, draw, row, column); return them with the `Occlusion`."""
    occlusion = Occlusion(model, layer, tuple(image.shape), grid, **how)
    with occlusion:
        return occlusion.discrepancies(image, filled, units, sites, reading), occlusion


def by_windows(*asked, **how) -> np.ndarray:
    """Measure with windows: that they were not given up is made sure."""
    found, occlusion = measured(*asked, **how)
    assert occlusion.engine == "windows"
    return found


def by_brute_force(*asked, **how) -> np.ndarray:
    """Measure with whole passes of the network."""
    found, occlusion = measured(*asked, engine="brute force", **how)
    assert occlusion.engine == "brute force: asked for"
    return found


def by_loop(model, layer, grid: Grid, image, filled, units, sites, reading) -> np.ndarray:
    """Measure one occluder at a time, in plain words."""
    clean = activations(model, [layer], image[None].clone())[layer.name][0].numpy()
    found = np.zeros((len(units), len(filled), *grid.shape))
    for draw, row, column in np.ndindex(found.shape[1:]):
        copy, (top, left) = image.clone(), (row * grid.stride, column * grid.stride)
        hole = (slice(None), slice(top, top + grid.patch), slice(left, left + grid.patch))
        copy[hole] = filled[draw][hole]
        occluded = activations(model, [layer], copy[None])[layer.name][0].numpy()
        for n, unit in enumerate(units):
            before, after = clean[unit], occluded[unit]
            found[n, draw, row, column] = {
                "site": before[tuple(sites[n])] - after[tuple(sites[n])],
                "max": before.max() - after.max(),
                "mean": before.mean() - after.mean(),
                "anywhere": (before - after).max(),
            }[reading]
    return found


def scale(model: nn.Module, layer: Layer, image: Tensor) -> float:
    """Return the largest response of a layer."""
    return float(activations(model, [layer], image[None].clone())[layer.name].abs().max())


def misses(layer: Layer, grid: Grid, sites) -> np.ndarray:
    """Say which occluders do not meet the theoretical field of each site, (n, row, column); pixel by pixel."""
    found = np.zeros((len(sites), *grid.shape), bool)
    for n, site in enumerate(sites):
        seen = np.zeros(grid.sides, bool)
        rows, columns = (slice(max(0, int(np.floor(a))), int(np.ceil(b)) + 1) for a, b in layer.field.region(site))
        if rows.stop > 0 and columns.stop > 0:
            seen[rows, columns] = True
        for row, column in np.ndindex(grid.shape):
            top, left = row * grid.stride, column * grid.stride
            found[n, row, column] = not seen[top : top + grid.patch, left : left + grid.patch].any()
    return found


def textured(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return a network in eval mode with BatchNorm statistics that are not those of an untrained one."""
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=random)
            module.bias.data.uniform_(-0.3, 0.5, generator=random)
            module.running_mean.uniform_(-0.3, 0.3, generator=random)
            module.running_var.uniform_(0.5, 2, generator=random)
    return model.eval()
