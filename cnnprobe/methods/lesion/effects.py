"""Effects of lesions: accuracy lost, decisions changed, outputs moved, by class, with intervals and chance."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cnnprobe.instruments.statistics.mean_interval import mean_interval, share_interval
from cnnprobe.methods.lesion.lesioning import Answers
from cnnprobe.methods.lesion.lesions import Lesion
from cnnprobe.store.tables import Column

Measure = Literal["accuracy", "iou", "explained", "changed", "unexplained"]
"""What is lost: accuracy; intersection over union of maps; explained share of courses; the share of
decisions, or of pixels, that change; the share of the variance of outputs unexplained."""
LEVELS: tuple[Measure, ...] = ("accuracy", "iou", "explained")
"""Those that an intact network has as well."""
LesionColumn = Literal[
    "layer", "target", "group", "how", "units", "share", "draw", "control", "images", "before", "after", "difference",
    "difference_low", "difference_high", "changed", "changed_low", "changed_high", "unexplained", "loss", "p",
    "class_before", "class_after", "class_changed", "class_p", "class_pixels", "class_pixels_intact", "group_before",
    "group_after",
]  # fmt: skip
"""Columns of the table "lesions"; `class_pixels…` of networks that give a class for every pixel, `group_…` of courses
whose channels have groups."""
COUNTED: tuple[LesionColumn, ...] = ("images", "class_pixels", "class_pixels_intact")
"""Whole numbers among what is measured."""


@dataclass(frozen=True)
class Effects:
    """What is made of answers.

    Args:
        lesions: in the order of the answers.
        labels: (image,) int64 of the images shown, -1 where unknown.
        classes: how many classes the dataset has.
        shared: whether they are those of the network.
        measure: by which a lesion is compared with random ones.
    """

    lesions: list[Lesion]
    labels: np.ndarray
    classes: int
    shared: bool
    measure: Measure

    def columns(self) -> dict[LesionColumn, Column]:
        """Lay out the table "lesions": what each lesion is, which is known from the start, and what it costs."""
        told, own = self.lesions, (self.classes,)
        share = "share of the images, NaN where the network decides on none"
        right = "share of labelled images decided rightly, NaN where that is unknown"
        columns: dict[LesionColumn, Column] = {
            "layer": _texts("whose units are taken out", [one.layer.name for one in told]),
            "target": _texts("what is taken out", [one.target for one in told]),
            "group": _texts("units as asked", [one.group.name for one in told]),
            "how": _texts("what stands in for their activation", [one.how for one in told]),
            "units": _numbers("how many are taken out", [one.count for one in told]),
            "share": Column("of the units of the group", values=np.array([one.share for one in told], np.float32)),
            "draw": _numbers("random choice of the share", [one.draw for one in told]),
            "control": _numbers("number of a random lesion of as many other units, -1 = the lesion itself",
                                [one.control for one in told]),
            "images": Column("how many count", dtype="int64"),
            "before": Column(f"intact: {right}"),
            "after": Column(right),
            "difference": Column("after minus before"),
            "difference_low": Column("lower end of its 95 % interval"),
            "difference_high": Column("upper end of its 95 % interval"),
            "changed": Column(f"decided otherwise than intact: {share}"),
            "changed_low": Column("lower end of its 95 % interval"),
            "changed_high": Column("upper end of its 95 % interval"),
            "unexplained": Column("mean squared change of the scores over their variance over images, intact; 0 = as "
                                  "intact, 1 = as far as one constant answer"),
            "loss": Column(f"by {self.measure}: larger is worse"),
            "p": Column("share of random lesions, and of this one, that lose as much; "
                        "NaN without controls that have a loss"),
        }  # fmt: skip
        if self.classes:
            columns |= {
                "class_before": Column(f"intact, by class: {right}", "class", own),
                "class_after": Column(f"by class: {right}", "class", own),
                "class_changed": Column("by class of the image: share decided otherwise than intact", "class", own),
                "class_p": Column("by class of the image: p, of its accuracy or else its decisions", "class", own),
            }
        return columns

    def values(self, answers: Answers) -> dict[LesionColumn, np.ndarray]:
        """Return the columns that are measured, (lesion, …)."""
        rows = [self._of(place, answers) for place in range(len(self.lesions))]
        found: dict[LesionColumn, np.ndarray] = {
            name: np.array([row[name] for row in rows], np.int64 if name in COUNTED else np.float32) for name in rows[0]
        }
        lost = np.subtract(found["before"], found["after"])
        loss = lost if self.measure in LEVELS else found["changed" if self.measure == "changed" else "unexplained"]
        found |= {"loss": loss, "p": chance(self.lesions, loss)}
        if self.classes:
            by_class = np.subtract(found["class_before"], found["class_after"])
            by_class = by_class if self.measure in LEVELS else found["class_changed"]
            found["class_p"] = np.stack([chance(self.lesions, one) for one in by_class.T], 1)
        return found

    def _of(self, place: int, answers: Answers) -> dict[LesionColumn, float | np.ndarray]:
        lesion = self.lesions[place]
        layers = list(dict.fromkeys(one.layer.name for one in self.lesions))
        intact, decided = answers.intact[layers.index(lesion.layer.name)], answers.decided[place]
        counted = answers.counted(lesion.how)
        judged = counted & (intact >= 0)
        labelled = counted & (self.labels >= 0) & self.shared
        before, after = intact == self.labels, decided == self.labels
        other = decided != intact
        low, high = mean_interval([(after.astype(float) - before)[labelled] / 2 + 0.5])
        share = share_interval(int(other[judged].sum()), int(judged.sum()))
        found: dict[LesionColumn, float | np.ndarray] = {
            "images": int(counted.sum()),
            "before": _share(before, labelled),
            "after": _share(after, labelled),
            "difference": _share(after, labelled) - _share(before, labelled),
            "difference_low": 2 * low - 1,
            "difference_high": 2 * high - 1,
            "changed": _share(other, judged),
            "changed_low": share[0],
            "changed_high": share[1],
            "unexplained": self._unexplained(place, answers, counted),
        }
        if self.classes:
            found["class_before"] = self._by_class(before, labelled)
            found["class_after"] = self._by_class(after, labelled)
            found["class_changed"] = self._by_class(other, judged)
        return found

    def _unexplained(self, place: int, answers: Answers, counted: np.ndarray) -> float:
        moved = answers.moved[place][counted]
        moved = moved[np.isfinite(moved)]
        return _ratio(float(moved.mean()) if len(moved) else np.nan, answers.variance)

    def _by_class(self, right: np.ndarray, among: np.ndarray) -> np.ndarray:
        """Return (class,) shares of the images of each; NaN where there are none."""
        among = among & (self.labels >= 0)
        labels = self.labels[among]
        count, hits = (np.bincount(labels, weights, self.classes)[: self.classes] for weights in (None, right[among]))
        return np.divide(hits, count, out=np.full(self.classes, np.nan), where=count > 0)


def chance(lesions: list[Lesion], loss: np.ndarray) -> np.ndarray:
    """Return (lesion,) p: how often a random lesion of as many other units loses as much (Phipson, Smyth 2010).

    Args:
        lesions: controls follow the lesion whose size they have.
        loss: (lesion,). A control without one (NaN: the network decided nothing) does not count, as it has lost neither
            less nor more; where none is left, p is NaN.
    """
    found = np.full(len(lesions), np.nan, np.float32)
    for place, lesion in enumerate(lesions):
        if lesion.control >= 0 or not np.isfinite(loss[place]):
            continue
        stop = place + 1
        while stop < len(lesions) and lesions[stop].control >= 0:
            stop += 1
        others = loss[place + 1 : stop]
        others = others[~np.isnan(others)]
        if len(others):
            found[place] = (1 + (others >= loss[place]).sum()) / (1 + len(others))
    return found


def _share(right: np.ndarray, among: np.ndarray) -> float:
    return float(right[among].mean()) if among.any() else float("nan")


def _ratio(one: float, other: float) -> float:
    """Return a ratio; of a network whose outputs are one constant, 0 where nothing moves and NaN elsewhere."""
    return one / other if other > 0 else 0.0 if one == 0 else float("nan")


def _texts(description: str, values: list[str]) -> Column:
    return Column(description, dtype="str", values=np.array(values, dtype=object))


def _numbers(description: str, values: list[int]) -> Column:
    return Column(description, dtype="int64", unit="index", values=np.array(values, np.int64))
