import numpy as np
import pytest

from cnnprobe.datasets.rendering.letters import LETTERS, inside, letter


def test_26_letters_on_5_by_7_squares_all_different():
    assert "".join(LETTERS) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    drawn = {letter(name).tobytes() for name in LETTERS}
    assert len(drawn) == 26
    assert {letter(name).shape for name in LETTERS} == {(7, 5)}


@pytest.mark.parametrize("name", ["A", "H", "I", "M", "O", "T", "U", "V", "W", "X", "Y"])
def test_letters_with_a_mirror_are_their_own_mirror_image(name):
    assert (letter(name) == letter(name)[:, ::-1]).all()


@pytest.mark.parametrize("name", ["H", "I", "N", "O", "S", "X", "Z"])
def test_letters_that_can_be_turned_upside_down(name):
    assert (letter(name) == letter(name)[::-1, ::-1]).all()


def test_points_fall_into_the_squares():
    squares = letter("R")
    for row in range(7):
        for column in range(5):
            x, y = (column - 2) / 3.5, (row - 3) / 3.5
            assert inside("R", np.array(x), np.array(y)) == squares[row, column]
    for x, y in ((-0.8, 0), (0.8, 0), (0, 1.05), (0, -1.05), (9, 9)):
        assert not inside("R", np.array(x), np.array(y))
