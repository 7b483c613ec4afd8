"""Slices through maps of a brain: the similarity of each place to each layer, all layers on one scale."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from cnnprobe.plots import style
from cnnprobe.plots.canvas import footer, largest

GROUND = ListedColormap([(1, 1, 1, 0), "#e4e4e4"])
"""Of voxels outside the brain, and of those inside."""
LEVEL = 0.05
SMALLEST, WIDEST = 0.75, 1.5
"""Width of a slice, inches."""


def upright(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn volumes (…, x, y, z) so that their axes go right, front and up, by exchanging and reversing axes only.

    Returns:
        the volumes, and their affine (4, 4).
    """
    left, axes = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).copy(), np.zeros(3, int)
    for _ in range(3):  # the axis that points best along one of right, front and up goes there
        world, axis = np.unravel_index(left.argmax(), (3, 3))
        axes[world] = axis
        left[world], left[:, axis] = -1, -1
    turn = np.zeros((4, 4))
    turn[axes, range(3)], turn[3, 3] = 1, 1
    first = values.ndim - 3
    turned = values.transpose(*range(first), *(first + axes))
    made = affine @ turn
    for world in range(3):
        if made[world, world] < 0:
            made[:3, 3] += made[:3, world] * (turned.shape[first + world] - 1)
            made[:, world] *= -1
            turned = np.flip(turned, first + world)
    return turned, made


