"""Figures of record: what is drawn is what was stored, the worst image first."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection

import cnnprobe
from cnnprobe.methods.record import figures, method
from cnnprobe.plots.style import png
from tests.support.files.stores import recorded
from tests.support.images.targeted import NAMES, masked, moving, several, tracked
from tests.support.networks.segmenting import Bright, Coursing, Filtering, Pooled, Segmenting


def recording(tmp_path, model, dataset, **more):
    options = {"model": model.eval(), "dataset": dataset, "device": "cpu", "workers": 0}
    return recorded(tmp_path / "store.h5", cnnprobe.measure("record", **options | more))


def test_maps_are_outlined_the_worst_first(tmp_path):
    made = recording(tmp_path, Segmenting(), masked())
    drawn = dict(method.draw(made))
    assert list(drawn) == ["images", "classes", "borders"]
    assert all(png(one).startswith(b"\x89PNG") for one in drawn.values())
    (axes,) = drawn["images"].axes
    said = [text.get_text() for text in axes.texts]
    values = np.sort(made["images"]["iou"])
    assert said == [f"IoU {one:.2f}" if np.isfinite(one) else "IoU: none" for one in values]
    lines = [one for one in axes.collections if isinstance(one, LineCollection)]
    assert len(lines) == 12 * 4  # true and predicted, each with its edges
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["true", "predicted"]


def test_shares_by_distance_are_those_of_pixels_that_are_wrong_at_the_border_alone(tmp_path):
    """The network knows the rule of the masks but for the outermost pixels, where it always says background."""
    dataset = masked()

    class Blind(Bright):
        def forward(self, images):
            found = super().forward(images).clone()
            for rim in (found[:, :, 0], found[:, :, -1], found[..., 0], found[..., -1]):
                rim[:, 0], rim[:, 1] = 1, 0
            return found

    made = recording(tmp_path, Blind(0.6, cut=0), dataset)
    left, right = dict(method.draw(made))["borders"].axes
    overlap, share, floor = (line.get_ydata() for line in left.lines)
    assert (overlap[1:] == 1).all() and share[0] == floor[0] < 1 and (share[1:] == 1).all()
    outside = next(line for line in right.lines if line.get_label() == "outside (background)")
    assert (outside.get_ydata()[np.isfinite(outside.get_ydata())] == 1).all()
    made = recording(tmp_path, Bright(0.6, cut=2), dataset)
    left, _ = dict(method.draw(made))["borders"].axes
    assert np.isnan(left.lines[0].get_ydata()[:2]).all() and (left.lines[0].get_ydata()[2:] == 1).all()
    assert [text.get_text() for text in left.get_legend().get_texts()][-1] == "not answered"


def test_several_classes_are_named_and_framed_where_not_all_come_first(tmp_path):
    made = recording(tmp_path, Pooled(), several(), classes=NAMES)
    drawn = dict(method.draw(made))
    assert list(drawn) == ["images", "classes"]
    (axes,) = drawn["images"].axes
    assert len(axes.patches) == (made["images"]["all_found"][:] == 0).sum() > 0
    words = [text.get_text() for text in axes.texts]
    assert any(word == "none" for word in words) == (~made["images"]["present"][:].any(1)).any()
    assert drawn["classes"].axes[0].get_xlabel() == "average precision"


@pytest.mark.parametrize(("model", "dataset", "words", "last"), [
    (Coursing(), moving(), "time (samples)", 11), (Filtering(), tracked(), "time (s)", 0.49),
])  # fmt: skip
def test_courses_are_drawn_beside_the_true_ones_in_their_unit(tmp_path, model, dataset, words, last):
    made = recording(tmp_path, model, dataset)
    drawn = dict(method.draw(made))
    assert list(drawn) == ["images", "courses", "channels"]
    panels = drawn["courses"].axes
    assert len(panels) == 2 * figures.COURSES
    assert panels[-1].get_xlabel() == words
    true, own = panels[0].lines
    assert true.get_xdata()[-1] == pytest.approx(last)
    image = int(panels[0].get_title().split(",")[0].removeprefix("image "))
    np.testing.assert_array_equal(true.get_ydata(), made["pictures"]["truth"][image, 0])
    np.testing.assert_array_equal(own.get_ydata(), made["pictures"]["answer"][image, 0])
