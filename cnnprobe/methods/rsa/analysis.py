"""Representational similarity analysis of a network: a matrix for each layer, and how it compares with references.

Kriegeskorte, Mur, Bandettini 2008, Frontiers in Systems Neuroscience 2:4; Nili et al. 2014, PLoS Computational Biology
10:e1003553.
"""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
from torch import nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.passes import collected
from cnnprobe.instruments.images.stimuli_table import skipped_rows, stimuli_table
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.randomisation import blocks, cascading
from cnnprobe.instruments.statistics.dissimilarity import Metric, Products, dissimilarity, single, square, upper
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.rsa.comparing.comparison import Comparison, compare
from cnnprobe.methods.rsa.comparing.inference import Over, false_discovery, permutation_p, similarities
from cnnprobe.methods.rsa.comparing.noise_ceiling import noise_ceiling
from cnnprobe.methods.rsa.comparing.present_cells import present, tell_left_out
from cnnprobe.methods.rsa.comparing.uncertainty import Uncertainty
from cnnprobe.methods.rsa.embedding import embed
from cnnprobe.methods.rsa.noise_distances import LEAST as REPEATS
from cnnprobe.methods.rsa.noise_distances import crossnobis, mahalanobis
from cnnprobe.methods.rsa.patterns import IMAGES, Patterns
from cnnprobe.methods.rsa.references.conditions import conditions_of, picture_rows, pictures_table
from cnnprobe.methods.rsa.references.given import PIXELS, Reference, given_references, nan_mean
from cnnprobe.store.tables import Advance, Column, Phase, Rows, Table
from cnnprobe.store.unfinished import Unfinished

LOG = logging.getLogger("cnnprobe")
NOISE = {"mahalanobis": mahalanobis, "crossnobis": crossnobis}
LEAST = 3
"""Conditions without which there is no analysis."""
PLACED = 600
"""Conditions up to which they are placed in a plane."""
SAMPLES = {"conditions": "conditions", "subjects": "subjects", "both": "conditions and subjects"}
FAMILIES = ("layers", "random", "pixels")
"""Kinds of differences: between two layers, from the layer with random weights, from the pixels."""
LayerColumn = Literal[
    "name", "kind", "reads", "features", "rdm", "undefined", "embedding", "stress", "similarity", "similarity_low",
    "similarity_high", "noise_lower", "noise_upper", "p", "p_corrected",
]  # fmt: skip
"""Columns of the table "layers"."""
ReferenceColumn = Literal[
    "name", "subjects", "left_out", "rows", "axes", "passed_over", "rdm", "embedding", "stress", "noise_lower",
    "noise_upper", "similarity",
]  # fmt: skip
"""Columns of the table "references"."""
DifferenceColumn = Literal["first", "second", "kind", "difference", "low", "high", "p", "p_corrected"]
"""Columns of the table "differences"."""


@dataclass(frozen=True)
class Row:
    """What a matrix is made from: a layer, the same with random weights, or the pixels."""

    name: str
    kind: str
    layer: Layer | None = None