def chosen(maps: np.ndarray, most: int) -> list[int]:
    """Return the slices (along the last axis) that are shown of maps (map, x, y, z): those with the peaks of the maps,
    the highest first, and between them others, so that the whole is covered evenly; in order."""
    there = np.flatnonzero(np.isfinite(maps).any((0, 1, 2)))
    if len(there) <= most:
        return there.tolist()
    height = np.where(np.isfinite(maps), maps, -np.inf).max((1, 2))  # (map, slice)
    order = [one for one in np.argsort(-height.max(1), kind="stable") if np.isfinite(height[one].max())]
    peaks = [int(height[one].argmax()) for one in order]
    found = list(dict.fromkeys(peaks))[: most // 2]
    while len(found) < most:  # the slice that is farthest from those there
        away = np.abs(there[:, None] - found).min(1)
        found.append(int(there[away.argmax()]))
    return sorted(found)


def searchlight_slices(
    maps: np.ndarray,
    labels: Sequence[str],
    affine: np.ndarray,
    title: str,
    measure: str,
    *,
    p: np.ndarray | None = None,
    inside: np.ndarray | None = None,
    most: int = 8,
) -> Figure:
    """Draw the same slices of every layer's map, in one scale; a ring marks the largest value of a map.

    Args:
        maps: (layer, x, y, z); NaN: not searched.
        labels: (layer,) names.
        affine: (4, 4), from voxels to mm.
        title: above everything.
        measure: what the colours are, e.g. "Spearman's ρ".
        p: (layer, x, y, z); places below 0.05 are outlined.
        inside: (x, y, z) voxels of the brain, drawn grey where nothing was searched.
        most: slices at most.
    """
    turned, turned_affine = upright(maps, affine)
    ground = None if inside is None else upright(inside, affine)[0]
    outlined = None if p is None else upright(p, affine)[0] < LEVEL
    slices = chosen(turned, most)
    if not slices:
        return style.figure(4.5, 0.3, f"{title}\nno sphere lies inside the mask")
    made, panels = _grid(len(labels), slices, turned, turned_affine, title)
    limit = largest(turned) or 1.0
    sides = np.sqrt((turned_affine[:3, :3] ** 2).sum(0))
    for row, (one, label) in enumerate(zip(turned, labels)):
        peak = tuple(map(int, np.unravel_index(np.nanargmax(one), one.shape))) if np.isfinite(one).any() else None
        for ax, z in zip(panels[row], slices):
            if ground is not None:
                ax.imshow(ground[..., z].T, cmap=GROUND, vmin=0, vmax=1, origin="lower", interpolation="nearest")
            look = {"cmap": style.DIVERGING, "vmin": -limit, "vmax": limit, "interpolation": "nearest"}
            ax.imshow(one[..., z].T, origin="lower", aspect=sides[1] / sides[0], **look)
            if outlined is not None and outlined[row, ..., z].any():
                ax.contour(outlined[row, ..., z].T.astype(float), [0.5], colors="black", linewidths=0.6)
            if peak is not None and peak[2] == z:
                ax.plot(peak[0], peak[1], "o", markersize=6, fillstyle="none", color="black", markeredgewidth=0.9)
        _label(panels[row, 0], label, one, peak, turned_affine)
    scale = ScalarMappable(Normalize(-limit, limit), style.DIVERGING)
    bar = made.colorbar(scale, ax=panels, shrink=min(1.0, 1.6 / len(labels) + 0.3), pad=0.01, aspect=18)
    bar.set_label(measure, fontsize=7)
    bar.ax.tick_params(labelsize=6)
    told = "" if outlined is None else f"{'outlined' if outlined.any() else 'no place'}: p < {LEVEL}, corrected"
    _legend(made, sides, "ring: largest value", told, "" if ground is None else "grey: in the mask, not searched")
    return made


def closest_layer(
    maps: np.ndarray, labels: Sequence[str], affine: np.ndarray, title: str, *, p: np.ndarray | None = None,
    inside: np.ndarray | None = None, most: int = 8,
) -> Figure:  # fmt: skip
    """Draw for every place which layer it is most like, where that is significant, or so high that chance is unlikely.

    Where there is no p, the negative values show what chance gives: only higher ones are drawn.

    See `searchlight_slices` for the arguments.
    """
    turned, turned_affine = upright(maps, affine)
    ground = None if inside is None else upright(inside, affine)[0]
    slices = chosen(turned, most)
    if not slices:
        return style.figure(4.5, 0.3, f"{title}\nno sphere lies inside the mask")
    filled = np.where(np.isfinite(turned), turned, -np.inf)
    best = filled.argmax(0).astype(float)
    if p is None:
        shown = filled.max(0) > -np.min(turned, initial=0.0, where=np.isfinite(turned))
    else:
        shown = np.take_along_axis(upright(p, affine)[0], best.astype(int)[None], 0)[0] < LEVEL
    best[~shown] = np.nan
    made, panels = _grid(1, slices, turned, turned_affine, title)
    colours = [style.by_depth(place, len(labels)) for place in range(len(labels))]
    sides = np.sqrt((turned_affine[:3, :3] ** 2).sum(0))
    for ax, z in zip(panels[0], slices):
        if ground is not None:
            ax.imshow(ground[..., z].T, cmap=GROUND, vmin=0, vmax=1, origin="lower", interpolation="nearest")
        look = {"cmap": ListedColormap(colours), "vmin": -0.5, "vmax": len(labels) - 0.5, "interpolation": "nearest"}
        ax.imshow(best[..., z].T, origin="lower", aspect=sides[1] / sides[0], **look)
    _label(panels[0, 0], "closest layer", turned[0], None, turned_affine)
    counts = [int((best == place).sum()) for place in range(len(labels))]
    for colour, label, count in zip(colours, labels, counts):
        panels[0, 0].plot([], [], "s", color=colour, markersize=5, label=f"{style.plain(label, 24)}: {count} voxels")
    made.legend(loc="outside right center", fontsize=6, frameon=False)
    _legend(
        made,
        sides,
        "coloured where a value is further from 0 than any negative one"
        if p is None
        else f"coloured: p < {LEVEL}, corrected",
    )
    return made


def _grid(
    rows: int, slices: Sequence[int], maps: np.ndarray, affine: np.ndarray, title: str
) -> tuple[Figure, np.ndarray]:
    """Return a figure with a panel for each map and slice, (row, slice), the heights of the slices above them."""
    sides = np.sqrt((affine[:3, :3] ** 2).sum(0))
    wide = float(np.clip(9.0 / len(slices), SMALLEST, WIDEST))
    high = wide * maps.shape[-2] * sides[1] / (maps.shape[-3] * sides[0])
    made = style.figure(wide * len(slices) + 2.6, min(40.0, (high + 0.05) * rows + 0.5), title)
    panels = made.subplots(rows, len(slices), squeeze=False)
    for ax in panels.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    middle = np.array(maps.shape[-3:]) / 2
    for ax, z in zip(panels[0], slices):
        height = (affine @ [middle[0], middle[1], z, 1])[2]
        ax.set_title(f"z = {style.number(height)} mm", fontsize=7)
    for word, x in (("L", 0.02), ("R", 0.98)):
        panels[0, 0].text(x, 0.98, word, fontsize=6, ha="left" if word == "L" else "right", va="top",
                          transform=panels[0, 0].transAxes)  # fmt: skip
    return made, panels


def _label(ax: Axes, label: str, values: np.ndarray, peak: tuple[int, ...] | None, affine: np.ndarray) -> None:
    """Write the layer's name left of its slices, and where its largest value lies."""
    words = style.plain(label, most=24)
    if peak is not None:
        at = ", ".join(style.number(side) for side in (affine @ [*peak, 1])[:3])
        words += f"\npeak {style.number(values[peak])}\n({at}) mm"
    elif not np.isfinite(values).any():
        words += "\nnot defined"
    ax.set_ylabel(words, fontsize=6.5, rotation=0, ha="right", va="center")


def _legend(made: Figure, sides: np.ndarray, *remarks: str) -> None:
    size = " × ".join(style.number(side) for side in sides)
    footer(made, [f"voxels of {size} mm (x × y × z); front at the top", *remarks])
