"""The ends of a ranking."""

import numpy as np
import pytest

from cnnprobe.errors import UserError
from cnnprobe.instruments.ranking.best_worst import check_ends, ends_of, places, ranked


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("best:8", [("best", 8)]),
        (["worst:2", "best:1"], [("worst", 2), ("best", 1)]),
        ("all", None),
        ("0:8", None),
        ([0, 5], None),
        ("best:0", None),
    ],
)
def test_words(units, expected):
    assert ends_of(units) == expected


def test_named_and_ranked_units_do_not_mix():
    with pytest.raises(UserError, match=r"either named or ranked \(best:8, worst:8\), got best:2, 3"):
        ends_of(["best:2", 3])


def test_more_than_there_are_is_refused():
    with pytest.raises(UserError, match="units=best:9 asks for 9 units, a layer has 5"):
        check_ends([("worst", 1), ("best", 9)], "best:9", 5)


def test_units_without_a_score_come_last_at_either_end():
    units, scores = np.array([4, 7, 1, 9]), np.array([0.5, np.nan, 2.0, 0.5])
    assert ranked(units, scores, [("best", 4)]) == [1, 4, 9, 7]
    assert ranked(units, scores, [("worst", 4), ("best", 1)]) == [4, 9, 1, 7, 1]
    assert places([("worst", 2), ("best", 1)]) == {"best": [2], "worst": [0, 1]}
