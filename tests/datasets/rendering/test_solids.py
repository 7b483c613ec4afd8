import numpy as np
import pytest

from cnnprobe.datasets.rendering.raycaster import trace
from cnnprobe.datasets.rendering.solids import OBJECT
from tests.support.images.bare_room import FOCAL, SIDE, scene, solid


@pytest.mark.parametrize(("shape", "nearest"), [("cylinder", 2.5), ("box", 3 - 0.5 / np.sqrt(2)), ("cone", None)])
def test_a_solid_is_seen_where_it_stands(shape, nearest):
    _, distance, kind = trace(scene(solids=[solid(shape)], height=1.2), SIDE)
    seen = kind == OBJECT
    columns = np.flatnonzero(seen.any(axis=0))
    half = {"cylinder": 0.5 / np.sqrt(9 - 0.25), "box": (0.5 / np.sqrt(2)) / (3 - 0.5 / np.sqrt(2)), "cone": 0.5 / 3}[
        shape
    ]
    assert columns[0] == SIDE - 1 - columns[-1]  # straight ahead
    assert (len(columns) - 1) / 2 == pytest.approx(half * FOCAL, abs=1.1)
    if nearest:
        assert distance[50, 50] == pytest.approx(nearest, rel=1e-5)
        top = np.flatnonzero(seen[:, 50])[0]
        assert 50 - top == pytest.approx(0.3 / nearest * FOCAL, abs=1)
    assert not seen[0].any() and distance[seen].max() < 4


def test_a_cone_s_surface_narrows_to_its_tip():
    _, distance, kind = trace(scene(solids=[solid("cone", height=2.0)], height=1.0), SIDE)
    for row in (30, 40, 50, 60):
        columns = np.flatnonzero(kind[row] == OBJECT)
        for column in columns:
            depth = distance[row, column] / np.sqrt(1 + ((column - 50) / FOCAL) ** 2 + ((50 - row) / FOCAL) ** 2)
            x, y, z = depth - 3, depth * (column - 50) / FOCAL, 1 + depth * (50 - row) / FOCAL
            assert np.hypot(x, y) == pytest.approx(0.5 * (2 - z) / 2, abs=1e-4)


def test_the_top_of_a_low_cylinder_is_seen_from_above():
    _, distance, kind = trace(scene(solids=[solid("cylinder", height=0.5, x=2.0)]), SIDE)
    rows = np.flatnonzero(kind[:, 50] == OBJECT)
    depth = distance[rows, 50] / np.hypot(1, (50 - rows) / FOCAL)
    height = 1.5 + depth * (50 - rows) / FOCAL
    top = depth > 1.5 + 1e-4
    assert top.any() and not top.all()
    np.testing.assert_allclose(height[top], 0.5, atol=1e-4)
    np.testing.assert_allclose(depth[~top], 1.5, atol=1e-4)


def test_the_nearer_solid_hides_the_farther_whatever_the_order():
    near, far = solid("cylinder", x=2.0, height=2.0), solid("box", x=3.2, height=2.0)
    images = [trace(scene(solids=order), SIDE)[0] for order in ((near, far), (far, near))]
    np.testing.assert_allclose(images[0][:, 10:60], images[1][:, 10:60], atol=0.02)  # shadows fall in another order
