"""Commands called from Python on small networks, and their rows joined: what tests over all commands share."""

import logging
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

import cnnprobe
from cnnprobe.datasets import manufactured, shapes
from cnnprobe.datasets.base.given import Given
from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.store.tables import Measurement, Rows
from tests.support.described import COMMANDS
from tests.support.device import ASKED

SIZE = (3, 32, 32)
LOOSE = {"embedding": 1e-4}
"""Columns at the end of an iteration, by the share that rounding may move them."""


class Network(nn.Module):
    """BatchNorm, dropout, an in-place rectifier used twice, one frozen parameter."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.second = nn.Conv2d(6, 4, 3)
        self.out = nn.Linear(4, 8)
        self.second.bias.requires_grad_(False)

    def forward(self, images):
        x = self.act(self.norm(self.first(images)))
        x = self.act(self.second(self.drop(x)))
        return self.out(x.mean((2, 3)))


class Undefined(Network):
    """The first maps of images whose mean is above a limit are NaN."""

    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit

    def forward(self, images):
        bright = images.mean((1, 2, 3), keepdim=True) > self.limit
        return super().forward(torch.where(bright, torch.nan, images))


def network(kind: type[Network] = Network, *given: Any) -> Network:
    """Return a network with weights of its own; those of two kinds are the same."""
    torch.manual_seed(0)
    return kind(*given).eval()


def with_dead_units() -> Network:
    """Return a network in which unit 1 of conv1 and unit 0 of conv2 have no weights at all."""
    model = network()
    with torch.no_grad():
        model.first.weight[1] = model.second.weight[0] = 0
        model.second.bias[0] = 0
    return model


class Labelled(Given):
    """Images handed over as one array, with a class each."""

    def __init__(self, pixels: torch.Tensor, labels: list[int], classes: int):
        super().__init__(pixels)
        self.labels, self.classes = np.array(labels, np.int64), tuple(map(str, range(classes)))


class Unchecked(Given):
    """Images handed over as one array, shown whatever they hold."""

    def load_source(self, indices):
        return self.images[torch.from_numpy(np.asarray(indices))], np.ones(len(indices), bool)


def images(count: int = 24) -> ImageSet:
    return shapes.build(size=32, count=count, split="test", seed=0, contrast=0.15, noise=0.02)


def stimuli() -> ImageSet:
    options = {"channels": 3, "families": "all", "orientations": 4, "frequencies": 2, "lowest": 0.1, "highest": 0.2}
    return manufactured.build(size=32, **options, phases=3, contrasts=[0.5], extent=0.5)


def pixels(dataset: ImageSet) -> torch.Tensor:
    return torch.stack([dataset[place][0] for place in range(len(dataset))])


def shown(command: str) -> ImageSet:
    """Return the images, or the command's own stimuli, that a call shows."""
    return stimuli() if COMMANDS[command].stimuli else images()


def called(command: str, model: nn.Module | None = None, dataset: Any = None, **changes: Any) -> Measurement:
    """Call a command with the options of its description."""
    one = COMMANDS[command]
    given = {"model": network() if model is None else model} | one.options | changes
    if ASKED and command != "layers":
        given = {"device": ASKED} | given
        given["model"].to(given["device"])
    if "size" not in one.options:
        given["dataset"] = shown(command) if dataset is None else dataset
    if one.learns:
        given["held_out"] = given["dataset"]
    return cnnprobe.measure(command, **given)


def joined(measurement: Measurement) -> dict[tuple[str, str], np.ndarray]:
    """Return what was measured by table and column."""
    parts: dict[tuple[str, str], list[tuple[int, np.ndarray]]] = {}
    for event in measurement.events:
        if isinstance(event, Rows):
            for name in event.columns:
                parts.setdefault((event.table, name), []).append((event.start, np.array(event.columns[name])))
    return {
        key: np.concatenate([part for _, part in sorted(found, key=lambda pair: pair[0])])
        for key, found in sorted(parts.items())
    }


def whole(measurement: Measurement) -> dict[tuple[str, str], np.ndarray]:
    """Return what was measured by table and column, and what is known from the start."""
    known = {(table.name, name): column.values for table in measurement.tables
             for name, column in table.columns.items() if column.values is not None}  # fmt: skip
    return joined(measurement) | known


@cache
def plain(command: str) -> dict[tuple[str, str], np.ndarray]:
    """Return the rows of the quick call itself; not to be changed."""
    return joined(called(command))


def same_rows(one: dict[tuple[str, str], np.ndarray], other: dict[tuple[str, str], np.ndarray]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    for key, values in one.items():
        assert values.dtype == other[key].dtype, key
        assert np.array_equal(values, other[key], equal_nan=values.dtype.kind == "f"), key


def near(one, other, share, where):
    """The same up to a share of the largest number; NaN and infinity stand at the same places."""
    known = np.isfinite(one)
    assert np.array_equal(known, np.isfinite(other)), where
    if known.any():
        scale = np.abs(one[known]).max()
        assert np.abs(one[known].astype(np.float64) - other[known]).max() <= share * scale, where


def agree(one, other, share):
    """The same up to rounding; where images change places, their responses are as near as that."""
    assert one.keys() == other.keys()
    tied = {}
    for (table, name), ranked in one.items():
        if (
            ranked.dtype.kind == "i"
            and name.startswith("image")
            and (response := name.replace("image", "response", 1)) in columns_of(one, table)
        ):
            moved = ranked != other[table, name]
            pair = one[table, response], other[table, response]
            scale = np.nanmax(np.abs(pair[0]), initial=0)
            assert (np.abs(pair[0] - pair[1])[moved] <= share * scale).all(), (table, name)
            tied[table] = tied.get(table, False) | moved.reshape(len(moved), -1).any(1)
    for (table, name), values in one.items():
        rows = ~tied.get(table, np.zeros(len(values), bool))
        assert rows.mean() >= 0.5, f"{table}: most rows have ties"
        mine, theirs = values[rows], other[table, name][rows]
        if values.dtype.kind == "f":
            near(mine, theirs, max(share, LOOSE.get(name, 0)), (table, name))
        else:
            assert np.array_equal(mine, theirs), (table, name)


def columns_of(rows, table):
    return {name for own, name in rows if own == table}


class Told(logging.Handler):
    """Collects what is told while it is on: `with Told() as lines: …`."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record):
        self.lines.append(record.getMessage())

    def __enter__(self):
        logging.getLogger("cnnprobe").addHandler(self)
        return self.lines

    def __exit__(self, *_):
        logging.getLogger("cnnprobe").removeHandler(self)
