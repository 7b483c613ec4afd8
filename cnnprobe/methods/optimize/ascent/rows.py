"""Images that climb an objective, many at once: every unit of a layer, every start of it, is a row of one batch.

The rows share the passes and nothing else. A row's random numbers are its own, so that what it becomes does not hang on
the rows beside it. The best step of a row is kept, judged by objective less penalties of the image as it would be
stored, without transforms: after every step where there are none, else after every 16th and the last. A row that never
answers, or gets lost, starts anew (up to 5 starts; with a hundredth of the step size where it was lost).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from cnnprobe.instruments.images.image_statistics import Statistics
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.machine.memory import Carried
from cnnprobe.methods.optimize.ascent.climb import Climb, network, parametrisation
from cnnprobe.methods.optimize.ascent.objectives import Objective
from cnnprobe.methods.optimize.ascent.presets import Settings
from cnnprobe.store.tables import Advance
from cnnprobe.store.unfinished import State, Unfinished, Within

STARTS = 5
"""A row begins this often at most."""
TOGETHER = 2**20
"""Values of images, all rows and steps together, between two moments at which a climb can be stopped."""
WINDOW = 50
"""Steps between two looks at whether a row still moves."""
ASTRAY = "diverged from every start"
SLOWER = 0.01
"""Times the step size after a row has gone astray."""
REDIRECTED = 16
"""First steps of a start after the first one in which silent rectifiers pass the signal back, whatever the settings."""


@dataclass
class Ascended:
    """What rows have become.

    Args:
        images: (row, channel, y, x) float32, the best image of each; NaN where it never answered.
        score: (row,) by which it was kept: its objective less the penalties; with diversity what its group reached.
        value: (row,) its objective, without transforms.
        response: (row,) see `Objective.response`.
        transformed: (row,) the same, mean over transforms drawn anew.
        trace: (row, step) objective of what was shown at each step; NaN after an early end.
        best: (row,) steps taken before the image that is kept; -1 where there is none.
        restarts: (row,) how often it was started again.
        problem: by row: "", "no gradient from 5 starts", "diverged, restarted with lr 0.0005".
    """

    images: np.ndarray
    score: np.ndarray
    value: np.ndarray
    response: np.ndarray
    transformed: np.ndarray
    trace: np.ndarray
    best: np.ndarray
    restarts: np.ndarray
    problem: list[str]

    @classmethod
    def empty(cls, rows: int, size: tuple[int, ...], steps: int) -> Ascended:
        """Make room."""
        shapes = [(rows, *size), (rows,), (rows,), (rows,), (rows,), (rows, steps)]
        images, score, value, response, shown, trace = (np.full(shape, np.nan, np.float32) for shape in shapes)
        best, restarts = np.full(rows, -1, np.int64), np.zeros(rows, np.int64)
        return cls(images, score, value, response, shown, trace, best, restarts, [""] * rows)


def ascend(
    model: nn.Module,
    layers: Sequence[Layer],
    objective: Objective,
    size: tuple[int, ...],
    settings: Settings,
    seeds: Sequence[Sequence[int]],
    **others: Any,
) -> Ascended:
    """Climb, and return when it is done; see `ascending`."""
    events = ascending(model, layers, objective, size, settings, seeds, **others)
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value


def ascending(
    model: nn.Module,
    layers: Sequence[Layer],
    objective: Objective,
    size: tuple[int, ...],
    settings: Settings,
    seeds: Sequence[Sequence[int]],
    *,
    statistics: Statistics | None = None,
    together: int = 1,
    device: str = "cpu",
    carried: Carried | None = None,
    name: str = "",
    unfinished: Unfinished | Within | None = None,
) -> Generator[Advance, None, Ascended]:
    """Climb all rows of an objective; gives `Advance`, one per row and step, as it goes.

    Args:
        model: any network, on the device; it is given back as it was.
        layers: those the objective reads.
        objective: as many rows as seeds.
        size: (channel, y, x) or (channel, time) of the images.
        settings: see `presets.Settings`.
        seeds: by row, whole numbers from which all its random numbers are drawn.
        statistics: of the images the network knows; None: grey, with the colours of ImageNet.
        together: rows that follow one another and belong to one unit, for diversity.
        device: where the network is.
        carried: groups of such rows that run at once; None: 64 rows.
        name, unfinished: keeps the images so far under a name, see `Unfinished.begin`.

    Returns:
        See `Ascended`.
    """
    statistics = statistics or Statistics.plain(size[0])
    carried = carried or Carried(max(1, 64 // together), "batch of rows")
    found = Ascended.empty(len(seeds), size, settings.steps)
    waiting: dict[tuple[int, float], list[int]] = {(0, 1.0): list(range(len(seeds)))}
    climb: Climb | None = None
    begun: State | None = None  # by the climb that a stopped run was in

    def take() -> State:
        there = {"found": vars(found), "waiting": [[*key, rows] for key, rows in waiting.items()]}
        return there | {"most": carried.most, "climb": climb and climb.state()}

    def restore(state: State) -> None:
        nonlocal waiting, begun
        vars(found).update(state["found"])
        waiting = {(attempt, pace): rows for attempt, pace, rows in state["waiting"]}
        carried.most, begun = state["most"], state["climb"]

    unfinished = unfinished or Unfinished()
    unfinished.begin(name, take, restore)
    with network(model, layers, tuple(size)) as show:
        while waiting:
            (attempt, pace), rows = next(iter(waiting.items()))
            some = np.array(rows[: carried.most * together])
            redirect = settings.redirect if attempt == 0 else max(settings.redirect, REDIRECTED)
            work = replace(settings, lr=settings.lr * pace, redirect=redirect)
            randoms = [np.random.default_rng([*seeds[row], attempt]) for row in some]
            climb = Climb(show, objective.of(some), work, parametrisation(work, size, statistics), statistics)
            lost = yield from _climbed(climb, randoms, together, device, carried, attempt == 0, begun)
            begun = None
            if lost is not None:
                climb = None
                yield Advance(-lost)
                continue
            waiting[attempt, pace] = rows[len(some) :]
            if not waiting[attempt, pace]:
                del waiting[attempt, pace]
            for row, pace_now in _noted(found, some, climb, attempt, pace, together):
                waiting.setdefault((attempt + 1, pace_now), []).append(row)
            climb = None
    unfinished.end(name)
    return found


def _climbed(
    climb: Climb,
    randoms: Sequence[np.random.Generator],
    together: int,
    device: str,
    carried: Carried,
    first: bool,
    begun: State | None,
) -> Generator[Advance, None, int | None]:
    """Run a climb window by window.

    Returns:
        None, or, of a climb that did not fit into memory, how many steps of its rows were counted in vain.
    """
    rows, steps, counted = len(randoms), climb.settings.steps, 0
    few = max(1, TOGETHER // (rows * math.prod(climb.made.size)))

    def attempted(work: Callable[[], None]) -> bool:
        def done() -> bool:
            work()
            return True

        return carried.attempt(rows // together, done) is not None

    if not attempted(lambda: climb.begin(randoms, together, device)):
        return counted
    if begun is not None:
        climb.restore(begun)
    for start in range(0, steps, WINDOW):
        stop = min(start + WINDOW, steps)
        while (before := climb.taken) < stop:
            if not attempted(partial(climb.steps, before, min(before + few, stop), (start, stop))):
                return counted
            if first:
                counted += rows * (climb.taken - before)
                yield Advance(rows * (climb.taken - before))
    return None if attempted(climb.end) else counted


def _noted(
    found: Ascended, rows: np.ndarray, climb: Climb, attempt: int, pace: float, together: int
) -> list[tuple[int, float]]:
    """Take over what is better than before; return the rows that start anew, with their pace."""
    again = []
    verdicts = np.array(climb.verdicts, dtype=object).reshape(-1, together)
    for place, row in enumerate(rows):
        verdict = climb.verdicts[place]
        group = set(verdicts[place // together]) - {""}  # what belongs together begins together
        value = float(climb.best_value[place])
        score = float(climb.best_score[place])
        better = not score <= found.score[row]  # or there is none yet
        if found.best[row] >= 0 and (verdict == "astray") != (found.problem[row] == ASTRAY):
            better = verdict != "astray"
        taken = verdict != "silent" and np.isfinite(value) and better
        if taken:
            found.images[row], found.value[row] = climb.best_images[place].cpu().numpy(), value
            found.score[row] = score
            found.response[row], found.transformed[row] = climb.response[place], climb.transformed[place]
            found.best[row] = climb.best_step[place]
        if better:
            found.trace[row] = climb.trace[place].cpu().numpy()
        if taken or found.best[row] < 0:
            found.problem[row] = _problem(verdict, attempt, pace, climb.settings.lr)
        found.restarts[row] = attempt
        if group and attempt + 1 < STARTS:
            again.append((row, pace * SLOWER if "astray" in group or pace < 1 else pace))
    return again


def _problem(verdict: str, attempt: int, pace: float, lr: float) -> str:
    if verdict == "silent":
        return f"no gradient from {attempt + 1} starts"
    if verdict == "astray":
        return ASTRAY
    return f"diverged, restarted with lr {lr:.3g}" if pace < 1 else ""
