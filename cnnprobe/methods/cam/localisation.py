"""Localisation of the object by a map: pointing game, overlap of boxes and energy, each beside its chance level.

pointing  1 where the map's maximum lies on the object or at most `tolerance` px from it (Zhang, Lin, Brandt, Shen,
          Sclaroff 2016, section 4.1); chance: the share of the image that would count
iou       overlap of the 20 % box with the best fitting box of the object. The 20 % box is drawn around the largest
          connected part of the map above a fifth of its maximum (Zhou et al. 2016, section 3.2); chance: the mean over
          all places in the image where a box of that size can stand
energy    share of the map's positive part that lies on the object (Wang et al. 2020, section 4.3); chance: the object's
          share of the image

Maps are brought to the size of the image before, bilinear; those of a network that gives a class for every pixel, and
votes of capsules, are laid where their positions look (`laid`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from cnnprobe.instruments.statistics.mean_interval import mean_interval
from cnnprobe.methods.cam.columns import Measure

MEASURES: tuple[Measure, ...] = ("pointing", "iou", "energy")
SHARE = 0.2
"""Of the maximum, above which a px belongs to the box."""
TOLERANCE = 15 / 224
"""How far from the object the maximum may lie, as a share of the image's side: 15 px of 224."""
OVERLAP = 0.5
"""Overlap from which on an object counts as localised."""
DIGITS = 7
"""Of the values that are written down, behind the point."""


@dataclass(frozen=True)
class Truth:
    """Where the object of an image is.

    Args:
        mask: (y, x) bool.
        boxes: (box, 4) top, left, bottom, right edges, px.
    """

    mask: np.ndarray
    boxes: np.ndarray

    @classmethod
    def of(cls, known: dict[str, np.ndarray], size: Sequence[int]) -> "Truth | None":
        """Read the truth of an image: its `cue` mask, its `boxes`, or both; None where neither is there or not in view.

        Args:
            known: by name, see `base.imageset.ImageSet.truth`.
            size: (y, x) of the image.
        """
        if "cue" in known:
            mask = np.asarray(known["cue"], bool)
            boxes = np.asarray(known["boxes"], float) if len(known.get("boxes", ())) else parts(mask)
            return cls(mask, boxes) if mask.any() and mask.shape == tuple(size) else None
        if "boxes" not in known or not len(known["boxes"]):
            return None
        boxes, mask = np.asarray(known["boxes"], float).reshape(-1, 4), np.zeros(tuple(size), bool)
        for top, left, bottom, right in np.round(boxes).astype(int):
            mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
        return cls(mask, boxes) if mask.any() else None


