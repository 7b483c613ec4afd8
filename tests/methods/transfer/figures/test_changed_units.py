"""The two rows of a changed unit: pictures, fields on one scale, what is missing."""

import numpy as np
from matplotlib.image import AxesImage

from cnnprobe.methods.transfer.figures.changed_units import before_and_after
from cnnprobe.plots.style import png

NAN = np.nan


def columns(side=9):
    made = {}
    for end, peak in (("before", 4.0), ("after", -2.0)):
        field = np.zeros((1, 2 * side - 1, 2 * side - 1))
        field[0, side - 1, side - 1] = peak
        made |= {
            f"field_{end}": field, f"size_{end}": np.array([1.0]), f"response_{end}": np.array([[2.0, NAN]]),
            f"picture_{end}": np.full((1, 2, 3, side, side), 100, np.uint8),
            f"preferred_{end}": np.full((1, 3, side, side), 0.25), f"preferred_response_{end}": np.array([3.5]),
        }  # fmt: skip
    return made


def test_both_fields_have_one_scale_and_are_cut_to_their_box():
    ax = before_and_after(columns(), ["conv1 3"], np.array([[5.0, 5.0]]), "").axes[0]
    fields = [image for image in ax.images if image.get_array().ndim == 2]
    assert [image.get_clim() for image in fields] == [(-4, 4), (-4, 4)]
    assert [image.get_array().shape for image in fields] == [(9, 9), (9, 9)]  # 1.3 times 5, on both sides of the middle
    assert [float(image.get_array()[4, 4]) for image in fields] == [4, -2]
    assert sum(isinstance(image, AxesImage) for image in ax.images) == 2 * 3  # one picture, field, preferred image


def test_a_silent_unit_and_a_failed_image_are_said():
    given = columns()
    given["response_after"][:] = NAN
    given["preferred_after"][:] = NAN
    given["field_after"][:] = NAN
    made = before_and_after(given, ["conv1 3"], np.array([[50.0, 50.0]]), "")
    words = [text.get_text() for text in made.axes[0].texts]
    assert {"silent", "none", "no field", "before", "after"} <= set(words)
    assert png(made)


def test_no_unit():
    empty = {name: values[:0] for name, values in columns().items()}
    assert png(before_and_after(empty, [], np.zeros((0, 2)), "net"))
