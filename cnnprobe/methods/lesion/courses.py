"""Networks that return courses: how well they follow the true ones, and what a lesion costs, by channel and group.

The explained share (R², `outputs.explained`) is of all images together; its 95 % interval is that of images drawn again
with replacement (percentiles; Efron 1979). Where images have no courses, those of the intact network stand for them.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.datasets.base.targets import groups_of
from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.outputs.explained import explained, explained_by_channel, explained_together, sums_of
from cnnprobe.methods.lesion.effects import Effects, LesionColumn, Measure
from cnnprobe.methods.lesion.fitted import Fitted
from cnnprobe.methods.lesion.lesioning import Answers
from cnnprobe.methods.lesion.pixels import DRAWS, ENDS
from cnnprobe.store.tables import Column, Rows, Table

SHOWN = 6
"""Images whose courses are kept, the first ones."""
CourseColumn = Literal["image", "truth", "intact", "lesioned"]
"""Columns of the table "courses"."""


@dataclass(frozen=True)
class Courses(Fitted):
    """The outputs of a network that returns (image, channel, time), read as `kinds.Outputs` reads those of classes.

    Args:
        shape: (channel, time).
        names: of the channels, () where unknown.
        known: whether the images have such courses.
        rate: samples per second; None where that is not known.
        start: time of the first sample, s.
    """

    shape: tuple[int, ...]
    names: tuple[str, ...]
    known: bool
    rate: float | None = None
    start: float = 0.0
    before: ClassVar[None] = None
    numbers: ClassVar[int] = 4
    dtype: ClassVar[str] = "float64"
    kept: ClassVar[int] = SHOWN

    @classmethod
    def of(cls, model: nn.Module, dataset: ImageSet, names: tuple[str, ...]) -> "Courses | None":
        """Return what a network returns; None where that is no course.

        Args:
            model: any network.
            dataset: the images.
            names: of the network's channels, () where unknown.

        Raises:
            UserError: the courses of the images are of another size.
        """
        try:
            (logits,) = find(model, "logits", dataset.size)
        except UserError:
            return None
        if len(logits.map_size) != 1 or logits.map_size == (1,):
            return None
        shape, target = (logits.channels, *logits.map_size), dataset.target
        if target.kind != "course":
            return cls(shape, names, False)
        if target.size != shape:
            shapes = (" x ".join(map(str, one)) for one in (target.size, shape))
            raise UserError(
                "the courses of {} have {} (channel x time), the network gives {}".format(dataset.name, *shapes)
            )
        return cls(shape, target.names, True, target.rate, target.start)

    def fits(self, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
        """Return (image,) and (lesion, image) float32 explained share of each image alone; NaN without courses."""
        if not self.known:
            return tuple(np.full(one.shape[:-2], np.nan, np.float32) for one in (answers.pixels[0], answers.pixels))  # type: ignore
        found = (explained_together(one).astype(np.float32) for one in (answers.intact_pixels[0], answers.pixels))
        return tuple(found)  # type: ignore[return-value]  # two of them

    def measure(self, asked: str) -> Measure:
        """Return what is lost, by what can be known.

        Raises:
            UserError: it is not known of such a network, or of these images.
        """
        if asked in ("accuracy", "iou", "changed"):
            raise UserError(
                f"measure={asked} needs classes, the network gives courses; say measure=explained or unexplained"
            )
        if asked == "explained" and not self.known:
            raise UserError("measure=explained needs images with courses; say measure=unexplained")
        if asked == "auto":
            return "explained" if self.known else "unexplained"
        return asked  # type: ignore[return-value]  # one of the other two

    def counts(self, scores: Tensor, intact: Tensor, targets: Tensor | None) -> np.ndarray:
        """Return (image, channel, 4) float64 sums behind the explained share, see `explained.sums_of`.

        Args:
            scores: (image, score).
            intact: the same without a lesion.
            targets: (image, channel, time); None: those of the intact network.
        """
        true = intact.unflatten(1, self.shape) if targets is None else targets.to(scores.device)
        return sums_of(scores.unflatten(1, self.shape), true).cpu().numpy()

    def table(self, lesions: int, images: int) -> Table[CourseColumn]:
        """Lay out the courses of the first images, for people."""
        count, axes, unit = min(SHOWN, images), "channel time", "as in the dataset"
        columns: dict[CourseColumn, Column] = {
            "image": Column("row of the table stimuli", dtype="int64", unit="index"),
            "truth": Column("true course, NaN where it is unknown", axes, self.shape, unit=unit),
            "intact": Column("course without a lesion", axes, self.shape, unit=unit),
            "lesioned": Column("course with each lesion", f"lesion {axes}", (lesions, *self.shape), unit=unit),
        }
        about = {"start": self.start} | ({"rate": self.rate} if self.rate else {})
        return Table("courses", "example", count, columns, count, about, aside=True)

    def rows(self, answers: Answers, dataset: ImageSet, shown: np.ndarray) -> Rows[CourseColumn]:
        """Return the rows of that table."""
        own = shown[: answers.kept.shape[1]]
        kept = answers.kept.reshape(*answers.kept.shape[:2], *self.shape).copy()
        kept[:, ~answers.read[: len(own)]] = np.nan
        truth = np.full_like(kept[0], np.nan)
        if self.known:
            values, known = dataset.targets(own)
            truth[known] = values.numpy()[known]
        columns: dict[CourseColumn, np.ndarray] = {"image": own, "truth": truth, "intact": kept[0]}
        return Rows("courses", 0, columns | {"lesioned": kept[1:].swapaxes(0, 1)})


@dataclass(frozen=True)
class CourseEffects(Effects):
    """What is made of answers along time.

    Args:
        courses: what the network returns.
        seed: of the bootstrap.
    """

    courses: Courses
    seed: int

    @property
    def groups(self) -> dict[str, list[int]]:
        """Channels by group, {} where their names have none."""
        return groups_of(self.courses.names)

    def columns(self) -> dict[LesionColumn, Column]:
        """Lay out the table "lesions"."""
        columns, share = super().columns(), "explained share (R²), NaN without courses"
        said: dict[LesionColumn, str] = {
            "before": f"intact: {share}",
            "after": share,
            "class_before": f"intact, by channel: {share}",
            "class_after": f"by channel: {share}",
            "class_changed": "NaN: of courses nothing is decided",
            "class_p": "by channel: p, of its explained share",
        }
        columns |= {name: replace(columns[name], description=text) for name, text in said.items()}
        if self.groups:
            own = (len(self.groups),)
            columns["group_before"] = Column(f"intact, by group of channels: {share}", "group", own)
            columns["group_after"] = Column(f"by group of channels: {share}", "group", own)
        return columns

    def _of(self, place: int, answers: Answers) -> dict[LesionColumn, float | np.ndarray]:
        lesion = self.lesions[place]
        layers = list(dict.fromkeys(one.layer.name for one in self.lesions))
        counted = answers.counted(lesion.how)
        intact = answers.intact_pixels[layers.index(lesion.layer.name)][counted]
        sums = answers.pixels[place][counted]
        known = 1.0 if self.courses.known else np.nan
        before, after = (explained(one.sum(0)) * known for one in (intact, sums))
        low, high = self._ends(intact, sums) * known
        nothing = np.nan
        found: dict[LesionColumn, float | np.ndarray] = {
            "images": int(counted.sum()),
            "before": before,
            "after": after,
            "difference": after - before,
            "difference_low": low,
            "difference_high": high,
            "changed": nothing,
            "changed_low": nothing,
            "changed_high": nothing,
            "unexplained": self._unexplained(place, answers, counted),
            "class_before": explained_by_channel(intact.sum(0)) * known,
            "class_after": explained_by_channel(sums.sum(0)) * known,
            "class_changed": np.full(self.classes, nothing),
        }
        if self.groups:
            parts = list(self.groups.values())
            found["group_before"] = known * np.array([explained(intact.sum(0)[part]) for part in parts])
            found["group_after"] = known * np.array([explained(sums.sum(0)[part]) for part in parts])
        return found

    def _ends(self, intact: np.ndarray, sums: np.ndarray) -> np.ndarray:
        """Return the ends of the interval of the difference."""
        images = len(sums)
        if images < 2:
            return np.full(2, np.nan)
        random = np.random.default_rng([self.seed, images])
        drawn = random.multinomial(images, np.full(images, 1 / images), DRAWS).astype(np.float64)
        before, after = ((drawn @ one.reshape(images, -1)).reshape(DRAWS, *one.shape[1:]) for one in (intact, sums))
        difference = explained_together(after) - explained_together(before)
        finite = difference[np.isfinite(difference)]
        return np.percentile(finite, ENDS) if len(finite) else np.full(2, np.nan)
