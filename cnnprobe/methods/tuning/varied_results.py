"""What a run of tuning says of images that a dataset varies: from the store to numbers, tables and figures."""

import json
from typing import Any

import numpy as np

from cnnprobe.methods.contract import Figures
from cnnprobe.methods.tuning.varied import CLASS, DecodingColumn, UnitColumn
from cnnprobe.store.reader import Recording, TableView

NUMBERS: tuple[DecodingColumn, ...] = ("score", "low", "high", "chance")
ROWS = 12
"""Units whose curves are drawn when none are requested."""
RELATED = "Responses and factors, Pearson's r within classes"
WORDS = {"all": "all units", "components": "components", "capsule": "own capsule", "length": "its length"}


def factors_of(recording: Recording) -> list[str]:
    """Return the factors that a dataset varies; [] of manufactured stimuli."""
    return list(recording["stimuli"].attributes.get("factors", []))


def headline(recording: Recording) -> dict[str, Any]:
    """Count layers and units; of each factor the best that is read out."""
    tables: list[TableView[UnitColumn]] = recording.in_order()
    found: dict[str, Any] = {"layers": len(tables), "units": sum(table.row_count for table in tables)}
    found["dead"] = sum(int(table["dead"].sum()) for table in tables)
    if "decoding" not in recording:
        return found
    for (factor, _, _), score in best(recording).items():
        found[factor if factor == CLASS else f"R² of {factor}"] = score
    return found


def best(recording: Recording) -> dict[tuple[str, str, str], float]:
    """Return by (factor, layer, readout) the largest mean score of each factor, in their order."""
    table: TableView[DecodingColumn] = recording["decoding"]
    score, mean = table["score"], table["class"] < 0
    found = {}
    for factor in dict.fromkeys(table["factor"].tolist()):
        rows = np.flatnonzero(mean & (table["factor"] == factor) & np.isfinite(score))
        if len(rows):
            row = rows[score[rows].argmax()]
            found[factor, table["layer"][row], table["readout"][row]] = float(score[row])
    return found


def summary(recording: Recording) -> dict[str, list[str]]:
    """Return the table that is printed: what is read out of each layer; or how far its units follow each factor."""
    if "decoding" not in recording:
        return _followed(recording)
    table: TableView[DecodingColumn] = recording["decoding"]
    mean = table["class"] < 0
    keys = list(dict.fromkeys(zip(table["layer"][mean].tolist(), table["readout"][mean].tolist())))
    columns: dict[str, list[str]] = {"layer": [layer for layer, _ in keys], "from": [], "numbers": []}
    for layer, readout in keys:
        own = mean & (table["layer"] == layer) & (table["readout"] == readout)
        columns["from"].append(WORDS[readout])
        columns["numbers"].append(str(int(table["features"][own].max())))
        for factor in dict.fromkeys(table["factor"].tolist()):
            rows = np.flatnonzero(own & (table["factor"] == factor))
            head = factor if factor == CLASS else f"R² of {factor}"
            columns.setdefault(head, []).append(_interval(table, rows[0]) if len(rows) else "-")
    return columns


def _interval(table: TableView[DecodingColumn], row: int) -> str:
    score, low, high = (float(table[name][row]) for name in ("score", "low", "high"))
    return f"{score:.2f} ({low:.2f} to {high:.2f})" if np.isfinite(score) else "-"


def _followed(recording: Recording) -> dict[str, list[str]]:
    """Of a grid: by layer and factor the median over units of how much of their standard deviation a factor makes."""
    tables: list[TableView[UnitColumn]] = recording.in_order()
    stimuli: TableView[Any] = recording["stimuli"]
    columns = {"layer": [table.attributes["layer"] for table in tables]}
    columns |= {"units": [str(table.row_count) for table in tables]}
    columns["dead"] = [str(int(table["dead"].sum())) for table in tables]
    for factor in factors_of(recording):
        rows = stimuli["stepped"] == factor
        shares = []
        for table in tables:
            curve = table["curve"].astype(float)
            groups = [curve[:, rows & (stimuli["label"] == label)] for label in np.unique(stimuli["label"])]
            within = np.mean([group.var(1) for group in groups if group.shape[1]], axis=0)
            whole = curve.var(1)
            known = whole > 0
            shares.append(f"{np.median(np.sqrt(within[known] / whole[known])):.2f}" if known.any() else "-")
        columns[f"follows {factor}"] = shares
    return columns


