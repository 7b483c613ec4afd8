import numpy as np
import pytest
from matplotlib.collections import LineCollection

from cnnprobe.plots.traces import captioned_traces, spans_of, unit_traces

FIELD = {"field_start": [-2.0], "field_stride": [3.0], "field_size": [25.0], "image_size": [2, 100]}


def curves(made):
    return [each for each in made.axes[0].collections if isinstance(each, LineCollection)]


def test_a_field_is_shaded_where_the_unit_looks():
    positions = np.array([[[4], [-1]], [[0], [30]]])
    spans = spans_of(positions, 100, FIELD)
    assert spans[0, 0].tolist() == [10, 35]  # -2 + 4 x 3, and 25 further
    assert np.isnan(spans[0, 1]).all()
    assert spans[1].tolist() == [[0, 23], [88, 100]]  # cut at both ends
    assert spans_of(positions, 50, FIELD)[0, 0].tolist() == [5, 17.5]  # shown with half as many samples
    assert np.isnan(spans_of(positions, 100, FIELD | {"field_stride": [0.0]})).all()


def test_every_channel_is_a_curve_and_nothing_is_left_empty():
    signals = np.random.default_rng(0).normal(size=(3, 2, 5, 40)).astype(np.float32)
    signals[1, 1] = np.nan
    made = unit_traces(signals, ["0\n1", "1\n2", "2\n3"], np.full((3, 2, 2), np.nan), "title")
    assert [len(one.get_segments()) for one in curves(made)] == [5] * 5


def test_a_curve_lies_in_its_own_band():
    signal = np.zeros((1, 2, 4), np.float32)
    signal[0, 0, 1], signal[0, 1, 2] = 1, 1
    made = captioned_traces(signal, ["one"], None, "title")
    first, second = (segment[:, 1] for segment in curves(made)[0].get_segments())
    assert first.max() < second.min()  # px from above
    assert first.argmin() == 1 and second.argmin() == 2


@pytest.mark.parametrize("count", [1, 30])
def test_what_is_left_out_is_said(count):
    signals = np.ones((count, 1, 1, 8), np.float32)
    made = unit_traces(signals, [str(unit) for unit in range(count)], None, "title")
    said = " ".join(text.get_text() for text in made.findobj() if hasattr(text, "get_text"))
    assert ("the first 24 of 30 units" in said) == (count == 30)


def test_wrong_signals_are_framed():
    made = captioned_traces(np.ones((2, 1, 8), np.float32), ["a", "b"], None, "title", [False, True])
    frames = [patch.get_linewidth() for patch in made.axes[0].patches]
    assert frames == [0.4, 1.6]
