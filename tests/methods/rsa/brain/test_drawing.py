import numpy as np

from cnnprobe.methods.rsa.brain.drawing import LATENCY, spread
from cnnprobe.methods.rsa.brain.time_courses import LATENCY as STORED


def test_rows_are_chosen_evenly_where_there_are_too_many():
    rows = np.arange(3, 24)
    assert spread(rows, 21) is rows
    assert spread(rows, 5).tolist() == [3, 8, 13, 18, 23]
    assert spread(rows, 1).tolist() == [3]


def test_what_is_drawn_of_a_peak_is_stored():
    assert set(LATENCY.values()) < set(STORED)