@dataclass
class MatrixAnalysis:
    """Makes the matrices and compares them.

    Args:
        model: any network; it is given back as it was.
        layers: to be compared.
        dataset: an image set.
        references: to compare with, see `references.given.given_references`.
        axes: of arrays among them.
        controls: "pixels", "random", both or neither.
        by_class: a condition is a class, its images the repeats; else it is an image.
        metric: of `statistics.dissimilarity.METRICS`, or "mahalanobis", "crossnobis".
        comparison: of `comparing.comparison.COMPARISONS`.
        draws: of the bootstrap.
        over: what is a sample of what might have been.
        permutations: of the conditions' labels.
        computation: device, loaders, batch size, and the seed of draws, permutations and random weights.

    Attributes:
        matrices: (row, condition, condition) rounded to single precision, once `events` has been read.
    """

    model: nn.Module
    layers: list[Layer]
    dataset: ImageSet
    references: Any
    axes: Sequence[str] | None
    controls: tuple[str, ...]
    by_class: bool
    metric: Metric | Literal["mahalanobis", "crossnobis"]
    comparison: Comparison
    draws: int
    over: Over
    permutations: int
    computation: Computation

    def __post_init__(self) -> None:
        self.conditions = conditions_of(self.dataset, self.by_class)
        self.count = len(self.conditions.names)
        self._check()
        self.references = given_references(self.references, self.count, self.conditions.labels, self.axes)
        self.parts = [part for one in self.references for part in _parts(one)]
        self.sources = [one for one in self.references for _ in _parts(one)]
        for one in self.references:
            if one.matrices is not None:
                tell_left_out(one, self.comparison)
        self.rows = [Row(layer.name, "layer", layer) for layer in self.layers]
        if "random" in self.controls:
            self.rows += [Row(layer.name, "random", layer) for layer in self.layers]
        if "pixels" in self.controls:
            self.rows.append(Row(IMAGES, "pixels"))
        self.pairs = _pairs(self.rows)
        self.recorder = Patterns(
            self.model, self.layers, self.dataset, ranked=self.metric == "spearman",
            pixels="pixels" in self.controls or any(one.matrices is None for one in self.references),
            computation=self.computation,
        )  # fmt: skip
        self.matrices = np.zeros((0, self.count, self.count))

    def _check(self) -> None:
        """Refuse what has no meaning."""
        if self.count < LEAST:
            what = "classes with images" if self.by_class else "stimuli"
            raise UserError(f"rsa needs {LEAST} or more {what}, {self.dataset.name} gives {self.count}")
        if self.metric in NOISE and not self.by_class:
            raise UserError(f"metric={self.metric} needs repeats: conditions=class takes the images of a class as such")
        if self.metric == "spearman" and self.by_class:
            raise UserError("metric=spearman ranks single patterns; with conditions=class say metric=correlation")
        if self.metric == "crossnobis":
            counts = np.bincount(self.conditions.groups[self.conditions.groups >= 0])
            few = int(counts.argmin())
            if counts[few] < REPEATS:
                name = self.conditions.names[few]
                raise UserError(
                    f"metric=crossnobis needs {REPEATS} or more images of a class, {name!r} has {counts[few]}"
                )

    # ---- what is stored ----------------------------------------------------------------------------------------------

    def tables(self) -> list[Table[Any]]:
        """Lay out what is stored: layers, references, differences, conditions and their pictures."""
        found: list[Table[Any]] = [self._layers()]
        if self.parts:
            found.append(self._references())
        if self.parts and self.pairs:
            found.append(self._differences())
        found += [self.conditions.table(), stimuli_table(self.dataset, self.computation.batch_size)]
        if len(self.dataset.size) == 3:
            found.append(pictures_table(self.dataset, self.conditions))
        return found

    def _layers(self) -> Table[LayerColumn]:
        features = [self.recorder.features[row.name] for row in self.rows]
        along = "stimulus stimulus" if not self.by_class else "class class"
        place, stress = _placed(self.count)
        columns: dict[LayerColumn, Column] = {
            "name": Column("layer, or pixels", dtype="str", values=_texts(row.name for row in self.rows)),
            "kind": Column("layer, random (the same with random weights) or pixels", dtype="str",
                           values=_texts(row.kind for row in self.rows)),
            "reads": Column("where it is read", dtype="str",
                            values=_texts(row.layer.reads if row.layer else "the images" for row in self.rows)),
            "features": Column("values in a pattern", dtype="int64", unit="1", values=np.array(features)),
            "rdm": Column("dissimilarity matrix", along, (self.count,) * 2, unit=self.metric),
            "undefined": Column("patterns that have no dissimilarity: constant or not finite", dtype="int64"),
            "embedding": place,
            "stress": stress,
        }  # fmt: skip
        if self.parts:
            size = (len(self.parts),)
            words: dict[LayerColumn, str] = {
                "similarity": f"comparison ({self.comparison}) with references (mean over time), mean over subjects",
                "similarity_low": f"lower end of its 95 % interval for other {SAMPLES[self.over]}",
                "similarity_high": "upper end",
                "noise_lower": "lower end of the noise ceiling of the reference",
                "noise_upper": "upper end",
                "p": "share of permutations of the conditions at least as similar",
                "p_corrected": "p at the false discovery rate over the rows of the same kind",
            }
            columns |= {name: Column(text, "reference", size, "float64") for name, text in words.items()}
        about = {"metric": self.metric, "comparison": self.comparison, "conditions": along.split()[0],
                 "bootstrap": self.draws, "over": self.over, "permutations": self.permutations}  # fmt: skip
        return Table("layers", "layer", len(self.rows), columns, len(self.rows), about)

    def _references(self) -> Table[ReferenceColumn]:
        size, everyone = (len(self.parts),), [1 if rows is None else len(rows) for _, rows in self.parts]
        subjects = [1 if rows is None else len(present(rows, self.comparison)) for _, rows in self.parts]
        place, stress = _placed(self.count)
        columns: dict[ReferenceColumn, Column] = {
            "name": Column("reference", dtype="str", values=_texts(name for name, _ in self.parts)),
            "subjects": Column("how many can be compared", dtype="int64", values=np.array(subjects)),
            "left_out": Column("subjects without values, or with all values equal, left out of all that follows",
                               dtype="int64", values=np.array(everyone) - subjects),
            "rows": Column("how its rows were matched with the conditions", dtype="str",
                           values=_texts(one.rows for one in self.sources)),
            "axes": Column("the axes of its array, in the order of the file", dtype="str",
                           values=_texts(one.taken for one in self.sources)),
            "passed_over": Column("what else its file holds, and why it was not taken", dtype="str",
                                  values=_texts(one.passed_over for one in self.sources)),
            "rdm": Column("its matrix, mean over subjects", "stimulus stimulus", (self.count,) * 2),
            "embedding": place,
            "stress": stress,
            "noise_lower": Column("lower end of the noise ceiling, NaN for one subject", dtype="float64"),
            "noise_upper": Column("upper end", dtype="float64"),
            "similarity": Column(f"comparison ({self.comparison}) of mean matrices", "reference", size, "float64"),
        }  # fmt: skip
        return Table("references", "reference", size[0], columns, size[0], aside=True)

    def _differences(self) -> Table[DifferenceColumn]:
        size, sides = (len(self.parts),), np.array([pair[:2] for pair in self.pairs])
        columns: dict[DifferenceColumn, Column] = {
            "first": Column("row of layers", dtype="int64", unit="index", values=sides[:, 0]),
            "second": Column("row of layers", dtype="int64", unit="index", values=sides[:, 1]),
            "kind": Column("layers, random (layer and the same with random weights) or pixels", dtype="str",
                           values=_texts(kind for *_, kind in self.pairs)),
            "difference": Column("similarity of the first less that of the second", "reference", size, "float64"),
            "low": Column(f"lower end of its 95 % interval for other {SAMPLES[self.over]}", "reference", size,
                          "float64"),
            "high": Column("upper end", "reference", size, "float64"),
            "p": Column("two-sided, Student's t, for the same", "reference", size, "float64"),
            "p_corrected": Column("p at the false discovery rate over the pairs of its kind", "reference", size,
                                  "float64"),
        }  # fmt: skip
        return Table("differences", "pair", len(self.pairs), columns, len(self.pairs), aside=True)

    # ---- work --------------------------------------------------------------------------------------------------------

    def events(self, unfinished: Unfinished | None = None) -> Iterator[Rows[Any] | Advance | Phase]:
        """Record, compare, draw again."""
        unfinished = unfinished or Unfinished()
        found = {"layer": (yield from self.recorder.record(unfinished=unfinished))}
        if "random" in self.controls:
            given = blocks(self.model, self.dataset.size)
            with cascading(self.model, given, self.computation.seed) if given else nullcontext(()) as stages:
                list(stages)  # down to the first block
                found["random"] = yield from self.recorder.record("recording with random weights", unfinished)
        found["pixels"] = found["layer"]
        every = [self._matrix(found[row.kind][row.name]) for row in self.rows]
        self.matrices = np.stack(every)
        if any(one.matrices is None for one in self.references):
            pixels = upper(self._matrix(found["pixels"][IMAGES]))
            of_images = replace(PIXELS, matrices=pixels[None, None, None], times=np.array([np.nan]))
            self.references = [of_images if one.matrices is None else one for one in self.references]
            tell_left_out(of_images, self.comparison)
            self.parts = [part for one in self.references for part in _parts(one)]
        undefined = np.array([self._undefined(row, one) for row, one in zip(self.rows, every)])
        like: np.ndarray | None = None
        compared: dict[LayerColumn, np.ndarray] = {}
        if self.parts:
            references = self._referred()
            like = references["embedding"][0]
            yield Rows("references", 0, references)
            compared = yield from self._compared(references, unfinished)
        placed, stress = self._place(self.matrices, like)
        if len(self.dataset.size) == 3:
            yield from picture_rows(self.dataset, self.conditions, self.computation.batch_size)
        yield from skipped_rows(self.recorder.skipped, self.computation.batch_size)
        compared |= {"rdm": self.matrices, "undefined": undefined, "embedding": placed, "stress": stress}
        yield Rows("layers", 0, compared)

    def _matrix(self, products: Products) -> np.ndarray:
        """Return (condition, condition) as it is stored, so that what is compared can be computed from the store."""
        if self.metric == "mahalanobis" or self.metric == "crossnobis":
            return single(NOISE[self.metric](products, self.conditions.groups).cpu().numpy())
        of = products.means(self.conditions.groups) if self.by_class else products
        return single(dissimilarity(of, self.metric).cpu().numpy())

    def _undefined(self, row: Row, matrix: np.ndarray) -> int:
        """Count conditions without dissimilarities; tell why what is NaN is (F53)."""
        count = int((~np.isfinite(matrix + np.diag(np.full(self.count, np.nan)))).all(1).sum())
        apart = upper(matrix)[np.isfinite(upper(matrix))]
        of = f"{row.name} with random weights" if row.kind == "random" else row.name
        if len(apart) and np.ptp(apart) == 0:
            LOG.warning(f"{of}: all pairs of patterns are equally unlike; it has no similarity to anything (NaN)")
        if count:
            why = {"crossnobis": "too few repeats, or equal ones", "mahalanobis": "equal repeats"}
            reason = why.get(self.metric, "constant, not finite or unreadable")
            LOG.warning(
                f"{of}: no {self.metric} for {count} of {self.count} patterns ({reason}); they are NaN, left out"
            )
        return count

    def _place(self, matrices: np.ndarray, like: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return points (row, condition, xy), turned to lie like others or like the first row's, and their stress."""
        points, stress = np.full((*matrices.shape[:2], 2), np.nan), np.full(len(matrices), np.nan)
        for row, matrix in enumerate(matrices if self.count <= PLACED else ()):
            found = embed(matrix, like if like is not None else points[0] if row else None)
            points[row], stress[row] = found.points, found.stress
        return points, stress

    def _referred(self) -> dict[ReferenceColumn, np.ndarray]:
        """Return the columns of the references."""
        every = [rows for _, rows in self.parts if rows is not None]
        there = [present(rows, self.comparison) for rows in every]
        means = np.stack([nan_mean(some if len(some) else rows, 0) for some, rows in zip(there, every)])
        ceilings = np.array([noise_ceiling(rows, self.comparison) for rows in there])
        matrices = square(means)
        points, stress = self._place(matrices, None)
        return {
            "rdm": matrices, "embedding": points, "stress": stress,
            "noise_lower": ceilings[:, 0], "noise_upper": ceilings[:, 1],
            "similarity": compare(means, means, self.comparison),
        }  # fmt: skip

    def _compared(
        self, references: dict[ReferenceColumn, np.ndarray], unfinished: Unfinished
    ) -> Generator[Rows[DifferenceColumn] | Advance | Phase, None, dict[LayerColumn, np.ndarray]]:
        """Return the columns of comparisons with references; give the differences between rows."""
        models, seed = upper(self.matrices), self.computation.seed
        given = [present(rows, self.comparison) for _, rows in self.parts if rows is not None]
        actual = similarities(models, given, self.comparison)
        uncertainty = Uncertainty(models, given, self.comparison, draws=self.draws, over=self.over, seed=seed)
        yield Phase("drawing conditions again", uncertainty.steps, "draws")
        shape = uncertainty.compared.shape
        uncertainty.compared[:] = yield from collected("bootstrap", shape, uncertainty.comparisons, unfinished)

        def permuted(start: int) -> Iterator[np.ndarray]:
            for rows in given[start:]:
                yield permutation_p(models, rows, self.comparison, draws=self.permutations, seed=seed)

        yield Phase("permuting", len(given), "references")
        p = (yield from collected("permutations", actual.T.shape, permuted, unfinished)).T
        low, high = uncertainty.intervals()
        kinds = np.array([row.kind for row in self.rows])
        columns: dict[LayerColumn, np.ndarray] = {
            "similarity": actual, "similarity_low": low, "similarity_high": high, "p": p,
            "p_corrected": _by_kind(p, kinds),
        }  # fmt: skip
        columns |= {name: np.tile(references[name], (len(self.rows), 1)) for name in ("noise_lower", "noise_upper")}
        if not self.pairs:
            return columns
        first, second = (np.array([pair[side] for pair in self.pairs], np.int64) for side in (0, 1))
        low, high, p = uncertainty.differences(first, second)
        differences: dict[DifferenceColumn, np.ndarray] = {
            "low": low, "high": high, "p": p, "difference": actual[first] - actual[second],
            "p_corrected": _by_kind(p, np.array([pair[2] for pair in self.pairs])),
        }  # fmt: skip
        yield Rows("differences", 0, differences)
        return columns


def _parts(one: Reference) -> Sequence[tuple[str, np.ndarray | None]]:
    """Return what is compared by itself; of pixels that are not recorded yet the name alone."""
    return [(one.name, None)] if one.matrices is None else one.parts()


def _placed(count: int) -> tuple[Column, Column]:
    """Describe the places of conditions in a plane, and their stress."""
    words = f"place in a plane (metric scaling); NaN where there are more than {PLACED}"
    stress = Column("misfit of the distances in the plane, 0 = none", dtype="float64")
    return Column(words, "stimulus xy", (count, 2)), stress


def _pairs(rows: list[Row]) -> list[tuple[int, int, str]]:
    """Return which rows are subtracted from which, and the kind of the difference."""
    own = [place for place, row in enumerate(rows) if row.kind == "layer"]
    found = [(one, other, FAMILIES[0]) for one, other in combinations(own, 2)]
    for one in own:
        for other, row in enumerate(rows):
            if row.kind == "pixels" or (row.kind == "random" and row.name == rows[one].name):
                found.append((one, other, row.kind))
    return found


def _by_kind(p: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Correct p (row, reference) for the rows of each kind."""
    found = np.full(p.shape, np.nan)
    for kind in np.unique(kinds):
        found[kinds == kind] = false_discovery(p[kinds == kind])
    return found


def _texts(words: Any) -> np.ndarray:
    return np.array(list(words), dtype=object)
