"""What is drawn of a brain: time courses, searchlights, and the maps as files."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from cnnprobe.methods.contract import Figures
from cnnprobe.methods.rsa.analysis import LayerColumn, ReferenceColumn
from cnnprobe.methods.rsa.brain.brain_maps import MapColumn, MaskColumn, radius_of
from cnnprobe.methods.rsa.brain.time_courses import CourseColumn, MomentColumn, RegionColumn
from cnnprobe.methods.rsa.comparing.comparison import MEASURES
from cnnprobe.store.reader import Recording, TableView

SEARCHED = 12
"""Layers at most whose searchlight is drawn."""
LATENCY: dict[str, CourseColumn] = {"latency": "latency", "low": "latency_low", "high": "latency_high"}
"""Columns of the peaks, by what the figures call them."""


def courses(recording: Recording, place: str, title: str) -> Figures:
    """Layer by time with the peaks, and when each layer peaks, of each region; layer by region."""
    from cnnprobe.methods.rsa.figures.time_maps import peak_latencies, region_map, time_map

    table: TableView[CourseColumn] = recording[f"courses/{place}"]
    moments: TableView[MomentColumn] = recording[f"moments/{place}"]
    order: TableView[RegionColumn] = recording[f"regions/{place}"]
    own, times, about = np.flatnonzero(table["kind"] == "layer"), moments["time"], table.attributes
    names, unit, measure = [str(name) for name in table["name"][own]], about["time_unit"], MEASURES[about["comparison"]]
    title, number = f"{about['reference']}: {title}", int(place) + 1
    if not about["timed"]:
        columns = [f"{about['reference']}: {region}" for region in order["name"]]
        references: TableView[ReferenceColumn] = recording["references"]
        layers: TableView[LayerColumn] = recording["layers"]
        given = {str(name): column for column, name in enumerate(references["name"])}
        p = layers["p_corrected"][own][:, [given[column] for column in columns]]
        values = table["similarity"][own, 0]
        yield f"regions-{number}", region_map(values, names, list(order["name"]), title, measure, p)
        return
    for region, name in enumerate(order["name"]):
        said = f"{title}\n{name}" if name else title
        ends = {key: table[column][own, region] for key, column in LATENCY.items()}
        ends_of_noise = moments["noise_lower"][:, region], moments["noise_upper"][:, region]
        ceiling = ends_of_noise if np.isfinite(ends_of_noise).any() else None
        ending = f"{number}-{_file(name)}" if name else str(number)
        curves = table["similarity"][own, :, region]
        yield f"time-{ending}", time_map(curves, times, names, said, measure, unit, **ends, ceiling=ceiling)
        rank: dict[str, Any] = {key: float(order[key][region]) for key in ("order", "order_low", "order_high")}
        yield f"latency-{ending}", peak_latencies(**ends, names=names, title=said, unit=unit, **rank)


def searches(recording: Recording) -> list[str]:
    """Return the names of the tables of searchlights."""
    return [name for name in recording.tables() if name.startswith("searchlight/")]


def slices(recording: Recording, name: str, title: str) -> Figures:
    """Slices of the searchlight of a subject or the group, and which layer is closest where."""
    from cnnprobe.methods.rsa.figures.slices import closest_layer, searchlight_slices

    table: TableView[MapColumn] = recording[name]
    about, affine = table.attributes, np.reshape(table.attributes["affine"], (4, 4))
    masks: TableView[MaskColumn] = recording["masks"]
    inside = masks["inside"].all(0) if name == "group" else masks["inside"][searches(recording).index(name)]
    size, in_mm = radius_of(about["radius"])
    radius = f"{size:g} {'mm' if in_mm else 'voxels'}"
    whose = f"mean of {about['subjects']} subjects" if name == "group" else about["subject"]
    title = f"Searchlight of radius {radius} (up to {about['voxels']} voxels inside the mask), {whose}: {title}"
    title += f"\nvolumes {about['rows']}" if about.get("rows") else ""
    rows = np.flatnonzero(table["kind"] != "random")
    shown = spread(rows, SEARCHED)
    if len(shown) < len(rows):
        title += f"; {len(shown)} of {len(rows)} layers"
    maps, p = table["map"], table["p"] if name == "group" and np.isfinite(table["p"]).any() else None
    words, measure = [str(one) for one in table["name"]], MEASURES[about["comparison"]]
    ending = _file(name.rpartition("/")[2])

    def of(chosen: np.ndarray) -> dict[str, Any]:
        return {"p": None if p is None else p[chosen], "inside": inside}

    labels = [words[row] for row in shown]
    yield f"slices-{ending}", searchlight_slices(maps[shown], labels, affine, title, measure, **of(shown))
    own = np.flatnonzero(table["kind"] == "layer")
    yield f"closest-layer-{ending}", closest_layer(maps[own], [words[row] for row in own], affine, title, **of(own))


def volumes(recording: Recording) -> Iterator[tuple[str, bytes]]:
    """Give every map as a NIfTI file, by its name, for programs that show brains; p of the group as well."""
    from cnnprobe.methods.rsa.brain.volumes import nifti

    for name in [*searches(recording), *(["group"] if "group" in recording else [])]:
        table: TableView[MapColumn] = recording[name]
        affine = np.reshape(table.attributes["affine"], (4, 4))
        for row, (layer, kind) in enumerate(zip(table["name"], table["kind"])):
            words = [name.rpartition("/")[2], "random" if kind == "random" else "", str(layer)]
            of = _file("_".join(filter(None, words)))
            yield f"{of}.nii.gz", nifti(table["map"][row], affine, of)
            if name == "group":
                yield f"{of}_p.nii.gz", nifti(table["p"][row], affine, f"{of}_p")


def spread(rows: np.ndarray, most: int) -> np.ndarray:
    """Return rows, evenly chosen where there are too many."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _file(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", str(name))[:80]
