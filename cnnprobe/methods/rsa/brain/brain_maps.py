"""Searchlights through the volumes of several subjects, and what they have in common."""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.brain.searchlight import Searchlight
from cnnprobe.methods.rsa.brain.sign_flips import sign_flips
from cnnprobe.methods.rsa.comparing.comparison import Comparison
from cnnprobe.store.reader import TableView
from cnnprobe.store.tables import Advance, Column, Phase, Rows, Table
from cnnprobe.store.unfinished import Unfinished, put

LOG = logging.getLogger("cnnprobe")
ALMOST = 1 - 1e-12
"""Largest correlation whose Fisher transform is finite."""
MapColumn = Literal["name", "kind", "map", "p", "peak", "peak_at"]
"""Columns of the tables "searchlight/<subject>" and "group", which alone has p."""
MaskColumn = Literal["name", "inside", "voxels"]
"""Columns of the table "masks"."""


@dataclass(frozen=True)
class Volume:
    """The patterns of one subject, as `volumes.Subject` reads them from files.

    Args:
        name: of the subject.
        patterns: (x, y, z, condition).
        affine: (4, 4), from voxels to mm.
        rows: how the patterns were matched with the conditions.
    """

    name: str
    patterns: np.ndarray
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    rows: str = "as the dataset's"

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along x, y, z."""
        return self.patterns.shape[:3]

    @property
    def conditions(self) -> int:
        """How many patterns there are."""
        return self.patterns.shape[3]

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Sides of a voxel along x, y, z, mm."""
        x, y, z = (float(side) for side in np.sqrt((self.affine[:3, :3] ** 2).sum(0)))
        return x, y, z

    def read(self) -> np.ndarray:
        """Return the patterns."""
        return self.patterns


@dataclass
class BrainMaps:
    """Moves a sphere through the volume of every subject; a group of them is tested against 0 (`sign_flips`).

    Args:
        given: volumes, or arrays (x, y, z, condition); several are several subjects.
        mask: bool (x, y, z); None: voxels with finite values that differ between conditions.
        names: of the rows that are compared.
        kinds: of the rows; p values are corrected among those of one kind.
        conditions: how many.
        metric, comparison: see `searchlight.Searchlight`.
        radius: in voxels, or in mm as "6mm".
        closed: see `searchlight.sphere`.
        least: voxels of a sphere that must lie inside the mask, see `searchlight.Searchlight`.
        flips: of signs, at most.
        seed: of the flips.

    Raises:
        UserError: a volume does not fit, or nothing can be searched as asked.
    """

    given: Any
    mask: np.ndarray | None
    names: list[str]
    kinds: list[str]
    conditions: int
    metric: str
    comparison: Comparison
    radius: float | str
    closed: bool
    least: float | Literal["all"]
    flips: int
    seed: int

    def __post_init__(self) -> None:
        several = self.given if isinstance(self.given, list | tuple) else [self.given]
        self.subjects = [
            Volume(f"subject-{place + 1:02d}", one) if isinstance(one, np.ndarray) else one
            for place, one in enumerate(several)
        ]
        self.shape = tuple(self.subjects[0].shape)
        for one in self.subjects:
            if one.conditions != self.conditions or tuple(one.shape) != self.shape:
                raise UserError(
                    f"volumes of {one.name} are {(*one.shape, one.conditions)}; needed are "
                    f"{(*self.shape, self.conditions)}, a pattern for each of {self.conditions} conditions"
                )
        if self.mask is not None and self.mask.shape != self.shape:
            raise UserError(f"the mask has {self.mask.shape} voxels, the volumes have {self.shape}")
        self._search(np.ones((1, 1, 1), bool), np.zeros((0, 3)))  # is it possible at all?

    def _search(self, mask: np.ndarray, models: np.ndarray) -> Searchlight:
        radius, in_mm = radius_of(self.radius)
        sides = self.subjects[0].voxel_size if in_mm else None
        return Searchlight(mask, models, radius, sides, self.closed, self.comparison, self.metric, self.least)

    def tables(self) -> list[Table[Any]]:
        """Lay out a table of maps for each subject, one of their masks, and one of the group."""
        first, rows = self.subjects[0], len(self.names)
        steps = len(self._search(np.ones((1, 1, 1), bool), np.zeros((0, 3))).steps)
        least = self.least if isinstance(self.least, str) else f"{self.least:g}"
        about = {
            "affine": first.affine.ravel().tolist(), "voxel_size": list(first.voxel_size),
            "radius": str(self.radius), "sphere": "closed" if self.closed else "open", "voxels": steps,
            "metric": self.metric, "comparison": self.comparison, "min_voxels": least,
        }  # fmt: skip
        known: dict[MapColumn, Column] = {
            "name": Column("layer, or pixels", dtype="str", values=np.array(self.names, object)),
            "kind": Column("layer, random or pixels", dtype="str", values=np.array(self.kinds, object)),
        }
        words = f"comparison ({self.comparison}) of the sphere around each voxel; NaN: not searched"
        found: list[Table[Any]] = []
        for name, one in zip(self.table_names(), self.subjects):
            columns: dict[MapColumn, Column] = {**known, "map": Column(words, "x y z", self.shape), **_peaks()}
            found.append(Table(name, "layer", rows, columns, rows, about | {"subject": one.name, "rows": one.rows}))
        of_masks: dict[MaskColumn, Column] = {
            "name": Column("subject", dtype="str", values=np.array([one.name for one in self.subjects], object)),
            "inside": Column("voxels of the mask", "x y z", self.shape, "bool"),
            "voxels": Column("voxels of the sphere around each that were read, 0 = none", "x y z", self.shape, "int32"),
        }
        found.append(Table("masks", "subject", len(self.subjects), of_masks, aside=True))
        if len(self.subjects) > 1:
            columns = {
                **known,
                "map": Column("mean over subjects, of Fisher's z where it is of correlations", "x y z", self.shape),
                "p": Column("one-sided, corrected for all voxels and rows of a kind", "x y z", self.shape),
                **_peaks(),
            }
            found.append(Table("group", "layer", rows, columns, rows, about | {"subjects": len(self.subjects)}))
        return found

    def table_names(self) -> list[str]:
        """Return the names of the subjects' tables."""
        return [f"searchlight/{re.sub(r'[^A-Za-z0-9.-]+', '_', one.name)}" for one in self.subjects]

    def events(self, models: np.ndarray, unfinished: Unfinished | None = None) -> Iterator[Rows[Any] | Advance | Phase]:
        """Search.

        Args:
            models: (row, pair), upper triangles of the rows' matrices.
            unfinished: keeps the maps so far.
        """
        maps, unfinished = [], unfinished or Unfinished()
        for place, (name, one) in enumerate(zip(self.table_names(), self.subjects)):
            patterns = one.read()
            inside = varying(patterns) if self.mask is None else self.mask
            yield Phase(f"searchlight in {one.name}", int(inside.sum()), "spheres")
            kept: dict[str, np.ndarray] = {"map": (found := np.full((len(models), inside.size), np.nan, np.float32))}
            kept["searched"] = searched = np.zeros(inside.size, bool)
            search = self._search(inside, models)
            unfinished.begin(name, partial(dict, kept), partial(put, kept))
            yield Advance(int(searched.sum()))
            for places, values in search.parts(patterns, searched):
                found[:, places], searched[places] = values, True
                yield Advance(len(places))
            unfinished.end(name)
            maps.append(found.reshape(-1, *self.shape))
            if not np.isfinite(found).any():
                why = (
                    f"has enough voxels inside the mask (min_voxels={self.least})"
                    if inside.any()
                    else "can be compared: no voxel differs between the stimuli"
                )
                LOG.warning(f"{one.name}: no sphere of radius {self.radius} {why}")
            read = inside & np.isfinite(patterns).all(-1)
            yield Rows[MaskColumn]("masks", place, {"inside": inside[None], "voxels": search.voxels(read)[None]})
            yield Rows[MapColumn](name, 0, {"map": maps[-1], **peaks(maps[-1])})
        if len(maps) > 1:
            yield Rows("group", 0, self._group(np.stack(maps)))

    def _group(self, maps: np.ndarray) -> dict[MapColumn, np.ndarray]:
        """Return the columns of the group, from (subject, row, x, y, z)."""
        signed = self.comparison != "cosine"  # a cosine of distances is above 0 by itself
        values = np.arctanh(np.clip(maps, -ALMOST, ALMOST).astype(np.float64)) if signed else maps.astype(np.float64)
        kinds = np.array(self.kinds)
        mean, p = values.mean(0), np.full(values.shape[1:], np.nan)
        for kind in np.unique(kinds) if signed else ():
            own = kinds == kind
            mean[own], p[own], _ = sign_flips(values[:, own], draws=self.flips, seed=self.seed)
        if signed and 2 ** len(maps) < 20:
            LOG.warning(f"the signs of {len(maps)} subjects have {2 ** len(maps)} flips: no p is below 0.05")
        mean = np.tanh(mean) if signed else mean
        return {"map": mean.astype(np.float32), "p": p.astype(np.float32), **peaks(mean)}


