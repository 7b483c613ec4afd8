"""The contract of an experiment: what its module offers, and what a run hands over to it.

An experiment is a module, `methods/<name>.py` or `methods/<name>/method.py`, with a YAML file of the same name in
`configs/method`. Nothing is registered and no class is inherited: `Method` says which functions and constants the
runner looks for in the module, and `Provided` what its `compute` is called with.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cnnprobe.machine.computation import Computation
from cnnprobe.store.reader import Recording
from cnnprobe.store.tables import Measurement
from cnnprobe.store.unfinished import Unfinished

if TYPE_CHECKING:  # whoever draws figures again, or asks for help, does without torch and matplotlib
    from matplotlib.figure import Figure
    from torch import nn

    from cnnprobe.datasets.base.imageset import ImageSet
    from cnnprobe.instruments.network.snapshots import Moment
    from cnnprobe.preparation.build import Preparation


Figures = Iterator[tuple[str, "Figure"]]
"""Figures of a run, each with the name of its file."""


@dataclass(frozen=True)
class Resumed:
    """What a stopped run has left; of a new run there is nothing yet.

    Args:
        start: rows that are finished, in whole batches from the first one on.
        finished: by table, the first row of every batch that is saved.
        facts: see `store.tables.Measurement`; the new measurement goes on with the same dictionary.
        state: from which a training goes on: the `resume` of its checkpoint `last`.
        unfinished: keeps work that has no row yet, see `store.unfinished.Unfinished`; None: it is not kept.
    """

    start: int = 0
    finished: dict[str, frozenset[int]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] | None = None
    unfinished: Unfinished | None = None


@dataclass(frozen=True)
class Provided:
    """What a run hands over to `compute`, whatever the experiment; its options are keywords of their own.

    Args:
        model: any network, in eval mode on the device of `computation`; it is given back as it was, unless it learns.
        dataset: the images, values 0 to 1 once they are loaded.
        held_out: images that a training is judged by; None where nothing is learned.
        classes: names of the network's classes, in their order; () where unknown.
        moments: of learning, in their order; the network carries the last of them. Empty: there is one moment alone.
        computation: device, loaders, batch size and seed.
        resumed: what a stopped run has left.
        should_stop: asked by an experiment that learns, after every batch: True ends it with its checkpoint `last`.
    """

    model: "nn.Module"
    dataset: "ImageSet"
    held_out: "ImageSet | None" = None
    classes: tuple[str, ...] = ()
    moments: "Sequence[Moment]" = ()
    computation: Computation = field(default_factory=Computation)
    resumed: Resumed = field(default_factory=Resumed)
    should_stop: Callable[[], bool] | None = None

    def images_to_judge_by(self) -> "ImageSet":
        """Return the held-out images of an experiment that learns.

        Raises:
            TypeError: there are none.
        """
        if self.held_out is None:
            raise TypeError("an experiment that learns needs held_out, the images it is judged by")
        return self.held_out


HANDED_OVER = (
    *("model", "dataset", "size", "held_out", "classes", "moments", "should_stop"),
    *(one.name for one in fields(Computation)),
    *(one.name for one in fields(Resumed)),
)
"""What a call from Python may hand over beside options, by keyword."""


class Method(Protocol):
    """What the module of an experiment offers. `compute`, `draw`, `headline` and `ORDER` have to be there.

    Attributes:
        ORDER: its own place in `cnnprobe --help`, which no other command of this package has.
        LEARNS: whether it changes the weights: then it hands over checkpoints, and ends by itself when asked to stop.
        MOMENTS: whether it follows several moments of learning (`weights=RUN@*`).
        BUILT_FROM: commands whose runs `source=` may name.
    """

    ORDER: int
    LEARNS: bool
    MOMENTS: bool
    BUILT_FROM: tuple[str, ...]

    def compute(self, provided: Provided, **options: Any) -> Measurement:
        """Check everything, lay out the tables, and return the work as a generator of rows.

        Args:
            provided: by the run.
            options: those of the YAML file, one keyword each; their annotations say what they may be.

        Raises:
            UserError: the network, the images or the options do not go together.
        """

    def draw(self, recording: Recording) -> Figures:
        """Give the figures of a run, each with the name of its file (no path), from the store alone."""

    def headline(self, recording: Recording) -> dict[str, Any]:
        """Return the few numbers that are printed and stand in `run.json`."""

    def summary(self, recording: Recording) -> dict[str, list[str]]:
        """Return the table that is printed at the end, by column."""

    def compare(self, recordings: list[Recording], overrides: list[list[str]]) -> Figures:
        """Give the figures that the runs of a sweep make together.

        Args:
            recordings: of the runs.
            overrides: of each, as typed.
        """

    def volumes(self, recording: Recording) -> Iterator[tuple[str, bytes]]:
        """Give maps of a brain for other programs: NIfTI files (.nii.gz), by name."""

    def image_sets(self, config: dict[str, Any], prepared: "Preparation") -> dict[str, "ImageSet"]:
        """Open image sets that options name beside the dataset (an old task), by option, as `prepared.beside`.

        Their digests belong to the identity of a run.
        """

    def inputs(self, config: dict[str, Any], prepared: "Preparation", device: str) -> dict[str, Any]:
        """Open what options name (another network, references, a brain, an old task) and return it by option.

        Args:
            config: checked, see `config.schema.checked`.
            prepared: network and images.
            device: torch device.
        """

    def reads(self, config: dict[str, Any]) -> dict[str, Path]:
        """Return the runs, and files of weights, that options name: their digests belong to the identity of a run."""
