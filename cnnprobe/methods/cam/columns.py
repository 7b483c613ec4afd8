"""Names of the columns of what is stored of class activation maps."""

from typing import Literal

Measure = Literal["pointing", "iou", "energy"]
"""What is measured of localisation, see `localisation`."""
Interval = Literal["pointing_low", "pointing_high", "iou_low", "iou_high", "energy_low", "energy_high"]
"""Lower and upper ends of the intervals of their means."""
Chance = Literal["pointing_chance", "iou_chance", "energy_chance"]
"""What chance gives."""
JUDGED: dict[Measure, tuple[Measure, Interval, Interval, Chance]] = {
    "pointing": ("pointing", "pointing_low", "pointing_high", "pointing_chance"),
    "iou": ("iou", "iou_low", "iou_high", "iou_chance"),
    "energy": ("energy", "energy_low", "energy_high", "energy_chance"),
}
"""By measure: its value or mean, the ends of the interval, chance."""

MapColumn = Measure | Chance | Literal[
    "image", "class", "rank", "probability", "logit", "map", "evidence", "silent", "guided", "box", "pixels",
]  # fmt: skip
"""Columns of the table "images"."""
PictureColumn = Literal["image", "pixels", "truth"]
"""Columns of the table "pictures"."""
SummaryColumn = Measure | Interval | Chance | Literal["class", "images", "judged", "localised"]
"""Columns of the table "localisation"."""
ClassColumn = Literal["class", "images", "weight", "mean_map", "mean_ratio", "contrast", "contrast_ratio"]
"""Columns of the table "classes"."""
