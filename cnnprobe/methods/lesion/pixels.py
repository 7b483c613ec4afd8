"""Networks that give a class for every pixel: what is counted of their answers, and what a lesion costs them.

Intersection over union (`outputs.overlap`) is of all images together, mean over the classes of the masks without the
background. Its 95 % interval is that of images drawn again with replacement (percentiles; Efron 1979), the same draws
for every lesion. Where images have no masks, the classes of the intact network stand for the true ones.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.datasets.base.targets import NOT_COUNTED, middle
from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.outputs.distances import to_edge
from cnnprobe.methods.lesion.effects import Effects, LesionColumn, Measure
from cnnprobe.methods.lesion.fitted import Fitted
from cnnprobe.methods.lesion.lesioning import BOTH, COUNTS, NEAR, NEAR_BOTH, OTHER, PREDICTED, TRUE, Answers
from cnnprobe.store.tables import Column

EDGE = 2
"""How far from a pixel of another true class a pixel is near an edge, px."""
DRAWS = 1000
"""Of the bootstrap."""
ENDS = 2.5, 97.5


@dataclass(frozen=True)
class Maps(Fitted):
    """The outputs of a network that returns (image, class, y, x), read as `kinds.Outputs` reads those of classes.

    Args:
        shape: (class, y, x).
        names: of the classes, () where unknown.
        judged: classes whose mean is taken.
        known: whether the images have masks of these classes.
    """

    shape: tuple[int, ...]
    names: tuple[str, ...]
    judged: tuple[int, ...]
    known: bool
    before: ClassVar[None] = None
    numbers: ClassVar[int] = COUNTS
    dtype: ClassVar[str] = "int32"
    kept: ClassVar[int] = 0

    @classmethod
    def of(cls, model: nn.Module, dataset: ImageSet, names: tuple[str, ...]) -> "Maps | None":
        """Return what a network returns; None where that is no map of classes.

        Args:
            model: any network.
            dataset: the images.
            names: of the network's classes, () where unknown.

        Raises:
            UserError: the masks of the images have other classes, or are smaller than the maps.
        """
        try:
            (logits,) = find(model, "logits", dataset.size)
        except UserError:
            return None
        if len(logits.map_size) != 2 or np.prod(logits.map_size) == 1:
            return None
        count, target = logits.channels, dataset.target
        if target.kind != "map":
            return cls((count, *logits.map_size), names, tuple(range(count)), False)
        beyond = [
            whole - part for whole, part in zip(target.size, logits.map_size) if whole < part or (whole - part) % 2
        ]
        if len(target.names) != count or beyond:
            shapes = (
                " x ".join(map(str, one)) for one in ((len(target.names), *target.size), (count, *logits.map_size))
            )
            raise UserError("the masks of {} have {}, the network gives {}".format(dataset.name, *shapes))
        return cls((count, *logits.map_size), target.names, target.judged, True)

    def fits(self, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
        """Return (image,) and (lesion, image) float32 intersection over union of each image alone; NaN without masks.

        The intact network is that of the first layer's passes.
        """
        if not self.known:
            return tuple(np.full(one.shape[:-2], np.nan, np.float32) for one in (answers.pixels[0], answers.pixels))  # type: ignore
        found = (
            mean_overlap(one, self.judged).astype(np.float32) for one in (answers.intact_pixels[0], answers.pixels)
        )
        return tuple(found)  # type: ignore[return-value]  # two of them

    def measure(self, asked: str) -> Measure:
        """Return what is lost, by what can be known.

        Raises:
            UserError: it is not known of such a network, or of these images.
        """
        if asked == "accuracy":
            raise UserError("measure=accuracy needs one class per image, the network gives one for every pixel; say "
                            "measure=iou")  # fmt: skip
        if asked == "iou" and not self.known:
            raise UserError("measure=iou needs images with masks (dataset.target=mask); say measure=changed or "
                            "unexplained")  # fmt: skip
        if asked == "auto":
            return "iou" if self.known else "changed"
        return asked  # type: ignore[return-value]  # one of the other three

    def counts(self, scores: Tensor, intact: Tensor, targets: Tensor | None) -> np.ndarray:
        """Return (image, class, 6) int32 pixels of each class: see `lesioning.BOTH` and the others.

        Args:
            scores: (image, score).
            intact: the same without a lesion.
            targets: (image, y, x) masks, as large as the output or larger; None: those of the intact network.
        """
        found, before = (one.unflatten(1, self.shape).argmax(1) for one in (scores, intact))
        true = before if targets is None else middle(targets, tuple(found.shape[-2:])).long()
        near = middle(to_edge(before if targets is None else targets, EDGE), tuple(found.shape[-2:])) <= EDGE
        there, other = true != NOT_COUNTED, found != before
        classes = torch.arange(self.counted, device=found.device)[:, None, None]
        own, taken = true[:, None] == classes, (found[:, None] == classes) & there[:, None]
        parts = {BOTH: own & taken, TRUE: own, PREDICTED: taken, OTHER: own & other[:, None]}
        parts |= {NEAR: own & near[:, None], NEAR_BOTH: own & taken & near[:, None]}
        counts = torch.stack([parts[place].flatten(2).sum(2) for place in range(COUNTS)], -1)
        return counts.cpu().numpy().astype(np.int32)


def overlap(counts: np.ndarray) -> np.ndarray:
    """Return (…, class) intersection over union of (…, class, 6) pixels; NaN for a class that is nowhere."""
    both = counts[..., BOTH].astype(np.float64)
    either = counts[..., TRUE] + counts[..., PREDICTED] - both
    return np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0)


def mean_overlap(counts: np.ndarray, judged: tuple[int, ...]) -> np.ndarray:
    """Return (…) means over the judged classes that are there of (…, class, 6) pixels; NaN where there are none."""
    own = overlap(counts)[..., list(judged)]
    there = np.isfinite(own)
    count = there.sum(-1)
    return np.divide(np.where(there, own, 0).sum(-1), count, out=np.full(count.shape, np.nan), where=count > 0)


@dataclass(frozen=True)
class PixelEffects(Effects):
    """What is made of answers for pixels.

    Args:
        maps: what the network returns.
        seed: of the bootstrap.
    """

    maps: Maps
    seed: int

    def columns(self) -> dict[LesionColumn, Column]:
        """Lay out the table "lesions"."""
        columns = super().columns()
        iou = "intersection over union, NaN without masks"
        said: dict[LesionColumn, str] = {
            "before": f"intact: {iou}; mean over the classes but the background",
            "after": f"{iou}; mean over the classes but the background",
            "changed": "share of the pixels that are decided otherwise than intact",
            "class_before": f"intact, by class: {iou}, and for a class that is nowhere",
            "class_after": f"by class: {iou}, and for a class that is nowhere",
            "class_changed": "by true class: share of its pixels decided otherwise than intact",
            "class_p": "by class: p, of its intersection over union or else its decisions",
        }
        columns |= {name: replace(columns[name], description=text) for name, text in said.items()}
        told = (
            "pixels by class: true and predicted, true, predicted, true and decided otherwise than intact; within "
            f"{EDGE} px of another true class: true and predicted, true"
        )
        for name, when in (("class_pixels", ""), ("class_pixels_intact", "intact: ")):
            columns[name] = Column(when + told, "class count", (self.classes, COUNTS), "int64", "px")  # type: ignore
        return columns

    def _of(self, place: int, answers: Answers) -> dict[LesionColumn, float | np.ndarray]:
        lesion = self.lesions[place]
        layers = list(dict.fromkeys(one.layer.name for one in self.lesions))
        counted = answers.counted(lesion.how)
        intact = answers.intact_pixels[layers.index(lesion.layer.name)][counted].astype(np.int64)
        pixels = answers.pixels[place][counted].astype(np.int64)
        total = pixels.sum(0)
        known = np.nan if not self.maps.known else 1.0
        before, after = (float(mean_overlap(one.sum(0), self.maps.judged)) * known for one in (intact, pixels))
        difference, share = self._ends(intact, pixels)
        changed = np.divide(total[:, OTHER], total[:, TRUE], out=np.full(len(total), np.nan), where=total[:, TRUE] > 0)
        return {
            "images": int(counted.sum()),
            "before": before,
            "after": after,
            "difference": after - before,
            "difference_low": difference[0] * known,
            "difference_high": difference[1] * known,
            "changed": float(total[:, OTHER].sum() / max(1, total[:, TRUE].sum())),
            "changed_low": share[0],
            "changed_high": share[1],
            "unexplained": self._unexplained(place, answers, counted),
            "class_before": overlap(intact.sum(0)) * known,
            "class_after": overlap(total) * known,
            "class_changed": changed,
            "class_pixels": total,
            "class_pixels_intact": intact.sum(0),
        }

    def _ends(self, intact: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the intervals of the difference, and of the share of pixels decided otherwise."""
        images = len(pixels)
        if images < 2:
            return np.full(2, np.nan), np.full(2, np.nan)
        random = np.random.default_rng([self.seed, images])
        drawn = random.multinomial(images, np.full(images, 1 / images), DRAWS).astype(np.float64)
        before, after = ((drawn @ one.reshape(images, -1)).reshape(DRAWS, *one.shape[1:]) for one in (intact, pixels))
        difference = mean_overlap(after, self.maps.judged) - mean_overlap(before, self.maps.judged)
        share = after[..., OTHER].sum(1) / np.maximum(after[..., TRUE].sum(1), 1)
        finite = difference[np.isfinite(difference)]
        ends = np.percentile(finite, ENDS) if len(finite) else np.full(2, np.nan)
        return ends, np.percentile(share, ENDS)
