"""The confusion matrix: truth by rows, prediction by columns, counts as given."""

import numpy as np
import pytest

from cnnprobe.methods.train.matrix_figure import confusion_matrix
from cnnprobe.plots.style import png

COUNTS = np.array([[24821, 1637], [1884, 25714]])  # geometry and landmark, as published for a network of two classes


def words(axes):
    return [text.get_text() for text in axes.texts]


def test_counts_shades_and_accuracies():
    axes, bars = confusion_matrix(COUNTS, ["geometry", "landmark"]).axes
    assert words(axes) == ["24821", "1637", "1884", "25714"]
    assert axes.images[0].get_array()[1, 0] == pytest.approx(1884 / 27598)
    assert words(bars) == ["0.938", "0.932"]
    assert axes.get_title() == "50535 of 54056 right: 0.935"


def test_truth_and_prediction_are_named():
    axes = confusion_matrix(COUNTS, ["geometry", "landmark"]).axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("truth", "prediction")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["geometry", "landmark"]
    assert axes.yaxis_inverted()  # the first class on top


@pytest.mark.parametrize("classes", [2, 21, 41, 300])
def test_any_number_of_classes_is_drawn(classes):
    names = [f"$class_{{{number}}}$ with a long name" for number in range(classes)]
    assert png(confusion_matrix(np.eye(classes, dtype=int), names, title="x"))


def test_classes_without_images_say_so():
    """F81."""
    made = confusion_matrix(np.array([[3, 1], [0, 0]]), ["a", "b"])
    assert words(made.axes[1]) == ["0.750", "no images"]
    assert confusion_matrix(np.zeros((2, 2), dtype=int), ["a", "b"]).axes[0].get_title() == "no images"


def test_pixels_are_written_as_shares_beside_the_overlap_of_each_class():
    counts = np.array([[99968, 32, 0], [300, 700, 0], [0, 0, 0]])
    axes, bars = confusion_matrix(counts, ["background", "a", "b"], "x", np.array([0.99, 0.678, np.nan])).axes
    assert words(axes) == ["100", "<0.1", "0", "30", "70", "0", "0", "0", "0"]
    assert words(bars) == ["0.990", "0.678", "nowhere"] and bars.get_title() == "intersection\nover union"
    assert axes.get_title() == "101,000 pixels: % of each true class"
    assert [bar.get_width() for bar in bars.patches] == [0.99, 0.678, 0]