def radius_of(spec: float | str) -> tuple[float, bool]:
    """Return a radius and whether it is in mm: 3 and "3" are voxels, "6mm" and "6 mm" are mm.

    Raises:
        UserError: it is neither.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:(mm)\s*)?", str(spec))
    if not match or float(match[1]) == 0:
        raise UserError(f"radius must be a number of voxels or mm, as 3 or 6mm, got {spec!r}")
    return float(match[1]), match[2] is not None


def varying(patterns: np.ndarray) -> np.ndarray:
    """Return where a volume has a signal, bool (x, y, z): finite values that differ between conditions."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(patterns).all(-1) & (patterns.max(-1) > patterns.min(-1))


def peaks(maps: np.ndarray) -> dict[MapColumn, np.ndarray]:
    """Return the largest value of each map (row, x, y, z) and the voxel where it is, -1 for none."""
    filled = np.where(np.isfinite(maps), maps, -np.inf).reshape(len(maps), -1)
    largest = filled.max(1, initial=-np.inf)
    known = np.isfinite(largest)
    at = np.stack(np.unravel_index(filled.argmax(1), maps.shape[1:]), 1)
    return {"peak": np.where(known, largest, np.nan), "peak_at": np.where(known[:, None], at, -1)}


def searched(masks: TableView[MaskColumn], tables: list[TableView[MapColumn]]) -> dict[str, str]:
    """Say how many voxels of the masks have no value, and how the volumes were matched with the conditions.

    Args:
        masks: the table "masks".
        tables: "searchlight/…" of each subject, in the same order.
    """
    inside, without = masks["inside"], 0
    for mask, table in zip(inside, tables):
        without += int((mask & ~np.isfinite(table["map"]).any(0)).sum()) if len(table["map"]) else 0
    about = [table.attributes for table in tables]
    rule = about[0].get("min_voxels", "all")  # of an older store
    rows = dict.fromkeys(one["rows"] for one in about if one.get("rows"))
    found = {"voxels without a value": f"{without} of {int(inside.sum())} (min_voxels={rule})"}
    return found | ({"volumes": "; ".join(rows)} if rows else {})


def _peaks() -> dict[MapColumn, Column]:
    return {
        "peak": Column("largest value", dtype="float64"),
        "peak_at": Column("voxel of the largest value, -1 = none", "xyz", (3,), "int64", "index"),
    }
