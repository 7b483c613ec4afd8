"""Discrepancy maps of one image: how much each unit's response changes with an occluder at each place."""

import logging
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.replay import Unrepeatable
from cnnprobe.instruments.network.tracing import Value, noise_image
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.instruments.windows.carrying import Clean
from cnnprobe.instruments.windows.engine import Answer, Plan, WindowEngine
from cnnprobe.instruments.windows.occluders import Grid
from cnnprobe.machine.memory import UNBOUNDED, Carried, free_memory
from cnnprobe.methods.rf_map.discrepancy import WindowReader, flat_places, read

LOG = logging.getLogger("cnnprobe")
BRUTE = 64
"""Occluded images that run through the whole network together, to begin with."""
CHECKED = 3
"""Rows, and columns, of occluders at which the windows are compared with brute force before they are used."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
"""Largest difference to brute force that is accepted, relative to the largest response."""


class Occlusion:
    """Measures discrepancies of the units of one layer; a context manager, in which the network is `untouched`.

    Args:
        model: any network.
        layer: whose units are measured.
        size: (channel, y, x) of the images.
        grid: places of the occluder.
        memory: bytes that occluded images may take; None: half of what is free.
        precision: float32 or bfloat16 (the products of windows; the clean image and all sums stay float32).
        engine: "windows", which falls back on brute force where the network cannot be followed, or "brute force".

    Attributes:
        engine: how it is done: "windows", or "brute force: …" with the reason.
        error: largest difference between windows and brute force at any position of the maps, for some occluders of a
            noise image, relative to the layer's largest response; NaN for brute force.
        batch: most occluded images carried at once.

    Example:
        with Occlusion(model, conv3, (3, 224, 224), Grid((224, 224), 11, 3)) as occlusion:
            maps = occlusion.discrepancies(image, fillings("zero", image, 1, mean, sd, 0), [5], [[6, 6]], "site")
    """

    def __init__(
        self,
        model: nn.Module,
        layer: Layer,
        size: tuple[int, ...],
        grid: Grid,
        *,
        memory: int | None = None,
        precision: str = "float32",
        engine: str = "windows",
    ):
        self.model, self.layer, self.size, self.grid = model, layer, size, grid
        self.precision = precision
        self.device = next(model.parameters(), torch.empty(0)).device
        self.memory = memory or free_memory(self.device) // 2
        self.windows: WindowEngine | None = None
        self.error = math.nan
        self.carried = Carried(BRUTE)
        self.engine = engine if engine == "windows" else "brute force: asked for"
        if engine == "windows":
            self._follow()

    def _follow(self) -> None:
        """Make the windows ready, or say why not."""
        try:
            if self.layer.measured_whole:
                raise Unrepeatable(self.layer.note)
            with untouched(self.model):
                self.windows = WindowEngine(
                    self.model, self.layer, self.size, self.grid, self.memory, self.precision == "bfloat16"
                )
                self.carried.most = UNBOUNDED
                self.error = self._compared(self.windows)
            if math.isnan(self.error):
                raise Unrepeatable("windows cannot be compared with the network, which returns NaN or Inf")
            if not self.error <= TOLERANCE[self.precision]:
                raise Unrepeatable(f"windows differ from the network by {self.error:.1e} of its largest response")
        except Unrepeatable as reason:
            self.windows, self.error, self.carried.most = None, math.nan, BRUTE
            self.engine = f"brute force: {reason}"
            LOG.warning(f"{self.layer.name}: {reason}; every occluded image runs through the whole network")

    @property
    def batch(self) -> int:
        """Return how many occluded images are carried at once at most."""
        return self.carried.most

    @batch.setter
    def batch(self, most: int) -> None:
        self.carried.most = most

    def __enter__(self) -> "Occlusion":
        self.stack = ExitStack()
        self.stack.enter_context(untouched(self.model))
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.close()

    def discrepancies(
        self,
        image: Tensor,
        filled: Tensor,
        units: Sequence[int] | np.ndarray,
        sites: Sequence[Sequence[int]] | np.ndarray,
        reading: str,
    ) -> np.ndarray:
        """Measure one image.

        Args:
            image: (channel, y, x).
            filled: (draw, channel, y, x) what is seen through the occluder, see `windows.occluders.fillings`.
            units: (n,) channels.
            sites: (n, map axis) positions, for the reading "site".
            reading: see `readings`.

        Returns:
            (n, draw, rows, columns) float32, clean minus occluded, in units of activation.
        """
        channels = torch.as_tensor(np.asarray(units, dtype=np.int64), device=image.device)
        places = torch.as_tensor(np.asarray(sites, dtype=np.int64)).reshape(len(channels), -1)
        with torch.inference_mode():
            if self.windows is not None:
                return self._windowed(self.windows, image, filled, channels, places, reading)
            return self._brute(image, filled, channels, places, reading)

    # ---- windows -------------------------------------------------------------------------------------------------

    def _windowed(
        self, engine: WindowEngine, image: Tensor, filled: Tensor, units: Tensor, sites: Tensor, reading: str
    ) -> np.ndarray:
        clean = engine.clean(image)
        differences = engine.differences(clean, filled)
        found = np.zeros((len(units), len(filled), *self.grid.shape), np.float32)
        for plan, some in self._plans(engine, units, sites, reading):
            self._read(engine, plan, clean, differences, units[some], sites[some], reading, found, some)
        return found

    def _plans(self, engine: WindowEngine, units: Tensor, sites: Tensor, reading: str) -> list[tuple[Plan, Tensor]]:
        """Choose between one pass that serves all sites and one pass per site, by expected work."""
        every = torch.arange(len(units))
        if reading != "site" or not engine.windowed:
            return [(engine.plan(), every)]
        (top, left), (bottom, right) = sites.amin(0).tolist(), sites.amax(0).tolist()
        together = engine.plan(((top, bottom + 1), (left, right + 1)))
        distinct, which = torch.unique(sites, dim=0, return_inverse=True)
        apart, total = [], 0.0
        for number, (y, x) in enumerate(distinct.tolist()):
            plan = engine.plan(((y, y + 1), (x, x + 1)))
            apart.append((plan, (which == number).nonzero()[:, 0]))
            total += plan.cost
            if total >= together.cost:
                return [(together, every)]
        return apart

    def _read(
        self,
        engine: WindowEngine,
        plan: Plan,
        clean: Clean,
        differences: dict[Value, Tensor],
        units: Tensor,
        sites: Tensor,
        reading: str,
        found: np.ndarray,
        some: Tensor,
    ) -> None:
        """Carry the windows of a plan and write what is read into `found` at (some, draw, row, column)."""
        maps = clean.values[engine.target]
        if engine.windowed:
            reader = WindowReader(reading, maps[0], units, sites)
        else:
            places = flat_places(sites, self.layer.map_size).to(units.device)
            whole = _as_maps(maps, self.layer)[0]
        for answer in engine.answers(plan, clean, differences, self.carried):
            if answer.place is not None and answer.changed is not None:
                values = reader.read(answer.place.first, answer.changed, answer.changes)
            else:
                values = read(reading, whole, _as_maps(answer.whole, self.layer), units, places)
                values = values.view(found.shape[1], len(answer.rows), len(answer.columns), -1)
            at = np.ix_(some.numpy(), np.arange(found.shape[1]), answer.rows, answer.columns)
            found[at] = values.permute(3, 0, 1, 2).float().cpu().numpy()

    def _compared(self, engine: WindowEngine) -> float:
        """Return the largest difference to brute force at any position, relative to the largest response.

        On a noise image, for `CHECKED` x `CHECKED` occluders spread over it.
        """
        image = noise_image(self.model, self.size)[0]
        filled = image.flip(2)[None]
        rows, columns = (np.unique(np.linspace(0, count - 1, CHECKED).round().astype(int)) for count in self.grid.shape)
        chosen = rows, columns
        tops, lefts = (corners[some].tolist() for corners, some in zip(self.grid.corners, chosen))
        with torch.inference_mode():
            clean = engine.clean(image)
            differences = engine.differences(clean, filled)
            exact = self._maps(image, filled[0], [(top, left) for top in tops for left in lefts])
            usual = _as_maps(clean.values[engine.target], self.layer)
            found = usual.repeat(len(exact), 1, 1)
            for answer in engine.answers(engine.plan(None, chosen), clean, differences, self.carried):
                self._fill(engine, found, answer, chosen)
            return float((found - exact).abs().max()) / max(float(usual.abs().max()), 1e-30)

    def _maps(self, image: Tensor, fill: Tensor, corners: list[tuple[int, int]]) -> Tensor:
        """Return the maps of occluded images by brute force, (occluder, channel, position)."""
        got: list[Tensor] = []
        receive = lambda _, maps: got.append(maps.flatten(2) + 0 if maps.ndim > 2 else maps[:, :, None] + 0)  # noqa: E731
        carried, start = Carried(len(corners), "batch of occluders"), 0
        with tap(self.model, [self.layer], receive) as run:
            while start < len(corners):
                some = corners[start : start + carried.most]
                work = lambda some=some: (run(occluded_images(image, fill, some, self.grid.patch)),)  # noqa: E731
                if carried.attempt(len(some), work) is not None:
                    start += len(some)
        return torch.cat(got)

    def _fill(self, engine: WindowEngine, found: Tensor, answer: Answer, chosen: tuple[np.ndarray, np.ndarray]) -> None:
        """Bring the changes of an answer into maps (occluder, channel, position) of the clean image."""
        rows, columns = (np.searchsorted(some, own) for some, own in zip(chosen, (answer.rows, answer.columns)))
        whole = None if answer.whole is None else _as_maps(answer.whole, self.layer)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                place = row * len(chosen[1]) + column
                if whole is not None:
                    found[place] = whole[i * len(columns) + j]
                elif answer.place is not None and answer.changes is not None:
                    (top, left), changes = (at[n] for at, n in zip(answer.place.first, (i, j))), answer.changes[0, i, j]
                    maps = found[place].view(-1, *engine.target.shape[2:])
                    maps[:, top : top + len(changes), left : left + changes.shape[1]] += changes.permute(2, 0, 1)

    # ---- brute force -----------------------------------------------------------------------------------------------

    def _brute(
        self,
        image: Tensor,
        filled: Tensor,
        units: Tensor,
        sites: Tensor,
        reading: str,
        chosen: Iterable[int] | None = None,
    ) -> np.ndarray:
        """Run the occluded images through the network, as far as the layer: (n, draw, row, column).

        Args:
            chosen: (occluder,) flat places; then the result is (n, draw, occluder).
        """
        tops, lefts = self.grid.corners
        corners = [(top, left) for top in tops.tolist() for left in lefts.tolist()]
        corners = corners if chosen is None else [corners[place] for place in chosen]
        places = flat_places(sites, self.layer.map_size).to(units.device)
        answers = np.empty((len(units), len(filled), len(corners)), np.float32)
        got: list[Tensor] = []
        clean = None

        def receive(_: Layer, maps: Tensor) -> None:
            flat = maps.flatten(2) if maps.ndim > 2 else maps[:, :, None]
            got.append(flat.clone() if clean is None else read(reading, clean, flat, units, places))

        def measure(some: list[tuple[int, int]], fill: Tensor) -> Tensor:
            run(occluded_images(image, fill, some, self.grid.patch))
            return got.pop()

        with tap(self.model, [self.layer], receive) as run:
            run(image[None].clone())  # a network may write into what it is given
            clean = got.pop()[0]
            for draw, fill in enumerate(filled):
                start = 0
                while start < len(corners):
                    some = corners[start : start + self.carried.most]
                    done = self.carried.attempt(len(some), partial(measure, some, fill))
                    if done is not None:
                        answers[:, draw, start : start + len(some)] = done.T.float().cpu().numpy()
                        start += len(some)
        return answers if chosen is not None else answers.reshape(*answers.shape[:2], *self.grid.shape)


def _as_maps(values: Tensor, layer: Layer) -> Tensor:
    """Return (image, channel, position)."""
    return values.movedim(layer.channel_axis, 1).flatten(2) if values.ndim > 2 else values[:, :, None]


def occluded_images(image: Tensor, fill: Tensor, corners: list[tuple[int, int]], patch: int) -> Tensor:
    """Return copies of an image with the occluder at each corner, (occluder, channel, y, x)."""
    copies = image.repeat(len(corners), 1, 1, 1)
    for copy, (top, left) in zip(copies, corners):
        copy[:, top : top + patch, left : left + patch] = fill[:, top : top + patch, left : left + patch]
    return copies
