"""What a run of objective=rendered says: from the store to numbers, a table and figures."""

import json
from typing import Any

import numpy as np

from cnnprobe.methods.contract import Figures
from cnnprobe.methods.optimize.rendered import RenderedColumn
from cnnprobe.store.reader import Recording, TableView

STRONGEST = 3
"""Dimensions, or components, of each class on the first figure: those that change the picture most."""
CLASSES = 8
"""Classes with a figure of their own."""


def table_of(recording: Recording) -> TableView[RenderedColumn] | None:
    """Return the table of dimensions; None of a run with another objective."""
    tables = recording.in_order()
    return tables[0] if tables and tables[0].attributes.get("objective") == "rendered" else None


def strongest(table: TableView[RenderedColumn]) -> dict[int, np.ndarray]:
    """Return by class the rows of the dimensions that change the picture most, most first."""
    change, labels = _mean(table["change"]), table["class"]
    found = {}
    for label in np.unique(labels):
        rows = np.flatnonzero((labels == label) & np.isfinite(change))
        found[int(label)] = rows[np.argsort(-change[rows], kind="stable")][:STRONGEST]
    return found


def _mean(values: np.ndarray) -> np.ndarray:
    """Return means over images (unit,), NaN where there is none."""
    known = np.isfinite(values)
    return np.where(known, values, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)


def headline(table: TableView[RenderedColumn]) -> dict[str, Any]:
    """Count dimensions, and say how far those that change the picture most come back."""
    rows = [row for own in strongest(table).values() for row in own]
    slopes = _mean(table["slope"])
    found: dict[str, Any] = {"classes": len(np.unique(table["class"])), _along(table): table.row_count}
    if rows:
        found[f"median slope of the {STRONGEST} strongest"] = float(np.median(slopes[rows]))
        found["from 0.5 to 1.5"] = f"{np.mean((slopes[rows] >= 0.5) & (slopes[rows] <= 1.5)):.0%}"
    return found


def summary(table: TableView[RenderedColumn]) -> dict[str, list[str]]:
    """Return the table that is printed: by class its strongest dimensions, with the slopes."""
    names, slopes, change = _names(table), _mean(table["slope"]), _mean(table["change"])
    columns: dict[str, list[str]] = {"class": [], "length": []}
    length = _mean(table["length"])
    for label, rows in strongest(table).items():
        columns["class"].append(names(label))
        columns["length"].append(f"{length[rows[0]]:.3f}" if len(rows) else "-")
        for place in range(STRONGEST):
            word = "-"
            if place < len(rows):
                row = rows[place]
                word = f"{table['dimension'][row]}: change {change[row]:.3f}, slope {slopes[row]:.2f}"
            columns.setdefault(f"{_along(table)[:-1]} {place + 1}", []).append(word)
    return columns


def _along(table: TableView[RenderedColumn]) -> str:
    """Return the word for what is moved, dimensions or components; older runs have the former."""
    return "components" if table.attributes.get("along") == "components" else "dimensions"


def _names(table: TableView[RenderedColumn]) -> Any:
    names = json.loads(table.attributes["classes"])
    return lambda label: names[label] if label < len(names) else f"class {label}"


def draw(recording: Recording, table: TableView[RenderedColumn]) -> Figures:
    """The strongest dimensions of every class; all dimensions of each class; what comes back."""
    from cnnprobe.methods.optimize.rendered_figures import loop, strips

    if not len(table.rows):
        return
    about, own, names = recording.attributes, table.attributes, _names(table)
    layer, network = table.name.removeprefix("units/"), f"{about['model']} (weights: {about['weights']})"
    columns = {name: table[name] for name in ("picture", "image", "class", "dimension")}
    slopes, offsets, along = _mean(table["slope"]), np.array(own["offsets"]), _along(table)
    spread = table["spread"] if along == "components" else None

    def sheet(rows: list[int], title: str) -> Any:
        words = []
        for row in rows:
            width = "" if spread is None else f"sd {spread[row]:.2f}, "
            what = f"{names(columns['class'][row])}, {along[: 3 if spread is None else 4]}. {columns['dimension'][row]}"
            words.append(f"{what}\n{width}slope {slopes[row]:.2f}")
        return strips(columns["picture"][rows], columns["image"][rows], offsets, words, title, along)

    best = strongest(table)
    some = [int(row) for label in list(best)[:CLASSES] for row in best[label]]
    title = f"{along.capitalize()} of {own['layer']} of {network}, drawn by its decoder"
    if some:
        yield layer, sheet(some, f"{title}\nof each class the {STRONGEST} that change the picture most")
    for label in list(best)[:CLASSES]:
        rows = np.flatnonzero(columns["class"] == label)
        if len(rows):
            yield f"{layer}_class_{label}", sheet(rows.tolist(), f"{title}\n{names(label)}")
    yield (
        f"{layer}_loop",
        loop(_mean(table["change"]), slopes, [row for rows in best.values() for row in rows], title, along),
    )
