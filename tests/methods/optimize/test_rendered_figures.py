"""Figures of moved capsules: every picture stands in its place, one that is missing is hatched."""

import numpy as np

from cnnprobe.methods.optimize.rendered import OFFSETS
from cnnprobe.methods.optimize.rendered_figures import loop, strips


def test_a_row_is_the_image_and_a_picture_for_each_step():
    images = np.random.default_rng(0).random((2, len(OFFSETS), 1, 6, 4)).astype(np.float32)
    images[1, 3] = np.nan
    made = strips(
        np.zeros((2, 1, 6, 4), np.uint8), images, OFFSETS, ["disc\nslope 1", "ring\nslope 0"], "moved", "dimensions"
    )
    (ax,) = made.axes
    assert len(ax.images) == 2 * 12 - 1 and len(ax.patches) == 1
    assert {"image", "-0.25", "0", "+0.25", "disc\nslope 1"} <= {text.get_text() for text in ax.texts}


def test_what_comes_back_is_drawn_over_what_changes():
    made = loop(np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.5, np.nan]), [1], "loop", "components")
    grey, marked = made.axes[0].lines[2:]
    assert grey.get_xdata().tolist() == [0.1, 0.3] and marked.get_ydata().tolist() == [0.5]
