"""Class activation maps of a set of images: what is stored, and how it is made."""

import json
import logging
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.thumbnails import thumbnails
from cnnprobe.instruments.outputs.kinds import Outputs
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.cam.class_choice import Choice
from cnnprobe.methods.cam.columns import JUDGED, ClassColumn, MapColumn, Measure, PictureColumn, SummaryColumn
from cnnprobe.methods.cam.cue_combination import ClassMeans, CueCombination
from cnnprobe.methods.cam.localisation import MEASURES, OVERLAP, Tally, Truth, averaged, judge, laid
from cnnprobe.methods.cam.maps import ClassMaps, Found
from cnnprobe.methods.cam.regions import RegionChoice, Regions
from cnnprobe.store.tables import Advance, Column, Phase, Rows, Table
from cnnprobe.store.unfinished import State, Unfinished, put

LOG = logging.getLogger("cnnprobe")


@dataclass
class ClassMapping:
    """Maps images in batches.

    Args:
        engine: makes the maps.
        dataset: an image set.
        choice: of classes.
        images: how many are mapped.
        shared: the labels are classes of the network.
        judged: compare maps with the truth of the dataset.
        picture: (channel, y, x) of the stored pictures.
        draws: of the bootstrap of class means (cccam).
        computation: device, loaders, images that are loaded, and saved, together, and the seed of the draws.
        facts: of a stopped run: what is known of the images it has finished.
    """

    engine: ClassMaps | CueCombination
    dataset: ImageSet
    choice: Choice | RegionChoice
    images: int
    shared: bool
    judged: bool
    picture: tuple[int, ...]
    draws: int
    computation: Computation
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        self.cues = self.engine if isinstance(self.engine, CueCombination) else None
        self.shape = self.cues.shape if self.cues else self.engine.grid.shape
        labels = self.dataset.labels
        present = sorted({int(label) for label in labels if label >= 0})
        self.rows_of = present if self.shared else list(range(self.engine.classes))
        self.regions = self.engine.outputs if isinstance(self.engine.outputs, Regions) else None
        self.means = ClassMeans(self.draws, self.computation.seed)
        self.added: set[int] = set()  # first images of the batches that are in the means

    # ---- what is stored ----------------------------------------------------------------------------------------------

    def tables(self, about: dict[str, Any], chosen: np.ndarray | None) -> list[Table[Any]]:
        """Lay out what is stored; `chosen`: the images, None where they are found out by the work."""
        self.about = about
        per, count = self.choice.count, self.images
        self.searched = chosen is None
        columns = self._columns(None if chosen is None else np.repeat(chosen, per))
        found: list[Table[Any]] = [
            Table("images", "row", count * per, columns, self.computation.batch_size * per, about | {"per_image": per})
        ]
        shown: dict[PictureColumn, Column] = {
            "image": Column("row of /stimuli, -1 = none", dtype="int64", unit="index"),
            "pixels": Column("the image, made small", "channel y x", self.picture, "uint8", "0 to 255"),
        }
        if self.judged:
            words = "true on the object, at the size of the picture"
            shown["truth"] = Column(words, "y x", self.picture[1:], "bool")
        found.append(Table("pictures", "image", count, shown, self.computation.batch_size, aside=True))
        if self.judged:
            found.append(self._summary())
        if self.cues:
            found.append(self._classes(self.cues))
        return found

    def _columns(self, images: np.ndarray | None) -> dict[MapColumn, Column]:
        votes = getattr(self.engine, "kind", "") == "votes"
        unit = "length before the squash" if votes else "logit" if not self.cues else "nats per activation"
        evidence = "mean of the map; for cam plus the bias: the logit"
        if votes:
            evidence = "sum of the map, what the class capsule gathers: the logit is 2 ln of it"
        columns: dict[MapColumn, Column] = {
            "image": Column("row of /stimuli, -1 = none", dtype="int64", unit="index", values=images),
            "class": Column("whose map it is, in the network's own order, -1 = none", dtype="int64", unit="index"),
            "rank": Column("place of the class among the outputs, 0 = first", dtype="int64", unit="index"),
            "probability": Column("of the class, NaN where the network gives none"),
            "logit": Column(
                "score of the class: the output, or what its own softmax or sigmoid is made from", unit="logit"
            ),
            "map": Column("class activation map, signed", "y x", self.shape, unit=unit),
            "evidence": Column(evidence, unit=unit),
            "silent": Column("true where nothing in the map is evidence for the class", dtype="bool"),
        }
        if self.regions:
            columns["pixels"] = Column("of the region whose scores are summed", dtype="int64", unit="px")
        if getattr(self.engine, "kind", "") == "guided-gradcam":
            words = "guided backpropagation of the logit times the map's positive part"
            columns["guided"] = Column(words, "channel y x", tuple(self.dataset.size), unit="logit² per pixel")
        if self.judged:
            measured: dict[Measure, str] = {
                "pointing": "1 where the maximum of the map lies on the object or near it",
                "iou": "overlap of the 20 % box with the object's best fitting box",
                "energy": "share of the map's positive part on the object",
            }
            for name, _, _, chance in JUDGED.values():
                columns[name] = Column(measured[name])
                columns[chance] = Column(f"{name} of chance")
            columns["box"] = Column("20 % box: top, left, bottom, right", "edge", (4,), unit="px")
        return columns

    def _summary(self) -> Table[SummaryColumn]:
        columns: dict[SummaryColumn, Column] = {
            "class": Column("class of the images, -1 = mean over classes", dtype="int64", unit="index",
                            values=np.array([-1, *self.rows_of])),
            "images": Column("how many maps there are; `localised` counts them all", dtype="int64", unit="images"),
            "judged": Column("how many have anything positive: the means are over these", dtype="int64", unit="images"),
            "localised": Column(f"share of images with an iou of {OVERLAP} or more whose class ranks first"),
        }  # fmt: skip
        for name, low, high, chance in JUDGED.values():
            columns[name] = Column("mean over images")
            columns[low] = Column("lower end of its 95 % interval over independent images; NaN of one")
            columns[high] = Column("upper end of its 95 % interval")
            columns[chance] = Column("mean of chance over the same images")
        rows = len(self.rows_of) + 1
        of = "the class of the label" if self.shared else "the class that ranks first"
        return Table("localisation", "class", rows, columns, rows, {"of": of}, aside=True)

    def _classes(self, cues: CueCombination) -> Table[ClassColumn]:
        rows = len(self.rows_of)
        error = "its standard error over images drawn again"
        columns: dict[ClassColumn, Column] = {
            "class": Column("index", dtype="int64", unit="index", values=np.array(self.rows_of)),
            "images": Column("maps that are averaged", dtype="int64", unit="images"),
            "weight": Column(
                "what removing each cue costs over the sum of its squared map, summed over images",
                "cue",
                (cues.layer.channels,),
                "float64",
                "nats per squared activation",
            ),
            "mean_map": Column("mean of the maps of its images", "y x", self.shape),
            "mean_ratio": Column(f"mean map over {error}", "y x", self.shape),
            "contrast": Column("mean map less that of the other classes", "y x", self.shape),
            "contrast_ratio": Column(f"contrast over {error}: bootstrap ratio", "y x", self.shape),
        }
        return Table("classes", "class", rows, columns, max(1, rows), {"draws": self.draws}, aside=True)

    # ---- work --------------------------------------------------------------------------------------------------------

    def events(
        self, chosen: np.ndarray, finished: dict[str, frozenset[int]], unfinished: Unfinished | None = None
    ) -> Iterator[Rows[Any] | Advance | Phase]:
        """Map the chosen images (-1 for none).

        Args:
            finished: by table, first rows of the batches there are already.
            unfinished: keeps what is in no row yet.
        """
        unfinished = unfinished or Unfinished()
        if self.cues:
            yield from self._weigh(self.cues, chosen, unfinished)
        # a stop between the two leaves a batch of maps without its pictures; means over classes need all maps
        maps, pictures = (finished.get(name, frozenset()) for name in ("images", "pictures"))
        # what counts in the summary, and what was left out, stands in the facts: a batch not there is done again
        known = {int(start) for start in self.facts.get("judged" if self.judged else "skipped", {})}
        there = {start for start in pictures if start * self.choice.count in maps} & known
        if self.cues:
            unfinished.begin("means", lambda: {"there": sorted(self.added), **self.means.state()}, self._restore_means)
            there = there & self.added
        todo = [start for start in range(0, len(chosen), self.computation.batch_size) if start not in there]
        places = np.concatenate(
            [np.arange(len(chosen))[start : start + self.computation.batch_size] for start in todo] or [np.arange(0)]
        )
        places = places.astype(np.int64)
        yield Phase("mapping classes", len(places), "images")
        with nullcontext() if isinstance(self.engine, CueCombination) else self.engine:
            for start, batch in zip(todo, self._loaded(chosen[places])):
                at: State = {}
                unfinished.begin(f"maps/{start}", at.copy, at.update)
                own = chosen[start : start + len(batch)]
                found = yield from self._found(batch, at)
                columns, shown = self._batch(own, batch, found, start)
                yield Advance(len(batch))  # what is known of the batch is saved before its rows
                yield Rows("images", start * self.choice.count, columns)
                yield Rows("pictures", start, shown)
                unfinished.drop(f"maps/{start}")
        if self.judged:
            yield Rows("localisation", 0, self._judgement())
        if self.cues:
            yield Rows("classes", 0, self._means(self.cues))

    def _weigh(self, cues: CueCombination, chosen: np.ndarray, unfinished: Unfinished) -> Iterator[Advance | Phase]:
        """Weigh the cues."""
        yield Phase("weighing cues", len(chosen), "images")
        shown = 0

        def restore(state: State) -> None:
            nonlocal shown
            put({"total": cues.total, "count": cues.count}, state)
            shown = state["shown"]

        unfinished.begin("cues", lambda: {"shown": shown, "total": cues.total, "count": cues.count}, restore)
        yield Advance(shown)
        for batch in self._loaded(chosen[shown:]):
            labels = self._labels(batch) if self.shared else None
            keep = torch.from_numpy(batch.readable).to(batch.images.device)
            cues.weigh(batch.images[keep], None if labels is None else labels[batch.readable])
            shown += len(batch)
            yield Advance(len(batch))
        if missing := int((cues.count == 0).sum()):
            whose = "is" if self.shared else "is decided to be"
            LOG.warning(
                f"no image {whose} of {missing} of the {cues.classes} classes: they have no weights, and their "
                "maps are NaN"
            )
        unfinished.end("cues")

    def _found(self, batch: Batch, at: State) -> Generator[Advance, None, Found]:
        """Map a batch; `at`: how far it has come."""
        labels = torch.from_numpy(self._labels(batch))
        if isinstance(self.engine, CueCombination):
            return self.engine.maps(batch.images, labels, self.choice)
        steps = self.engine.steps(batch.images, labels, self.choice, at, batch.targets)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            yield Advance(0)

    def _restore_means(self, state: State) -> None:
        self.means.restore(state)
        self.added = set(state["there"])

    def _loaded(self, chosen: np.ndarray) -> Iterator[Batch]:
        masks = self.regions is not None and self.regions.region == "truth"
        loaded = batches(self.dataset, **self.computation.loading, indices=np.maximum(chosen, 0), targets=masks)
        for number, batch in enumerate(loaded):
            own = chosen[number * self.computation.batch_size : (number + 1) * self.computation.batch_size]
            yield Batch(own, batch.images, batch.labels, batch.readable & (own >= 0), batch.targets)

    def _labels(self, batch: Batch) -> np.ndarray:
        return np.where(batch.readable & self.shared, batch.labels, -1)

    def _batch(
        self, chosen: np.ndarray, batch: Batch, found: Found, start: int
    ) -> tuple[dict[MapColumn, np.ndarray], dict[PictureColumn, np.ndarray]]:
        """Return the rows of a batch, and its pictures."""
        labels = self._labels(batch)
        truths = [self._truth(int(i)) if ok else None for i, ok in zip(chosen, batch.readable)]
        finite = np.isfinite(found.logits).all(1)
        columns = decided(found, batch.readable & finite, self.engine.outputs)
        if self.searched:
            columns["image"] = np.repeat(chosen, self.choice.count)
        bad = chosen[batch.readable & ~finite]
        if len(bad):
            LOG.warning(f"logits are not finite for {len(bad)} images, first image {bad[0]}")
        if found.guided is not None:
            columns["guided"] = found.guided.reshape(-1, *found.guided.shape[2:])
        if self.judged:
            columns |= self._compare(columns, truths, labels, start)
        if self.cues and start not in self.added:
            self._collect(columns, chosen, labels)
            self.added.add(start)
        self.facts.setdefault("skipped", {})[str(start)] = [int(i) for i in chosen[(chosen >= 0) & ~batch.readable]]
        shown: dict[PictureColumn, np.ndarray] = {"image": chosen, "pixels": thumbnails(batch.images, self.picture[1:])}
        shown["pixels"][~batch.readable] = 255
        if self.judged:
            shown["truth"] = np.stack([_small(truth, self.picture[1:]) for truth in truths])
        return columns, shown

    def _truth(self, index: int) -> Truth | None:
        return Truth.of(self.dataset.truth(index), self.dataset.size[1:]) if self.judged else None

    def _compare(
        self, columns: dict[MapColumn, np.ndarray], truths: list[Truth | None], labels: np.ndarray, start: int
    ) -> dict[MapColumn, np.ndarray]:
        """Judge the maps of a batch, and note what counts for the summary."""
        per = self.choice.count
        count = len(columns["class"])
        found: dict[MapColumn, np.ndarray] = {"box": np.full((count, 4), np.nan, np.float32)}
        for name, _, _, chance in JUDGED.values():
            found[name], found[chance] = np.full((2, count), np.nan, np.float32)
        notes: dict[str, dict[str, Any]] = {}
        for row in range(count):
            truth, label = truths[row // per], int(labels[row // per])
            if truth is None or columns["class"][row] < 0:
                continue
            judged = judge(laid(columns["map"][row : row + 1], self.about)[0], truth)
            found["box"][row] = judged["box"]
            for name, _, _, chance in JUDGED.values():
                found[name][row], found[chance][row] = judged[name]
            counts = columns["class"][row] == label if self.shared else columns["rank"][row] == 0
            if counts:
                note = notes.setdefault(str(int(columns["class"][row])), {})
                for name in MEASURES:
                    tally = Tally()
                    tally.join(note.get(name, [0.0]))
                    tally.add(*judged[name].tolist())
                    note[name] = tally.plain
                hit = bool(judged["iou"][0] >= OVERLAP and columns["rank"][row] == 0)
                seen = note.get("localised", [0, 0])
                note["localised"] = [seen[0] + 1, seen[1] + hit]
        self.facts.setdefault("judged", {})[str(start)] = notes
        return found

    def _judgement(self) -> dict[SummaryColumn, np.ndarray]:
        """Return the summary: a row for the mean over classes, then one for each class."""
        tallies = {label: {name: Tally() for name in MEASURES} for label in self.rows_of}
        localised = {label: [0, 0] for label in self.rows_of}
        for start in sorted(self.facts.get("judged", {}), key=int):
            for label, note in self.facts["judged"][start].items():
                for name in MEASURES:
                    tallies[int(label)][name].join(note[name])
                localised[int(label)] = [a + b for a, b in zip(localised[int(label)], note["localised"])]
        groups = [self.rows_of, *([label] for label in self.rows_of)]
        found: dict[SummaryColumn, list[float]] = {"images": [], "judged": [], "localised": []}
        for group in groups:
            shares = [localised[label][1] / localised[label][0] for label in group if localised[label][0]]
            found["images"].append(sum(localised[label][0] for label in group))
            found["judged"].append(sum(len(tallies[label]["pointing"].values) for label in group))
            found["localised"].append(float(np.mean(shares)) if shares else np.nan)
            for name, columns in JUDGED.items():
                for column, number in zip(columns, averaged([tallies[label][name] for label in group])):
                    found.setdefault(column, []).append(number)
        return {
            name: np.array(values, np.int64 if name in ("images", "judged") else np.float32)
            for name, values in found.items()
        }

    def _collect(self, columns: dict[MapColumn, np.ndarray], chosen: np.ndarray, labels: np.ndarray) -> None:
        """Add the maps of a batch to the means of their classes."""
        for row in range(len(columns["class"])):
            place = row // self.choice.count
            label = int(columns["class"][row])
            own = label == labels[place] if self.shared else columns["rank"][row] == 0
            if own and label >= 0:
                self.means.add(label, int(chosen[place]), columns["map"][row])

    def _means(self, cues: CueCombination) -> dict[ClassColumn, np.ndarray]:
        found = self.means.of(self.rows_of, self.shape)
        return found | {"weight": cues.weights[self.rows_of]}


def decided(found: Found, readable: np.ndarray, known: Outputs | Regions) -> dict[MapColumn, np.ndarray]:
    """Return what the network decided, and its maps, as columns with one row for each image and class."""
    classes = np.where(readable[:, None], found.classes, -1)
    own = np.take_along_axis(found.logits, np.maximum(classes, 0), 1)
    shares = known.probabilities(torch.from_numpy(found.logits).double()).numpy()
    order = found.logits if found.order is None else found.order
    place = np.take_along_axis(order, np.maximum(classes, 0), 1)
    before = order[:, None, :] > place[:, :, None]
    equal = (order[:, None, :] == place[:, :, None]) & (np.arange(order.shape[1]) < np.maximum(classes, 0)[:, :, None])
    none = classes < 0
    maps = np.where(none[:, :, None, None], np.float32(np.nan), found.maps)
    with np.errstate(invalid="ignore"):
        silent = ~none & np.isfinite(maps).all((2, 3)) & ~(maps > 0).any((2, 3))
    columns: dict[MapColumn, np.ndarray] = {
        "class": classes,
        "rank": np.where(none, -1, (before | equal).sum(2)),
        "probability": np.where(none, np.nan, np.take_along_axis(shares, np.maximum(classes, 0), 1)).astype(np.float32),
        "logit": np.where(none, np.float32(np.nan), own),
        "map": maps,
        "evidence": np.where(none, np.float32(np.nan), found.evidence),
        "silent": silent,
    }
    if found.pixels is not None:
        columns["pixels"] = np.where(none, 0, np.take_along_axis(found.pixels, np.maximum(classes, 0), 1))
    return {name: values.reshape(-1, *values.shape[2:]) for name, values in columns.items()}


def _small(truth: Truth | None, size: tuple[int, ...]) -> np.ndarray:
    """Return the mask of a truth at the size of a picture: the nearest px."""
    if truth is None:
        return np.zeros(size, bool)
    y, x = (((np.arange(length) + 0.5) * own / length).astype(int) for length, own in zip(size, truth.mask.shape))
    return truth.mask[y][:, x]


def names_json(names: tuple[str, ...]) -> str:
    """Return names as an attribute."""
    return json.dumps(list(names), ensure_ascii=False)
