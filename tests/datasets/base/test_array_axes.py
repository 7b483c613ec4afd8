"""Axes of a user's array: as said, as they follow from what stands beside it, or asked for."""

import pytest

from cnnprobe.datasets.base.array_axes import Evidence, axes_of, named
from cnnprobe.errors import UserError

SIGNAL, IMAGE = ("recording", "channel", "time"), ("recording", "channel", "y", "x")


@pytest.mark.parametrize(
    ("shape", "known", "axes"),
    [
        ((40, 4, 500), {}, SIGNAL),
        ((40, 4, 500), {"rows": 40, "needed": 4}, SIGNAL),
        ((500, 4, 40), {"rows": 40, "needed": 4}, ("time", "channel", "recording")),
        ((4, 500, 40), {"rows": 40, "needed": 4}, ("channel", "time", "recording")),
        ((40, 500, 4), {"channels": 4}, ("recording", "time", "channel")),
        ((40, 500, 4), {"times": 500}, ("recording", "time", "channel")),
        ((4, 500, 40), {"rows": 40, "times": 500}, ("channel", "time", "recording")),
        ((40, 1, 4, 500), {"rows": 40, "signals": True}, ("recording", "_", "channel", "time")),
        ((16, 3, 32, 32), {}, IMAGE),
        ((16, 12, 32, 32), {}, IMAGE),
        ((16, 32, 32, 3), {}, ("recording", "y", "x", "channel")),
        ((16, 32, 32, 1), {}, ("recording", "y", "x", "channel")),
        ((32, 30, 3, 16), {}, ("y", "x", "channel", "recording")),
        ((3, 32, 30, 16), {"rows": 16}, ("channel", "y", "x", "recording")),
        ((3, 3, 32, 32), {}, IMAGE),
        ((32, 30, 12, 16), {"rows": 16}, ("y", "x", "channel", "recording")),
        ((16, 28, 20), {"bytes": True}, ("recording", "y", "x")),
        ((28, 20, 16), {"bytes": True, "rows": 16}, ("y", "x", "recording")),
    ],
)
def test_axes_follow_from_what_is_known(shape, known, axes):
    """F91."""
    assert axes_of(shape, (), Evidence(**known), "it")[0] == axes


@pytest.mark.parametrize(
    ("shape", "known", "words"),
    [
        ((40, 500, 4), {"needed": 4}, r"500 channels of 4 samples, but the network takes 4 channels; dataset.axes=\["),
        ((4, 500, 40), {"needed": 4}, "500 channels of 40 samples, but the network takes 4 channels"),
        ((22, 500, 40), {"rows": 40}, r"could be \(channel, time, recording\) or \(time, channel, recording\)"),
        ((40, 4, 500), {"rows": 30}, "dataset.axes=.* says what its axes are"),
        ((40, 4, 500), {"times": 300}, "beside it are 300 times"),
        ((3, 32, 30, 16), {}, "could be"),
        ((32, 32, 3, 3), {}, "could be"),
        ((32, 28, 3), {"bytes": True}, "says what its axes are"),
        ((16, 28, 20), {"bytes": True, "last": True}, "could be"),
        ((40, 4), {}, "needed are signals"),
    ],
)
def test_where_two_orders_fit_none_is_chosen(shape, known, words):
    """F91."""
    with pytest.raises(UserError, match=words):
        axes_of(shape, (), Evidence(**known), "it")


def test_what_the_file_says_of_its_axes_is_taken():
    """F91."""
    assert axes_of((4, 500, 40), ("chan", "times", "trials"), Evidence(), "it")[0] == ("channel", "time", "recording")
    assert axes_of((40, 4, 500), ("a", "b", "c"), Evidence(), "it")[0] == SIGNAL


def test_axes_are_named_in_any_usual_word():
    """F91."""
    assert named(["Trial", "ch", "samples"], (40, 4, 500), "it") == SIGNAL
    assert named(["image", "height", "width", "rgb"], (9, 32, 30, 3), "it") == ("recording", "y", "x", "channel")
    assert named(["trial", "time"], (40, 500), "it") == ("recording", "time")
    for words, said in [
        (["trial", "channel"], "names 2 axes"),
        (["trial", "trial", "time"], "an axis twice"),
        (["trial", "chanel", "time"], "got 'chanel'"),
        (["channel", "y", "x"], "must name recording"),
        (["trial", "_", "time"], "called _ has the length 4"),
    ]:
        with pytest.raises(UserError, match=said):
            named(words, (40, 4, 500), "it")
