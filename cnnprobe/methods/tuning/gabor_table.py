"""The table of Gabors fitted to the filters of a first layer: how it is laid out, and its rows."""

from typing import Literal

import numpy as np

from cnnprobe.instruments.network.layer import Layer
from cnnprobe.methods.tuning.gabors import Gabors, plane
from cnnprobe.store.tables import Column, Table

GaborColumn = Literal[
    "unit", "filter", "plane", "chromatic", "amplitude", "x", "y", "sigma_x", "sigma_y", "frequency", "orientation",
    "phase", "symmetry", "n_x", "n_y", "explained", "kind", "fit",
]  # fmt: skip
"""Columns of the tables "gabor/<layer>"."""
FITTED: dict[GaborColumn, str] = {
    "amplitude": "weight",
    "x": "px",
    "y": "px",
    "sigma_x": "px",
    "sigma_y": "px",
    "frequency": "cycles per px",
    "orientation": "degrees",
    "phase": "degrees",
    "symmetry": "degrees",
    "n_x": "1",
    "n_y": "1",
    "explained": "1",
}
"""Numbers of a fit, with their units."""
KINDS = ("gabor", "blob", "other")


def gabor_table(layer: Layer, units: np.ndarray, filters: np.ndarray, batch: int) -> Table[GaborColumn]:
    """Lay out what is stored of the filters of a layer.

    Args:
        layer: they are read from.
        units: channels of it.
        filters: (unit, channel, y, x).
        batch: filters that are saved together.
    """
    flat, chromatic = plane(filters)
    sides = filters.shape[2:]
    listed: dict[GaborColumn, Column] = {
        "unit": Column("channel of the layer", dtype="int64", unit="index", values=units),
        "filter": Column(
            "what the unit weighs pixels with",
            "channel y x",
            filters.shape[1:],
            unit="weight",
            values=filters.astype("f4"),
        ),
        "plane": Column("first component of the filter over colours", "y x", sides, "float64", "weight", flat),
        "chromatic": Column("share of the filter's energy that is colour", values=chromatic.astype("f4")),
    }
    described = {name: f"{name} of the fitted Gabor, see the table's attribute model" for name in FITTED}
    listed |= {name: Column(described[name], dtype="float64", unit=unit) for name, unit in FITTED.items()}
    listed["kind"] = Column(f"{', '.join(f'{place}: {name}' for place, name in enumerate(KINDS))}", dtype="int64")
    listed["fit"] = Column("the fitted Gabor", "y x", sides, unit="weight")
    words = "A exp(-x'^2/2 sigma_x^2 - y'^2/2 sigma_y^2) cos(2 pi f x' + phase), x' along the modulation; n = sigma f"
    own = layer.attributes | {"model": words, "kinds": " ".join(KINDS)}
    return Table(f"gabor/{layer.group}", "unit", len(units), listed, batch, own)


def fitted(fits: Gabors) -> dict[GaborColumn, np.ndarray]:
    """Return the columns that rows write."""
    found: dict[GaborColumn, np.ndarray] = {name: getattr(fits, name) for name in FITTED}
    found["kind"] = np.array([KINDS.index(word) for word in fits.kind], np.int64)
    found["fit"] = fits.fit.astype(np.float32)
    return found