def draw(recording: Recording) -> Figures:
    """What is read out of each layer, and which unit follows which factor; of a grid the curves of some units."""
    from cnnprobe.methods.tuning.varied_figures import Readout, curves, decoding, factor_maps

    about = recording.attributes
    network = f"{about['model']} (weights: {about['weights']}) on {about['dataset']}"
    stimuli: TableView[Any] = recording["stimuli"]
    if len(stimuli.rows) < stimuli.row_count:
        return
    if "decoding" in recording and len(recording["decoding"].rows):
        table: TableView[DecodingColumn] = recording["decoding"]
        scored = []
        for start in range(0, len(table.rows), table.batch):
            part = slice(start, start + table.batch)
            score, low, high, chance = (float(table[name][start]) for name in NUMBERS)
            words = f"{table['layer'][start]}: {WORDS[table['readout'][start]]} ({max(table['features'][part])})"
            kinds = table["readout"][start], table["factor"][start]
            scored.append(Readout(words, *kinds, score, low, high, chance, table["score"][part][1:]))
        yield "decoding", decoding(scored, f"What can be read out of {network}, images held out")
    names = json.loads(stimuli.attributes["classes"])
    tables: list[TableView[UnitColumn]] = recording.in_order()
    factors = {name: stimuli[name] for name in factors_of(recording)}
    units, labels = dict(zip(factors, stimuli.attributes["factor_units"])), stimuli["label"]
    for one in tables:
        own, layer = one.attributes, one.name.removeprefix("units/")
        if not len(one.rows):
            continue
        title = f"{own['layer']} of {network}"
        if stimuli.has("stepped"):
            asked = np.isin(one["unit"], own["pages"]) if own["pages"] != [-1] else _living(one)
            stepped = stimuli["stepped"]
            along = {f"{name} ({units[name]})": (stepped == name, values) for name, values in factors.items()}
            rows = [(f"unit {one['unit'][row]}", _class_of(own, len(names), one, int(row)), one["curve"][row])
                    for row in np.flatnonzero(asked[: len(one.rows)])]  # fmt: skip
            if rows:
                yield f"{layer}_units", curves(rows, along, labels, names, f"Responses of units: {title}")
        else:
            found = correlations(one["curve"], factors, labels)
            yield f"{layer}_factors", factor_maps(found, own["capsule_size"], names, f"{RELATED}: {title}")


def _living(table: TableView[UnitColumn]) -> np.ndarray:
    alive = ~table["dead"]
    return alive & (np.cumsum(alive) <= ROWS)


def _class_of(own: dict[str, Any], classes: int, table: TableView[UnitColumn], row: int) -> int | None:
    """Return the class to which a unit belongs: of a capsule, or of a layer of one unit for each class; or None."""
    unit = int(table["unit"][row])
    if own["capsule_size"]:
        return unit // int(own["capsule_size"])
    return unit if table.row_count == classes else None


def correlations(curve: np.ndarray, factors: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return Pearson's r of responses with factors, within each class.

    Args:
        curve: (unit, image).
        factors: by name (image,), NaN where an image has none.
        labels: (image,).

    Returns:
        by factor (class, unit), NaN where one of the two does not vary.
    """
    found = {}
    for name, values in factors.items():
        rows = []
        for label in np.unique(labels):
            part = (labels == label) & np.isfinite(values)
            x, y = values[part] - values[part].mean() if part.any() else values[part], curve[:, part].astype(float)
            y = y - y.mean(1, keepdims=True) if part.any() else y
            size = np.sqrt((x**2).sum() * (y**2).sum(1))
            rows.append(np.divide(y @ x, size, out=np.full(len(y), np.nan), where=size > 1e-9 * np.abs(curve).max(1)))
        found[name] = np.stack(rows)
    return found