def labelled(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the connected parts of a mask (y, x), neighbours also across corners; return numbers and their count."""
    from scipy import ndimage

    return ndimage.label(mask, np.ones((3, 3)))


def parts(mask: np.ndarray) -> np.ndarray:
    """Return the boxes (part, 4) around the connected parts of a mask: top, left, bottom, right edges."""
    from scipy import ndimage

    numbers, _ = labelled(mask)
    found = ndimage.find_objects(numbers)
    return np.array([[y.start, x.start, y.stop, x.stop] for y, x in found], float).reshape(-1, 4)


def enlarged(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return a map (y, x) at the size of an image: bilinear, each value in the middle of its share of it."""
    for axis, length in enumerate(size):
        own = values.shape[axis]
        places = np.clip((np.arange(length) + 0.5) * own / length - 0.5, 0, own - 1)
        low = np.floor(places).astype(int)
        part = (places - low).reshape([-1 if place == axis else 1 for place in range(2)])
        high = np.minimum(low + 1, own - 1)
        values = np.take(values, low, axis) * (1 - part) + np.take(values, high, axis) * part
    return values


def placed(maps: np.ndarray, attributes: Mapping[str, Any], size: Sequence[int]) -> np.ndarray:
    """Return maps of a network that gives a class for every pixel where its positions look, at the size of the image.

    A map of a classifier is stretched over the whole image (bilinear, each value in the middle of its share), which is
    this where borders are padded. Without padding positions look at its middle alone: values stand at the centres of
    their fields, and beyond the last of them, by more than half a step, is 0.

    Args:
        maps: (map, y, x); one that is not finite is NaN everywhere.
        attributes: of the layer, see `grids.Grid.attributes`.
        size: (y, x) of the image.
    """
    start, step, field = (np.array(attributes[f"field_{name}"], float) for name in ("start", "stride", "size"))
    if not step.all():  # all positions see the same
        return maps
    known = np.isfinite(maps).all((1, 2))
    made = maps.astype(np.float64)
    for axis, length in enumerate(size):
        own = made.shape[1 + axis]
        at = (np.arange(length) - (start[axis] + (field[axis] - 1) / 2)) / step[axis]  # in positions
        inside = (at >= -0.5) & (at <= own - 0.5)
        low = np.clip(np.floor(at), 0, own - 1).astype(int)
        part = (np.clip(at, 0, own - 1) - low) * inside
        along = [-1 if place == axis else 1 for place in range(2)]
        first, second = (np.take(made, one, 1 + axis) for one in (low, np.minimum(low + 1, own - 1)))
        part, inside = part.reshape(1, *along), inside.reshape(1, *along)
        made = np.where(inside, first * (1 - part) + second * part, 0)
    made[~known] = np.nan
    return made


def laid(maps: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    """Return maps as they are drawn and judged.

    Those of a network that gives a class for every pixel, and votes of capsules, which are counted place by place, lie
    where their positions look (`placed`); others are stretched over the image later.

    Args:
        maps: (map, y, x).
        attributes: of the table "images".
    """
    own = "region" in attributes or attributes["kind"] == "votes"
    return placed(maps, attributes, attributes["image_size"][1:]) if own else maps


def box(values: np.ndarray, share: float = SHARE) -> np.ndarray:
    """Return the box (4,) around the largest connected part of a map above a share of its maximum; NaN for none."""
    most = float(values.max(initial=0))
    if not most > 0 or not np.isfinite(values).all():
        return np.full(4, np.nan)
    numbers, count = labelled(values > share * most)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    y, x = np.nonzero(numbers == 1 + int(sizes.argmax()))
    return np.array([y.min(), x.min(), y.max() + 1, x.max() + 1], float)


def overlap(one: np.ndarray, boxes: np.ndarray) -> np.ndarray | np.float64:
    """Return the largest intersection over union of a box (…, 4) with some boxes (box, 4); shape of the first axes."""
    one = np.asarray(one, float)[..., None, :]
    high = np.clip(np.minimum(one[..., 2], boxes[:, 2]) - np.maximum(one[..., 0], boxes[:, 0]), 0, None)
    wide = np.clip(np.minimum(one[..., 3], boxes[:, 3]) - np.maximum(one[..., 1], boxes[:, 1]), 0, None)
    areas = [(b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (one, boxes)]
    return (high * wide / (areas[0] + areas[1] - high * wide)).max(-1)


def chance_overlap(one: np.ndarray, boxes: np.ndarray, size: Sequence[int]) -> float:
    """Return the mean overlap of a box's size with some boxes, over all its places in an image (y, x)."""
    high, wide = one[2] - one[0], one[3] - one[1]
    top, left = np.meshgrid(np.arange(size[0] - high + 1), np.arange(size[1] - wide + 1), indexing="ij")
    return float(overlap(np.stack([top, left, top + high, left + wide], -1), boxes).mean())


def tolerance(size: Sequence[int]) -> int:
    """Return how far from the object the maximum may lie, px of an image (y, x)."""
    return round(TOLERANCE * size[0])


def near(mask: np.ndarray, reach: float) -> np.ndarray:
    """Return which px lie at most so far from a mask."""
    from scipy import ndimage

    return ndimage.distance_transform_edt(~mask) <= reach


def judge(values: np.ndarray, truth: Truth) -> dict[Measure | Literal["box"], np.ndarray]:
    """Compare a map (y, x) with the truth.

    Returns:
        by name (`pointing`, `iou`, `energy`) two numbers: what was found, and chance. NaN where the map is not finite,
        or nothing in it is evidence for the class; `box`: (4,) top, left, bottom, right edges of the 20 % box, px.
    """
    size, gap = truth.mask.shape, np.full(2, np.nan)
    large = enlarged(values.astype(np.float64), size) if np.isfinite(values).all() else np.full(size, np.nan)
    if not large.max() > 0:
        return dict.fromkeys(MEASURES, gap) | {"box": np.full(4, np.nan)}
    where = near(truth.mask, tolerance(size))
    positive = np.clip(large, 0, None)
    drawn = box(large)
    return {
        "pointing": np.array([where.flat[int(large.argmax())], where.mean()], float),
        "iou": np.array([overlap(drawn, truth.boxes), chance_overlap(drawn, truth.boxes, size)]),
        "energy": np.array([positive[truth.mask].sum() / positive.sum(), truth.mask.mean()]),
        "box": drawn,
    }


# ---- over many images ------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """One measure over the images of one class: its values, and the sum of chance."""

    values: list[float] = field(default_factory=list)
    chance: float = 0.0

    def add(self, value: float, chance: float) -> None:
        """Count one image; NaN (a map without evidence) does not count."""
        if math.isfinite(value):
            self.values.append(round(float(value), DIGITS))
            self.chance += float(chance)

    @property
    def plain(self) -> list[float]:
        """Its numbers, to be written down."""
        return [self.chance, *self.values]

    def join(self, numbers: Sequence[float]) -> None:
        """Add what was written down of other images."""
        self.chance += numbers[0]
        self.values += numbers[1:]


def averaged(tallies: Sequence[Tally]) -> tuple[float, float, float, float]:
    """Return the mean over classes of the means over images, its 95 % interval (see `mean_interval`), and chance.

    Args:
        tallies: one for each class; those without images are left out.

    Returns:
        NaN where there are no images; ends that are NaN where there is one.
    """
    known = [one for one in tallies if one.values]
    if not known:
        return (math.nan,) * 4
    low, high = mean_interval([one.values for one in known])
    mean = sum(sum(one.values) / len(one.values) for one in known) / len(known)
    return mean, low, high, sum(one.chance / len(one.values) for one in known) / len(known)
