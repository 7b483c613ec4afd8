"""Images that a network decides otherwise after the lesions that cost most; maps of classes before and after."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.datasets.base.targets import NOT_COUNTED, around
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.images.thumbnails import class_thumbnails, picture_kind, picture_size, thumbnails
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.lesion.lesioning import Answers, Lesioning
from cnnprobe.methods.lesion.lesions import Lesion
from cnnprobe.methods.lesion.pixels import Maps
from cnnprobe.store.tables import Column, Rows, Table

PictureColumn = Literal["lesion", "image", "shown", "pixels", "truth", "intact", "lesioned"]
"""Columns of the table "pictures": the last three of maps of classes that images have masks of."""
MAPS: tuple[PictureColumn, ...] = ("truth", "intact", "lesioned")
LESIONS = 5
"""Lesions of which images are shown at most, those that cost most."""
IMAGES = 8
"""Images of each."""


@dataclass(frozen=True)
class Examples:
    """The images, chosen when all lesions are measured.

    Args:
        dataset: all images.
        lesions: that were made.
        shown: (image,) indices of those that they were measured with.
        partner: (image,) indices of those whose activations stand in.
        computation: how images are loaded.
        maps: what the network returns, where that is a class for every pixel.
    """

    dataset: ImageSet
    lesions: list[Lesion]
    shown: np.ndarray
    partner: np.ndarray
    computation: Computation
    maps: Maps | None = None

    def table(self) -> Table[PictureColumn]:
        """Lay out the table; rows that no image fills have -1."""
        along = "y x" if len(self.dataset.size) == 3 else "time"
        own = sum(one.control < 0 for one in self.lesions)
        count = min(LESIONS, own) * IMAGES
        columns: dict[PictureColumn, Column] = {
            "lesion": Column("row of the table lesions, -1 = none", dtype="int64", unit="index"),
            "image": Column("row of the table stimuli, -1 = none", dtype="int64", unit="index"),
            "shown": Column("row of the table images, -1 = none", dtype="int64", unit="index"),
            "pixels": Column("the image, made small", f"channel {along}", picture_size(self.dataset.size, count),
                             *picture_kind(self.dataset.size)),
        }  # fmt: skip
        if self.maps is not None and self.maps.known:
            said = "class decided for with the lesion", "class decided for without it", "true class"
            for name, words in zip(MAPS, reversed(said)):
                size = columns["pixels"].shape[1:]
                columns[name] = Column(
                    f"{words}, 255 = not counted, or beyond the output", "y x", size, "uint8", "index"
                )
        return Table("pictures", "example", count, columns, count, aside=True)

    def chosen(self, answers: Answers, loss: np.ndarray, labels: np.ndarray | None) -> list[tuple[int, int]]:
        """Return (lesion, place of the image among those shown): decided otherwise, the most moved first.

        Args:
            answers: of all lesions.
            loss: (lesion,).
            labels: (image,) of those shown, where they are classes of the network: what was right comes first.
        """
        own = [place for place, one in enumerate(self.lesions) if one.control < 0 and loss[place] > 0]
        found = []
        for place in sorted(own, key=lambda place: -loss[place])[:LESIONS]:
            row = list(dict.fromkeys(one.layer.name for one in self.lesions)).index(self.lesions[place].layer.name)
            intact, decided = answers.intact[row], answers.decided[place]
            other = np.flatnonzero(answers.counted(self.lesions[place].how) & (intact >= 0) & (intact != decided))
            right = intact == labels if labels is not None else np.zeros(len(intact), bool)
            moved = np.nan_to_num(answers.moved[place])
            order = sorted(other.tolist(), key=lambda image: (not right[image], -moved[image]))
            found += [(place, image) for image in order[:IMAGES]]
        return found

    def rows(self, answers: Answers, loss: np.ndarray, labels: np.ndarray | None) -> Iterator[Rows[PictureColumn]]:
        """Load the images and give their rows."""
        yield from self._loaded(self.chosen(answers, loss, labels))

    def of_maps(
        self, answers: Answers, loss: np.ndarray, lost: np.ndarray, work: Lesioning
    ) -> Iterator[Rows[PictureColumn]]:
        """Give the rows where a class is decided for every pixel: images whose map fits much worse, the worst first.

        Args:
            answers, loss: see `chosen`.
            lost: (lesion, image) of the intersection over union, NaN where that is unknown.
            work: shows these images once more.
        """
        own = [place for place, one in enumerate(self.lesions) if one.control < 0 and loss[place] > 0]
        found: list[tuple[int, int]] = []
        for place in sorted(own, key=lambda place: -loss[place])[:LESIONS]:
            worse = np.flatnonzero(answers.counted(self.lesions[place].how) & (lost[place] > 0))
            found += [(place, int(image)) for image in worse[np.argsort(-lost[place][worse], kind="stable")][:IMAGES]]
        yield from self._loaded(found, self._segmented(found, work))

    def _segmented(self, chosen: list[tuple[int, int]], work: Lesioning) -> dict[PictureColumn, np.ndarray]:
        """Return the true maps of images, and those before and after the lesions, as small as their pictures."""
        table, maps = self.table(), self.maps
        if maps is None or not maps.known:
            return {}
        size = table.columns["truth"].shape
        made = {name: np.full((table.rows, *size), NOT_COUNTED, np.uint8) for name in MAPS}
        own = [np.array([indices[image] for _, image in chosen], np.int64) for indices in (self.shown, self.partner)]
        loaded = (batches(self.dataset, **self.computation.loading, indices=some, targets=True) for some in own)
        row = 0
        for batch, others in zip(*loaded):
            for place in range(len(batch)):  # each has a lesion of its own
                part = batch.part(place, place + 1)
                scores = work.again(chosen[row][0], part, others.part(place, place + 1))
                assert part.targets is not None  # they were asked for
                answered = [one.unflatten(1, maps.shape).argmax(1) for one in scores]
                whole = tuple(part.targets.shape[-2:])
                for name, one in zip(MAPS, (part.targets, *(around(one, whole) for one in answered))):
                    made[name][row] = class_thumbnails(one.cpu().numpy(), size)[0]
                row += 1
        return made

    def _loaded(
        self, chosen: list[tuple[int, int]], more: dict[PictureColumn, np.ndarray] | None = None
    ) -> Iterator[Rows[PictureColumn]]:
        table = self.table()
        if not table.rows:
            return
        own = np.array([self.shown[image] for _, image in chosen], np.int64)
        kind = table.columns["pixels"]
        pixels = np.full((table.rows, *kind.shape), 255 if kind.dtype == "uint8" else 0, kind.dtype)
        start = 0
        for batch in batches(self.dataset, **self.computation.loading, indices=own):
            pixels[start : start + len(batch)] = thumbnails(batch.images, kind.shape[1:])
            start += len(batch)
        columns: dict[PictureColumn, np.ndarray] = {
            "lesion": _filled([place for place, _ in chosen], table.rows),
            "image": _filled(own.tolist(), table.rows),
            "shown": _filled([image for _, image in chosen], table.rows),
            "pixels": pixels,
        }
        yield Rows("pictures", 0, columns | (more or {}))


def _filled(values: list[int], count: int) -> np.ndarray:
    return np.array(values + [-1] * (count - len(values)), np.int64)
