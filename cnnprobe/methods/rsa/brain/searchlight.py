"""Searchlights: what a sphere around each voxel has in common with the dissimilarities of layers.

Kriegeskorte, Goebel and Bandettini 2006; the whole volume in large matrix products instead of one sphere at a time.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.statistics.dissimilarity import METRICS, RESOLUTION
from cnnprobe.methods.rsa.comparing.comparison import LEAST, SMALL, Comparison, compare

COMPARISONS = ("spearman", "pearson", "cosine", "rho-a")
"""How the dissimilarities of a sphere are compared with those of a layer; see `comparing.comparison.compare`."""
TOUCH = 1e-6
"""Distances that differ by this share of the radius count as equal: files hold the sides of voxels as float32."""
STEPS = 2.0**40
"""Dissimilarities have so many steps to 1: those that are equal but for rounding are equal, and share their rank."""
LEAST_VOXELS = 2
"""Voxels without which a sphere has no correlation."""
AHEAD = 8
"""Parts that each thread does before they are handed over."""
TOGETHER = 2**19
"""Numbers of the patterns of the spheres that are worked on together: they fit into the cache of a core."""


def sphere(radius: float, voxel_size: tuple[float, float, float] | None = None, closed: bool = False) -> np.ndarray:
    """Return the voxels of a sphere as steps from its centre, (voxel, 3), in order of x, y, z.

    Args:
        radius: in voxels, or in mm where `voxel_size` is given.
        voxel_size: sides of a voxel along x, y, z, mm.
        closed: the surface belongs to the sphere (distance <= radius); open: distance < radius.
    """
    sides = np.array([1.0, 1.0, 1.0] if voxel_size is None else voxel_size, float)
    reach = np.floor(radius / sides * (1 + TOUCH)).astype(int)
    steps = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, 3)
    distance = np.sqrt(((steps * sides) ** 2).sum(1)) / radius
    return steps[distance <= 1 + TOUCH if closed else distance < 1 - TOUCH]


def searchlight(
    patterns: np.ndarray,
    mask: np.ndarray,
    models: np.ndarray,
    *,
    radius: float,
    voxel_size: tuple[float, float, float] | None = None,
    closed: bool = False,
    comparison: Comparison = "spearman",
    metric: str = "correlation",
    least: float | Literal["all"] = LEAST_VOXELS,
) -> np.ndarray:
    """Map how alike the dissimilarities in a sphere round each voxel and those of each layer are.

    See `Searchlight` for the arguments and errors.

    Args:
        patterns: (x, y, z, condition).

    Returns:
        (layer, x, y, z) float64; NaN where no sphere has its centre.
    """
    work = Searchlight(mask, models, radius, voxel_size, closed, comparison, metric, least)
    found = np.full((len(models), mask.size), np.nan)
    for places, values in work.parts(patterns):
        found[:, places] = values
    return found.reshape(-1, *mask.shape)


class Searchlight:
    """A sphere that is moved through volumes of one shape.

    Only voxels inside the mask, with finite values, are read. Where the mask or the surface of the volume cuts a
    sphere, the rest of it is used, as nilearn, BrainIAK and CoSMoMVPA do (rsatoolbox leaves out a sphere of which any
    voxel lies outside the mask: `least` "all").

    Args:
        mask: bool (x, y, z).
        models: (layer, pair) float64, upper triangles of the layers' dissimilarities; NaN: that pair does not count.
        radius, voxel_size, closed: see `sphere`.
        comparison: one of `COMPARISONS`.
        metric: one of `METRICS`.
        least: voxels that must be left of a sphere; below 1, the share of the sphere's voxels in the volume; "all" of
            these.

    Raises:
        UserError: the sphere is too small, or the metric or the comparison is not known here.
    """

    def __init__(
        self,
        mask: np.ndarray,
        models: np.ndarray,
        radius: float,
        voxel_size: tuple[float, float, float] | None = None,
        closed: bool = False,
        comparison: Comparison = "spearman",
        metric: str = "correlation",
        least: float | Literal["all"] = LEAST_VOXELS,
    ):
        for word, choices, kind in ((metric, METRICS, "metric"), (comparison, COMPARISONS, "comparison")):
            if word not in choices:
                raise UserError(f"a searchlight has {kind}={listing(choices)}; got {word}")
        self.mask = np.asarray(mask, bool)
        self.steps = sphere(radius, voxel_size, closed)
        if len(self.steps) < 2:
            size = "" if voxel_size is None else f" mm in voxels of {' x '.join(f'{side:g}' for side in voxel_size)} mm"
            raise UserError(f"a sphere of radius {radius:g}{size} holds no voxel but its centre; make it larger")
        if least != "all" and least >= 1 and (least != int(least) or least > len(self.steps)):
            raise UserError(f"min_voxels must be a whole number up to {len(self.steps)}, the voxels of a whole sphere, "
                            f"a share below 1, or all; got {least:g}")  # fmt: skip
        self.metric, self.comparison, self.least = metric, comparison, least
        self.models = torch.from_numpy(np.array(models, np.float64))
        together: dict[bytes, list[int]] = {}
        for layer, known in enumerate(np.isfinite(models)):
            together.setdefault(known.tobytes(), []).append(layer)
        self.groups = []  # layers whose same pairs count, those pairs, and what the spheres are multiplied with
        for layers in together.values():
            pairs = torch.isfinite(self.models[layers[0]]).nonzero()[:, 0]
            self.groups.append((layers, pairs, standard(self.models[layers][:, pairs], comparison)))

    def parts(
        self, patterns: np.ndarray, searched: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Search one volume, some spheres at a time.

        Args:
            patterns: (x, y, z, condition).
            searched: (x * y * z,) bool, true for centres that are known already; None: none is.

        Yields:
            (centre,) flat indices of the voxels at their centres, and (layer, centre) the comparisons, NaN where too
            little of the sphere lies inside the mask. Together the parts are every voxel of the mask.
        """
        conditions = patterns.shape[-1]
        flat = np.asarray(patterns).reshape(-1, conditions)
        usable = self.mask.ravel() & np.isfinite(flat).all(1)
        values = torch.zeros((int(usable.sum()) + 1, conditions), dtype=torch.float64)  # the last row: no voxel
        values[:-1] = torch.from_numpy(np.ascontiguousarray(flat[usable], np.float64))
        if self.metric == "euclidean":
            values -= values.mean(1, keepdim=True)  # changes no distance, saves digits
        upper = torch.from_numpy(np.ravel_multi_index(np.triu_indices(conditions, 1), (conditions,) * 2))
        rows_of = self._spheres(usable)
        places = np.flatnonzero(self.mask)
        step = max(1, TOGETHER // (len(self.steps) * conditions))
        parts = [places[start : start + step] for start in range(0, len(places), step)]
        parts = [part for part in parts if searched is None or not searched[part].all()]

        def search(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rows, enough = rows_of(some)
            found = np.full((len(self.models), len(some)), np.nan)
            if enough.any():
                found[:, enough] = self._compared(self._distances(values, torch.from_numpy(rows[enough]), upper))
            return some, found

        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(parts), AHEAD * threads):
                with single_threaded():
                    done = list(pool.map(search, parts[start : start + AHEAD * threads]))
                yield from done

    def _spheres(self, usable: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Return a function of flat places of centres that gives rows of values, (centre, voxel), and which will do."""
        count = int(usable.sum())
        reach = np.abs(self.steps).max(0)
        wide = np.pad(
            np.where(usable, np.cumsum(usable) - 1, count).reshape(self.mask.shape),
            [(r, r) for r in reach],
            constant_values=-1,
        )
        flat, strides = wide.ravel(), np.array(wide.strides) // wide.itemsize
        steps = self.steps @ strides

        def rows_of(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            centres = (np.stack(np.unravel_index(places, self.mask.shape), 1) + reach) @ strides
            rows = flat[centres[:, None] + steps]
            inside = (rows >= 0).sum(1)
            rows[rows < 0] = count
            present = (rows < count).sum(1)
            enough = usable[places] & (present > 1) & (present >= self._needed(inside) * (1 - 1e-12))
            return rows, enough

        return rows_of

    def _needed(self, inside: np.ndarray) -> np.ndarray | float:
        """Return how many voxels must be left of spheres of which so many lie in the volume."""
        if self.least == "all":
            return inside
        return inside * self.least if self.least < 1 else self.least

    def voxels(self, usable: np.ndarray) -> np.ndarray:
        """Return how many voxels the sphere round each voxel has, int32 (x, y, z); 0 outside.

        Args:
            usable: bool (x, y, z), voxels that are read.
        """
        reach = np.abs(self.steps).max(0)
        wide = np.pad(usable, [(r, r) for r in reach])
        found = np.zeros(usable.shape, np.int32)
        for step in self.steps + reach:
            found += wide[tuple(slice(at, at + side) for at, side in zip(step, usable.shape))]
        return np.where(usable, found, 0)

    def _distances(self, values: Tensor, rows: Tensor, upper: Tensor) -> Tensor:
        """Return the upper triangle of each sphere's dissimilarities, (centre, pair)."""
        present = (rows < len(values) - 1)[..., None]
        whole = bool(present.all())
        found = values[rows]  # (centre, voxel, condition)
        if self.metric == "spearman":
            lines = found if whole else torch.where(present, found, torch.inf)
            found = ranks(lines.mT.flatten(0, 1)).reshape(len(rows), -1, rows.shape[1]).mT
        least = torch.zeros(1, dtype=torch.float64)
        if self.metric in ("correlation", "spearman"):
            count = present.sum(1, dtype=torch.float64)
            mean = (found if whole else torch.where(present, found, 0)).sum(1) / count
            found = found - mean[:, None]
            least = count * mean.square() * RESOLUTION
        if not whole:
            found = torch.where(present, found, 0)
        products = torch.bmm(found.mT, found)
        squares = products.diagonal(dim1=1, dim2=2)
        if self.metric == "euclidean":
            squared = squares[:, :, None] + squares[:, None] - 2 * products
            largest = squares.amax(1, keepdim=True).clamp(min=1e-300)
            squared = (squared.flatten(1).index_select(1, upper) / largest).mul_(STEPS).round_().clamp_(min=0)
            return squared.sqrt_() * (largest / STEPS).sqrt()
        scale = torch.where(squares > least, squares, torch.nan).rsqrt()
        products *= scale[:, :, None]
        products *= scale[:, None]
        return 1 - products.flatten(1).index_select(1, upper).mul_(STEPS).round_().div_(STEPS)

    def _compared(self, distances: Tensor) -> np.ndarray:
        """Return the comparison of (centre, pair) with every layer, (layer, centre)."""
        finite = torch.isfinite(distances)
        whole = finite.all(1)
        found = torch.full((len(self.models), len(distances)), torch.nan, dtype=torch.float64)
        for layers, pairs, prepared in self.groups:
            some = distances[whole] if len(pairs) == distances.shape[1] else distances[whole][:, pairs]
            found[np.ix_(layers, whole.nonzero()[:, 0])] = prepared @ standard(some, self.comparison).mT
        for centre in (~whole).nonzero()[:, 0].tolist():  # patterns that do not vary: the other pairs count
            one = compare(distances[[centre]].numpy(), self.models.numpy(), self.comparison)
            found[:, centre] = torch.from_numpy(one[0])
        return found.numpy()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let torch use one thread in each thread of ours: products this small lose more by sharing than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def standard(values: Tensor, comparison: str) -> Tensor:
    """Return (row, pair) such that the product of two rows is their comparison; NaN where all values are equal."""
    pairs = values.shape[1]
    if pairs < LEAST:
        return torch.full((len(values), max(1, pairs)), torch.nan, dtype=torch.float64)
    values = ranks(values) if comparison in ("spearman", "rho-a") else values
    whole = values.square().sum(1, keepdim=True)
    centred = values - values.mean(1, keepdim=True)
    spread = centred.square().sum(1, keepdim=True)
    varies = spread > SMALL * whole
    if comparison == "cosine":
        centred, spread = values, whole
    if comparison == "rho-a":
        spread = torch.full_like(spread, (pairs**3 - pairs) / 12)
    return centred * torch.where(varies, spread, torch.nan).rsqrt()


def ranks(values: Tensor) -> Tensor:
    """Return the rank of each number in its row, (row, item), from 0; equal ones share the mean of theirs."""
    order = torch.from_numpy(np.argsort(values.numpy(), 1))  # several times as fast as torch's
    places = torch.arange(values.shape[1], dtype=torch.float64).expand_as(order)
    found = torch.empty(values.shape, dtype=torch.float64).scatter_(1, order, places)
    ordered = values.gather(1, order)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(1)
    if bool(tied.any()):
        from scipy.stats import rankdata

        found[tied] = torch.from_numpy(rankdata(values[tied].numpy(), axis=1) - 1)
    return found
