"""Cells recorded in a brain, from a table of the user's own, to be shown beside the filters of a network."""

import csv
import io
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from cnnprobe.errors import UserError, listing, path_of
from cnnprobe.machine import files
from cnnprobe.store.tables import Column, Table

CellColumn = Literal["n_x", "n_y"]
"""Columns of the table "cells": the shape of each cell's field (Ringach 2002), see `gabors`."""
AXES: tuple[CellColumn, ...] = get_args(CellColumn)
LARGEST = 2**24
"""Bytes of a table that is read."""


def recorded_cells(file: str | None) -> list[Table[CellColumn]]:
    """Read a table with the columns n_x and n_y; others are left alone.

    Commas, semicolons or tabs stand between its cells; unless they are commas, one may stand for the decimal point.

    Returns:
        a table "cells" in which everything is known; none where there is no file.

    Raises:
        UserError: no such file, or it lacks a column or has something else than finite numbers of 0 or more in it.
    """
    if file is None:
        return []
    path = path_of(file)
    try:
        text = files.read(path, LARGEST).decode("utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        lines = filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=separator))
        places = {word: place for place, word in enumerate(next(lines, []))}
        rows = [[row[at] if at < len(row) else None for at in map(places.get, AXES) if at is not None] for row in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cells={file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not rows or not set(AXES) <= set(places):
        found = listing(word for word in places if word) if rows else "no rows"
        raise UserError(f"cells={file} needs rows with the columns n_x and n_y, got {found}")
    values = np.array([[_number(cell, file, line) for cell in row] for line, row in enumerate(rows, 2)])
    columns = {
        axis: Column(f"{axis} of a recorded cell", dtype="float64", values=values[:, place])
        for place, axis in enumerate(AXES)
    }
    return [Table("cells", "cell", len(values), columns, aside=True, attributes={"file": Path(file).name})]


def _number(text: str | None, file: str, line: int) -> float:
    try:
        value = float((text or "").replace(",", "."))
    except ValueError:
        value = np.nan
    if not 0 <= value < np.inf:
        raise UserError(f"cells={file}, line {line}: n_x and n_y must be numbers of 0 or more, got {text!r}")
    return value
