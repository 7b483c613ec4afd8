"""A network as levels of boxes."""

from matplotlib.patches import FancyArrowPatch, Rectangle

from cnnprobe.plots.architecture import Box, architecture
from cnnprobe.plots.style import png

BOXES = [
    Box("image", 3, (8, 8), 0, "1", 0.1),
    Box("down", 4, (8, 8), 0, "3", 0.3),
    Box("bottom", 8, (4, 4), 1, "8", 1.0),
    Box("skip", 4, (8, 8), 0, "3", 0.3),
    Box("rise", 4, (8, 6), 0, "8–9", float("nan")),
    Box("up", 2, (), 0, "10", 1.2),
]


def test_boxes_of_a_level_stand_on_one_height_and_every_edge_is_drawn():
    edges = [(0, 1), (1, 2), (1, 3), (2, 4), (3, 5), (4, 5)]
    made = architecture(BOXES, edges, "$a_1")
    (ax,) = made.axes
    boxes = [one for one in ax.patches if isinstance(one, Rectangle)]
    middles = [round(one.get_y() + one.get_height() / 2, 6) for one in boxes]
    assert len(set(middles[:2] + middles[3:])) == 1 and middles[2] > middles[0]
    assert sorted(one.get_x() for one in boxes) == [one.get_x() for one in boxes]
    assert boxes[0].get_height() > boxes[2].get_height() and boxes[2].get_width() > boxes[0].get_width()
    assert len([one for one in ax.patches if isinstance(one, FancyArrowPatch)]) == len(edges)
    words = {text.get_text() for text in ax.texts}
    assert {"image", "8\n4\n8", "4\n8×6\n8–9", "2\n–\n10"} <= words
    assert png(made)
