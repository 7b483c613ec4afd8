"""What a network answers beside what the images ask of it, where that is more than one class per image.

    existence, several classes  scores; whether the classes that are there have the highest
    map                         pixels of each class: true, predicted, both; intersection over union; by distance to the
                                border of the image and to the nearest edge of the true map
    course                      sums behind the explained share of each channel

All of it is of one image at a time: counts and sums are added up over images, and rows are written batch by batch.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.datasets.base.targets import NOT_COUNTED, around, middle
from cnnprobe.instruments.images.batches import Batch
from cnnprobe.instruments.images.thumbnails import class_thumbnails
from cnnprobe.instruments.network.activations import warn_of_nan
from cnnprobe.instruments.outputs import distances
from cnnprobe.instruments.outputs.average_precision import all_present
from cnnprobe.instruments.outputs.explained import explained_by_channel, sums_of
from cnnprobe.instruments.outputs.kinds import Outputs
from cnnprobe.instruments.outputs.overlap import mean_of, overlaps_of, pixel_confusion
from cnnprobe.methods.record.columns import COUNTS, ImageColumn, PictureColumn
from cnnprobe.store.tables import Column

LOG = logging.getLogger("cnnprobe")
ASKED = {
    "class": "one class per image",
    "present": "several classes per image",
    "map": "a class for every pixel",
    "course": "courses",
}
"""What images ask, in words."""
Judged = tuple[dict[ImageColumn, np.ndarray], dict[str, np.ndarray]]
"""Of some images: columns of "images", and what is drawn of them."""


class Judge(Protocol):
    """Compares what a network returns with what the images ask."""

    def attributes(self) -> dict[str, Any]:
        """Return attributes of "images"."""

    def columns(self) -> dict[ImageColumn, Column]:
        """Describe columns of "images"."""

    def shown(self, size: tuple[int, ...]) -> dict[PictureColumn, Column]:
        """Describe columns of "pictures", which are of a size."""

    def answers(self, outputs: Any, part: Batch) -> Judged:
        """Judge some images."""

    def pictures(
        self, drawn: Mapping[str, np.ndarray], indices: np.ndarray, size: tuple[int, ...]
    ) -> dict[PictureColumn, np.ndarray]:
        """Return columns of "pictures" from what is drawn of images."""


def judge_of(known: Outputs, dataset: ImageSet, classes: tuple[str, ...]) -> Judge | None:
    """Return what compares outputs with what the images ask beyond one class; None where there is nothing, or a misfit.

    What cannot be compared is warned of in one line.

    Args:
        known: what the network returns.
        dataset: an image set.
        classes: the network's own class names, () where unknown.
    """
    kind = dataset.target.kind
    if kind == "class" and known.form not in ("map", "course"):
        return Scores(known, dataset) if known.form == "existence" else None
    if misfit := _misfit(known, dataset, classes):
        LOG.warning(f"what the network returns is not judged: {misfit}")
        return None
    if kind == "map":
        return Maps(known, dataset)
    return Courses(known, dataset) if kind == "course" else Scores(known, dataset)


def _misfit(known: Outputs, dataset: ImageSet, classes: tuple[str, ...]) -> str:
    """Say why outputs cannot be compared with what the images ask; "" where they can."""
    target, shape = dataset.target, known.shape
    given = f"it gives {' x '.join(map(str, shape)) or 'no tensor'} per image"
    fits = {"present": known.kind != "unknown", "class": False}.get(target.kind, known.form == target.kind)
    if not fits:
        more = "; dataset.target=mask where a dataset has masks" if known.form == "map" else ""
        return f"{given}, {dataset.name} has {ASKED[target.kind]}{more}"
    count, own = len(target.names), known.count or shape[0]
    what = "channels" if target.kind == "course" else "classes"
    if own != count:
        return f"{given}, {dataset.name} has {count} {what} ({', '.join(target.names[:4])}{', …' * (count > 4)})"
    if classes and tuple(classes) != tuple(target.names):
        return f"its {what} are others than those of {dataset.name}, or in another order"
    if target.kind == "map" and any(side > whole or (whole - side) % 2 for side, whole in zip(shape[1:], target.size)):
        return f"{given}, the maps of {dataset.name} have {' x '.join(map(str, target.size))} px, or the middle of that"
    if target.kind == "course" and shape[1:] != target.size[1:]:
        return f"{given}, the courses of {dataset.name} have {target.size[1]} samples"
    return ""


class _Judge:
    """What all of them share: the images, and which of them can be judged."""

    def __init__(self, known: Outputs, dataset: ImageSet):
        self.known, self.dataset, self.target = known, dataset, dataset.target

    def attributes(self) -> dict[str, Any]:
        """Return what is asked, and the names of classes or channels."""
        names = json.dumps(list(self.target.names), ensure_ascii=False)
        return {"target": self.target.kind, "target_names": names}

    def shown(self, size: tuple[int, ...]) -> dict[PictureColumn, Column]:
        """Nothing more is drawn."""
        return {}

    def pictures(
        self, drawn: Mapping[str, np.ndarray], indices: np.ndarray, size: tuple[int, ...]
    ) -> dict[PictureColumn, np.ndarray]:
        """Nothing more is drawn."""
        return {}

    def asked(self, outputs: Tensor, part: Batch) -> tuple[Tensor, np.ndarray]:
        """Return the targets on the device of the outputs, and which images have one and a finite answer.

        Args:
            outputs: (image, unit, …).
            part: the images.
        """
        targets, known = self.dataset.targets(part.indices)
        largest = outputs.float().flatten(1).abs().view(*outputs.shape[:2], -1).amax(2)
        if self.target.kind in ("map", "course"):  # of rows of scores it has been said
            warn_of_nan("logits", largest, part.indices, part.readable)
        finite = largest.isfinite().all(1).cpu().numpy()
        return targets.to(outputs.device), part.readable & known & finite


class Scores(_Judge):
    """Scores of classes that stand each for itself; which of them are there, where an image may have several."""

    @property
    def several(self) -> bool:
        """Whether an image may have several classes."""
        return self.target.kind == "present"

    def columns(self) -> dict[ImageColumn, Column]:
        """Describe scores, truth, and whether they agree."""
        count = (self.known.classes,)
        scores = Column("score, log-odds where it is a probability's; NaN: unreadable", "class", count, "float32")
        if not self.several:
            return {"scores": scores}
        agree = "1 where the k classes of the image have the k highest scores, 0 where not, -1 = cannot be judged"
        return {
            "scores": scores,
            "present": Column("1 where the image has the class", "class", count, "uint8"),
            "all_found": Column(agree, dtype="int64"),
        }

    def answers(self, outputs: Any, part: Batch) -> Judged:
        """Return the scores; with several classes, how they stand to the truth."""
        scores = self.known.scores(outputs)
        assert scores is not None  # or there were no judge
        values = scores.float().cpu().numpy().copy()
        values[~part.readable] = np.nan
        if not self.several:
            return {"scores": values}, {}
        targets, judged = self.asked(scores, part)
        present = targets.cpu().numpy() * judged[:, None].astype(np.uint8)
        found = np.where(judged, all_present(np.nan_to_num(values), present), -1)
        return {"scores": values, "present": present, "all_found": found.astype(np.int64)}, {}


class Maps(_Judge):
    """Maps of classes beside the true ones; of a network without padding, beside the middle of these."""

    def attributes(self) -> dict[str, Any]:
        """Return also which classes means are taken over, and how wide the bands along the border are."""
        about = {"judged": list(self.target.judged), "band": distances.band_width(self.target.size)}
        return super().attributes() | about

    def columns(self) -> dict[ImageColumn, Column]:
        """Describe counts of pixels and their overlap."""
        count = (len(self.target.names),)
        mean = "intersection over union, mean over the judged classes that are true or predicted; NaN: none is"
        counts = "pixels that count, decided rightly; of judged classes: decided rightly, true, predicted"
        border, edge = distances.bands(self.target.size), distances.EDGE + 1
        return {
            "both": Column("pixels of the class that were taken for it", "class", count, "int64"),
            "true": Column("pixels of the class", "class", count, "int64"),
            "predicted": Column("pixels taken for the class, of those that count", "class", count, "int64"),
            "iou": Column(mean, dtype="float64"),
            "by_border": Column(
                f"by distance to the border of the image, in bands: {counts}",
                *("band count", (border, distances.COUNTS), "int32"),
            ),
            "by_edge": Column(
                f"by distance to the nearest pixel of another true class (1, 2, … px; last: farther): {counts}",
                *("distance count", (edge, distances.COUNTS), "int32"),
            ),
        }

    def shown(self, size: tuple[int, ...]) -> dict[PictureColumn, Column]:
        """Describe small maps."""
        seen = size[1:]
        return {
            "truth": Column("true class, 255 = not counted", "y x", seen, "uint8", "index"),
            "answer": Column("class decided for, 255 = beyond the output", "y x", seen, "uint8", "index"),
        }

    def answers(self, outputs: Any, part: Batch) -> Judged:
        """Count pixels."""
        targets, judged = self.asked(outputs, part)
        chosen, size = outputs.argmax(1), tuple(outputs.shape[-2:])
        confusion = pixel_confusion(chosen, middle(targets, size), outputs.shape[1]).cpu().numpy()
        confusion[~judged] = 0
        counts = np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(2), confusion.sum(1)
        overlap = mean_of(overlaps_of(*counts), self.target.judged)
        columns: dict[ImageColumn, np.ndarray] = dict(zip(COUNTS, counts))
        columns |= self._by_distance(chosen, targets, judged)
        answer = around(chosen, tuple(targets.shape[-2:])).cpu().numpy()
        answer[~judged] = NOT_COUNTED
        return columns | {"iou": overlap}, {"truth": targets.cpu().numpy(), "answer": answer}

    def _by_distance(self, chosen: Tensor, targets: Tensor, judged: np.ndarray) -> dict[ImageColumn, np.ndarray]:
        """Count pixels by where they lie: distances are those in the whole image, also of an answer for its middle."""
        size, whole = tuple(chosen.shape[-2:]), tuple(targets.shape[-2:])
        bands = distances.to_border(whole).to(targets.device) // distances.band_width(whole)
        places = {"by_border": (bands.expand(targets.shape), distances.bands(whole)),
                  "by_edge": (distances.to_edge(targets) - 1, distances.EDGE + 1)}  # fmt: skip
        found: dict[ImageColumn, np.ndarray] = {}
        for name, (place, number) in places.items():
            own = distances.counts_by(middle(place, size), number, chosen, middle(targets, size), self.target.judged)
            found[name] = own.cpu().numpy().astype(np.int32) * judged[:, None, None]  # type: ignore[index]
        return found

    def pictures(
        self, drawn: Mapping[str, np.ndarray], indices: np.ndarray, size: tuple[int, ...]
    ) -> dict[PictureColumn, np.ndarray]:
        """Return the class in the middle of each pixel of the small picture."""
        return {name: class_thumbnails(drawn[name], size) for name in ("truth", "answer")}


class Courses(_Judge):
    """Courses beside the true ones."""

    def attributes(self) -> dict[str, Any]:
        """Return also samples per second and the time of the first, s: its own, or of signals as long as courses."""
        rate, size = self.dataset.rate, self.dataset.size
        if self.target.rate is not None:
            return super().attributes() | {"rate": float(self.target.rate), "start": float(self.target.start)}
        known = rate is not None and len(size) == 2 and size[1] == self.target.size[1]
        return super().attributes() | ({"rate": float(rate)} if known and rate is not None else {})

    def columns(self) -> dict[ImageColumn, Column]:
        """Describe sums, and what they explain."""
        count = self.target.size[0]
        what = "sums over time: samples, y, y², (y - ŷ)², where y is true and ŷ the answer; 0: cannot be judged"
        return {
            "sums": Column(what, "channel sum", (count, 4), "float64"),
            "explained": Column(
                "explained share (R²); NaN for a course that is constant", "channel", (count,), "float64"
            ),
        }

    def shown(self, size: tuple[int, ...]) -> dict[PictureColumn, Column]:
        """Describe courses."""
        axes, own, unit = "channel time", self.target.size, "as in the dataset"
        return {
            "truth": Column("true course", axes, own, "float32", unit),
            "answer": Column("course the network gives", axes, own, "float32", unit),
        }

    def answers(self, outputs: Any, part: Batch) -> Judged:
        """Add up what the explained share is made from."""
        targets, judged = self.asked(outputs, part)
        sums = sums_of(outputs, targets).cpu().numpy()
        sums[~judged] = 0
        shares = np.where(judged[:, None], explained_by_channel(sums), np.nan)
        both = {"truth": targets.float().cpu().numpy().copy(), "answer": outputs.float().cpu().numpy().copy()}
        for values in both.values():
            values[~judged] = np.nan
        return {"sums": sums, "explained": shares}, both

    def pictures(
        self, drawn: Mapping[str, np.ndarray], indices: np.ndarray, size: tuple[int, ...]
    ) -> dict[PictureColumn, np.ndarray]:
        """Return the courses as they are."""
        return {"truth": drawn["truth"], "answer": drawn["answer"]}
