"""Targets that the rows of a layer climb for: units, groups, directions, the layer, or units of another network."""

from pathlib import Path
from typing import Any

import numpy as np

from cnnprobe.errors import UserError, must_be_a_file, path_of
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.units import place_on, units_of
from cnnprobe.methods.optimize.ascent import objectives
from cnnprobe.methods.optimize.columns import PreferredColumn
from cnnprobe.methods.optimize.control.session import KINDS
from cnnprobe.store.tables import Column

OF_UNITS = ("neuron", "channel", "contrast", "class")
"""Objectives of which each row is a unit of the layer."""
READS = {"position": "neuron", "groups": "group", "group_weights": "group", "direction": "direction"}
"""Options that one objective alone reads, with its name."""
NPY = b"\x93NUMPY"
"""How a .npy file begins."""


def targets(
    layer: Layer, units: np.ndarray, objective: str, given: dict[str, Any], classes: tuple[str, ...]
) -> tuple[objectives.Objective | None, np.ndarray, dict[PreferredColumn, Column]]:
    """Return what climbs in a layer.

    Args:
        layer: that is read.
        units: channels of it, where rows are units or one group of them.
        objective: its name.
        given: options of the objective: position, groups, group_weights, pooling, direction; and `control`, by layer.
        classes: names of the network's classes.

    Returns:
        the objective, a row per image, None if it has yet to be learned; the number of each row, (row,); columns that
        name the rows.

    Raises:
        UserError: no such unit or position, or numbers that do not fit the layer.
    """
    _must_be_read(objective, given)
    name, aside = layer.name, dict[PreferredColumn, Column]()
    climbed: objectives.Objective | None
    if objective in OF_UNITS:
        position = None if given["position"] is None else place_on(layer, given["position"])
        if objective == "channel":
            climbed = objectives.Channel(name, units)
        elif objective == "contrast":
            climbed = objectives.Contrast(name, units)
        else:
            climbed = objectives.Neuron(name, units, position)
        named = objective == "class" and len(classes) == layer.channels
        names, ids = [classes[unit] if named else str(unit) for unit in units], units
    elif objective == "group":
        groups = given["groups"] or [units.tolist()]
        for group in groups:
            units_of(layer, group)
        weights = given["group_weights"]
        if weights is not None and list(map(len, weights)) != list(map(len, groups)):
            raise UserError("group_weights must be a list per group, with a weight for each of its members")
        climbed = objectives.Group.made(name, groups, weights, given["pooling"])
        members, ids = climbed.members, np.arange(climbed.rows)
        aside["members"] = Column("units; -1: none", "member", members.shape[1:], "int64", "index", members)
        names = [" + ".join(map(str, group)) for group in groups]
    elif objective == "direction":
        climbed = objectives.Direction(name, _directions(layer, given["direction"]))
        ids = np.arange(climbed.rows)
        names = [f"direction {row}" for row in ids]
    elif objective in KINDS:
        climbed, ids = None, given["control"][name].brain.units
        names = [f"{given['control'][name].brain.layer.name} {unit}" for unit in ids]
    else:
        climbed, ids, names = objectives.Dream(name, 1), np.arange(1), [name]
    aside["name"] = Column("what the image is for", dtype="str", values=np.array(names, dtype=object))
    return climbed, ids, aside


def _must_be_read(objective: str, given: dict[str, Any]) -> None:
    """Refuse options that would change nothing."""
    for key, reader in READS.items():
        if given[key] is not None and objective != reader:
            raise UserError(f"{key}= belongs to objective={reader}, got objective={objective}")
    if objective != "group" and given["pooling"] != "mean":
        raise UserError(f"pooling= belongs to objective=group, got objective={objective}")
    if given["group_weights"] is not None and given["pooling"] != "mean":
        raise UserError(f"group_weights= are those of a weighted mean (pooling=mean), got pooling={given['pooling']}")


def _directions(layer: Layer, direction: Any) -> np.ndarray:
    """Return (row, channel) from numbers or a file.

    Raises:
        UserError: nothing is given, there is no such file, or its numbers do not fit.
    """
    if direction is None:
        raise UserError("objective=direction needs direction=…: numbers by channel, or a .npy file of them")
    if isinstance(direction, str):
        direction = _numbers(path_of(direction))
    with np.errstate(over="ignore"):
        found = np.atleast_2d(np.asarray(direction, np.float32))
    if found.ndim != 2 or found.shape[1] != layer.channels or not np.isfinite(found).all():
        raise UserError(f"direction must have {layer.channels} finite numbers, one per channel of {layer.name}")
    return found


def _numbers(path: Path) -> np.ndarray:
    """Read a .npy file of numbers, which anyone may have written."""
    try:
        must_be_a_file(path)
        with path.open("rb") as file:
            if file.read(len(NPY)) != NPY:
                raise ValueError("it is no .npy file")
        found = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a size that is claimed must be there
        if found.dtype.kind not in "iufb":
            raise ValueError(f"it holds values of type {found.dtype}")
    except Exception as error:  # damaged headers raise many types
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:160]
        raise UserError(f"direction: {path.name} cannot be read: {why}") from None
    return found
