import numpy as np
import pytest

from cnnprobe.datasets.rendering.drawn import stream
from cnnprobe.datasets.rendering.rooms import SHAPES, Camera, Walls, plan

SQUARE = Walls(np.array([[-2.0, -2.0], [2.0, -2.0], [2.0, 2.0], [-2.0, 2.0]]))
ELL = Walls(np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 2.0], [2.0, 2.0], [2.0, 4.0], [0.0, 4.0]]))


def test_rays_in_a_square_meet_the_wall_ahead():
    depth, wall, along = SQUARE.hits(np.array([0.5, 0.0]), np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]]))
    np.testing.assert_allclose(depth, [1.5, 1.0, 2.0])  # in lengths of the direction
    assert wall.tolist()[:2] == [1, 2]
    np.testing.assert_allclose(along, [4 + 2, 8 + 1.5, 0.5])


def test_a_wall_that_points_into_the_room_hides_what_is_behind():
    depth, wall, _ = ELL.hits(np.array([3.0, 1.0]), np.array([[-1.0, 1.5]]))
    assert wall.tolist() == [2] and depth[0] == pytest.approx(1 / 1.5)


def test_inside_agrees_with_the_shape_of_an_l():
    points = np.array([[1.0, 1.0], [3.0, 3.0], [3.0, 1.0], [1.0, 3.5], [-1.0, 1.0], [2.0, 2.1]])
    assert ELL.inside(points, 0.0).tolist() == [True, False, True, True, False, False]
    assert ELL.inside(np.array([[0.5, 1.0]]), 0.49).all() and not ELL.inside(np.array([[0.5, 1.0]]), 0.51).any()


def test_turns_are_right_angles_and_sum_to_a_full_turn():
    np.testing.assert_allclose(np.degrees(ELL.turns), [90, 90, 90, -90, 90, 90])


@pytest.mark.parametrize("shape", [*SHAPES, "round"])
def test_plans_turn_once_around_and_have_the_area_promised(shape):
    for seed in range(20):
        walls = plan(shape, stream(seed))
        x, y = walls.corners.T
        area = 0.5 * sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))  # shoelace; > 0: counter-clockwise
        assert 14 <= area <= 28
        assert np.degrees(walls.turns.sum()) == pytest.approx(360)
        sharpest, flattest = np.degrees(np.abs(walls.turns)).max(), np.degrees(np.abs(walls.turns)).min()
        if shape == "round":
            assert 12 <= len(x) <= 20 and sharpest <= 30.01
        else:
            assert 4 <= len(x) <= 7 and flattest > 25


def test_an_eye_sees_what_lies_right_on_the_right():
    camera = Camera(0, 0, 1.5, np.pi / 2, 0, np.pi / 2)  # looks along y
    depth, sideways = camera.seen(np.array([[1.0, 2.0], [-3.0, 3.0]]))
    np.testing.assert_allclose(depth, [2, 3])
    np.testing.assert_allclose(sideways, [0.5, -1])
    np.testing.assert_allclose(camera.directions(np.array([0.5, -1.0])), [[0.5, 1], [-1, 1]], atol=1e-12)


def test_a_corner_behind_a_wall_is_not_in_view():
    camera = Camera(3.0, 0.5, 1.5, np.radians(135), 0, np.radians(90))
    assert ELL.in_view(camera).tolist() == [False, False, False, True, False, True]  # not the fifth, behind the fourth


def test_the_longest_wall_is_faced_from_inside():
    walls = Walls(np.array([[0.0, 0.0], [5.0, 0.0], [5.0, 3.0], [0.0, 3.0]]))
    middle, towards = walls.longest()
    np.testing.assert_allclose(middle, [2.5, 0])
    assert np.degrees(towards) == pytest.approx(-90)
