import pickle
from functools import partial

import numpy as np
import pytest

from cnnprobe.datasets.base.names import MOST, Names, must_be_few
from cnnprobe.errors import UserError


def padded(number, width):
    return f"{number:0{width}d}"


def test_names_are_spelled_out_when_asked_for():
    names = Names(np.array([7, 12, 3]), partial(padded, width=4))
    assert len(names) == 3 and list(names) == ["0007", "0012", "0003"] and names[-1] == "0003"
    assert np.array(names, dtype=object).tolist() == ["0007", "0012", "0003"]
    assert "0012" in names and "0004" not in names
    with pytest.raises(IndexError):
        names[3]


def test_processes_can_share_names():
    names = pickle.loads(pickle.dumps(Names(np.array([7]), partial(padded, width=2))))
    assert list(names) == ["07"]


def test_more_images_than_a_run_has_names_for_are_told_before_they_are_made():
    """F103."""
    must_be_few(MOST, "options")
    with pytest.raises(UserError, match=r"dataset.a make 10000001 images; at most 10000000 are possible"):
        must_be_few(MOST + 1, "dataset.a")
