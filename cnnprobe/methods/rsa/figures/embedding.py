"""Stimuli at their places in a plane: close together where their patterns are similar."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnprobe.plots import style
from cnnprobe.plots.sheet import rgb

PANEL = 4.6
"""Side of a panel, inches."""


def embedding_panels(
    points: Sequence[np.ndarray],
    stress: Sequence[float],
    names: Sequence[str],
    pictures: np.ndarray | None,
    title: str,
    labels: Sequence[str] = (),
) -> Figure:
    """Draw each stimulus where it lies in the plane of each system, two panels in a row.

    Args:
        points: per panel (condition, xy); NaN: has no place.
        stress: per panel, the misfit of distances in the plane.
        names: per panel.
        pictures: (condition, channel, y, x) uint8; None: points with their labels.
        title: of the figure.
        labels: (condition,) where there are no pictures.
    """
    columns = min(2, len(points))
    rows = -(-len(points) // columns)
    made = style.figure(PANEL * columns, (PANEL + 0.2) * rows, title)
    axes = made.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, place, misfit, name in zip(axes.flat, points, stress, names):
        ax.set_title(f"{style.plain(name, 60)}, stress {style.number(misfit)}", fontsize=8)
        known = np.flatnonzero(np.isfinite(place).all(1))
        if not len(known):
            ax.text(0.5, 0.5, "no dissimilarities", transform=ax.transAxes, ha="center", fontsize=8)
        elif pictures is not None and len(pictures) == len(place):
            _pictures(ax, place[known], rgb(pictures[known]))
        else:
            _words(ax, place[known], [labels[row] if len(labels) else str(row) for row in known.tolist()])
    return made


def _pictures(ax: Axes, points: np.ndarray, pictures: np.ndarray) -> None:
    """Draw small pictures; those further down lie in front."""
    low, high = points.min(0), points.max(0)
    reach = max((high - low).max(), 1e-12)
    side = reach * min(0.16, 0.75 / np.sqrt(len(points)))
    tall, wide = np.array(pictures.shape[1:3]) / max(pictures.shape[1:3]) * side / 2
    for row in np.argsort(-points[:, 1], kind="stable"):
        x, y = points[row]
        ax.imshow(pictures[row], extent=(x - wide, x + wide, y - tall, y + tall), interpolation="antialiased", zorder=2)
    middle = (low + high) / 2
    edge = reach / 2 + side
    ax.set(xlim=(middle[0] - edge, middle[0] + edge), ylim=(middle[1] - edge, middle[1] + edge), aspect="equal")


def _words(ax: Axes, points: np.ndarray, labels: Sequence[str]) -> None:
    ax.plot(*points.T, ".", color=style.SERIES[0], markersize=4)
    if len(points) <= 60:
        for (x, y), label in zip(points, labels):
            ax.annotate(style.plain(label, 20), (x, y), (0, 2), textcoords="offset points", ha="center", fontsize=6)
    ax.margins(0.12)
    ax.set_aspect("equal", adjustable="datalim")
