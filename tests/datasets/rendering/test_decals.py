import numpy as np

from cnnprobe.datasets.rendering.decals import LETTER, PANEL
from cnnprobe.datasets.rendering.raycaster import trace
from cnnprobe.datasets.rendering.scenes import Decal
from cnnprobe.datasets.rendering.textures import LETTERS
from tests.support.images.bare_room import RED, SIDE, scene


def test_a_panel_hangs_where_it_is_hung_and_carries_its_letters_from_left_to_right():
    """Wall 1 is ahead; its middle is 8 + 4 m along the walls. An L has its upright on the left, seen from inside."""
    panel = Decal(True, 12.0, 1.5, 1.0, 1.0, RED, np.zeros(3), (LETTERS.index("L"),))
    image, _, kind = trace(scene(decals=[panel]), SIDE)
    y, x = np.nonzero((kind == PANEL) | (kind == LETTER))
    assert (y.min(), y.max(), x.min(), x.max()) == (38, 62, 38, 62)  # 1 m at 4 m: 12.6 px to each side
    letter = kind[40:61, 40:61] == LETTER  # within the frame
    columns, rows = letter.sum(axis=0), letter.sum(axis=1)
    assert columns.argmax() < 10 and rows.argmax() > 10
    assert image[0][kind == PANEL].min() > 2 * image[0][kind == LETTER].max()


def test_a_blotch_is_no_landmark_and_stays_within_its_bounds():
    blotch = Decal(True, 12.0, 1.5, 1.0, 1.0, RED)
    plain, painted = (trace(scene(decals=decals), SIDE) for decals in ((), (blotch,)))
    changed = np.abs(plain[0] - painted[0]).max(axis=0) > 1e-6
    assert not painted[2].any()
    np.testing.assert_array_equal(plain[1], painted[1])
    y, x = np.nonzero(changed)
    assert changed.sum() > 100 and y.min() >= 38 and y.max() <= 62 and x.min() >= 38 and x.max() <= 62
