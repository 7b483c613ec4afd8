"""Matrices with named rows and columns: which classes are mistaken for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnprobe.plots.style import SERIES, apart, figure, shades

NAMED = 40
"""Up to so many classes each one is named, beyond their index stands."""
COUNTED = 20
"""Up to so many classes the number of images stands in each cell."""


def confusion_matrix(
    counts: np.ndarray, classes: Sequence[str], title: str = "", overlap: np.ndarray | None = None
) -> Figure:
    """Draw counts by true and predicted class, shaded by the share of the true class, and how well each class is found.

    Args:
        counts: (true, predicted) images, or pixels.
        classes: names of the classes.
        title: above everything.
        overlap: (class,) intersection over union, of pixels: drawn in the place of accuracies, and shares in that of
            counts.
    """
    size = len(classes)
    totals = counts.sum(1)
    share = np.divide(counts, totals[:, None], out=np.zeros(counts.shape), where=totals[:, None] > 0)
    side = min(max(2.6, 0.42 * size), 8.0)
    made = figure(side + 2.8, side + 1.2, title)
    axes, bars = made.subplots(1, 2, width_ratios=(side, 1.1), sharey=True)
    axes.imshow(share, cmap=shades("Blues"), vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    if size <= COUNTED:
        _write_counts(axes, counts, share, shares=overlap is not None)
    _name(axes, classes)
    total = int(counts.sum())
    if overlap is not None:
        _bars(bars, overlap, [f"{one:.3f}" if np.isfinite(one) else "nowhere" for one in overlap], size <= NAMED)
        bars.set_title("intersection\nover union", fontsize=8)
        axes.set_title(f"{total:,} pixels: % of each true class", fontsize=8)
        return made
    words = [f"{value:.3f}" if one else "no images" for value, one in zip(np.diag(share), totals)]
    _bars(bars, np.diag(share), words, size <= NAMED)
    bars.set_title("class accuracy", fontsize=8)
    right = int(np.trace(counts))
    overall = f"{right} of {total} right: {right / total:.3f}" if total else "no images"
    axes.set_title(overall, fontsize=8)
    return made


def _write_counts(axes: Axes, counts: np.ndarray, share: np.ndarray, shares: bool) -> None:
    """Write the counts into the cells, or the shares in percent."""
    for (row, column), count in np.ndenumerate(counts):
        shade = "white" if share[row, column] > 0.6 else "0.15" if count else "0.7"
        words = _percent(float(share[row, column])) if shares else str(int(count))
        axes.text(column, row, words, ha="center", va="center", fontsize=7, color=shade)


def _percent(share: float) -> str:
    """Return a share in percent, as short as a cell is: one digit behind the point below 10."""
    percent = 100 * share
    return "<0.1" if 0 < percent < 0.05 else f"{percent:.1f}" if 0 < percent < 9.95 else f"{percent:.0f}"


def _name(axes: Axes, classes: Sequence[str]) -> None:
    axes.set_xlabel("prediction", fontsize=8)
    axes.set_ylabel("truth", fontsize=8)
    axes.tick_params(labelsize=7, length=0)
    if len(classes) > NAMED:
        return
    names = apart(classes, most=18)
    upright = max(map(len, names)) > 4 and len(names) > 3
    places = range(len(names))
    axes.set_xticks(places, names, rotation=45 if upright else 0, ha="right" if upright else "center")
    axes.set_yticks(places, names)


def _bars(axes: Axes, values: np.ndarray, words: Sequence[str], write: bool) -> None:
    """Draw a share of each class beside its row, and write it."""
    places = np.arange(len(values))
    axes.barh(places, np.nan_to_num(values), height=0.8, color=SERIES[0], alpha=0.35)
    axes.set_xlim(0, 1)
    axes.tick_params(labelsize=7, length=0, labelleft=False)
    axes.set_xticks([0, 1], ["0", "1"])
    axes.spines[["top", "right", "left"]].set_visible(False)
    if write:
        for place, text in zip(places, words):
            axes.text(0.04, place, text, va="center", fontsize=7)
