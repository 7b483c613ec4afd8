"""Columns of a large CSV file without quotes, a piece at a time: fifteen million rows take seconds, not minutes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cnnprobe.datasets.base.imageset import shown
from cnnprobe.errors import UserError

PIECE = 2**23  # bytes read at a time
LONGEST = 2**16  # bytes of a row
WIDEST = 64  # bytes of a field that is requested


def columns(path: Path, wanted: Sequence[str]) -> Iterator[list[np.ndarray]]:
    """Read some columns, some thousand rows at a time.

    Args:
        path: of the file; its first line names the columns.
        wanted: names of columns.

    Returns:
        For each piece of the file the columns in the order requested, each (row,) bytes.

    Raises:
        UserError: there is no such file or column, a row has more or fewer fields than the first line, or a field
            that is requested is longer than 64 bytes.
    """
    if not path.is_file():  # reading a pipe would wait for ever
        raise UserError(f"no file {shown(str(path))}")
    try:
        with path.open("rb") as file:
            names = file.readline(LONGEST).decode("utf-8-sig", "replace").strip().split(",")
            missing = [name for name in wanted if name not in names]
            if missing:
                raise UserError(f"{shown(str(path))} has no column {missing[0]}; it has {shown(','.join(names))[:200]}")
            chosen = [names.index(name) for name in wanted]
            row, rest = 2, b""
            while piece := file.read(PIECE):
                whole, end, rest = (rest + piece).rpartition(b"\n")
                if end:
                    found = _fields(whole + end, len(names), chosen, path, row)
                    row += len(found[0])
                    yield found
                elif len(rest) > LONGEST:
                    raise UserError(f"{shown(str(path))} line {row} has no end; no CSV file")
            if rest:
                yield _fields(rest + b"\n", len(names), chosen, path, row)
    except OSError as error:
        raise UserError(f"cannot read {shown(str(path))}: {error.strerror}") from None


def _fields(data: bytes, count: int, chosen: Sequence[int], path: Path, row: int) -> list[np.ndarray]:
    """Cut whole lines of `count` fields, of which the first is line `row` of the file."""
    text = np.frombuffer(data.replace(b"\r", b"") if b"\r" in data else data, dtype=np.uint8)
    marks = np.flatnonzero((text == ord(",")) | (text == ord("\n")))
    ends = np.flatnonzero(text[marks] == ord("\n"))
    wrong = np.flatnonzero(np.diff(ends, prepend=-1) != count)
    if len(wrong):
        raise UserError(f"{shown(str(path))} line {row + wrong[0]} has not the {count} fields of the first line")
    stops = marks.reshape(-1, count)  # (row, field)
    starts = np.append(-1, marks[:-1]).reshape(-1, count) + 1
    found = []
    for field in chosen:
        first, length = starts[:, field], stops[:, field] - starts[:, field]
        width = max(1, int(length.max()))
        if width > WIDEST:
            raise UserError(f"{shown(str(path))} line {row + int(length.argmax())} has a field of {width} bytes")
        place = np.arange(width)
        values = text[np.minimum(first[:, None] + place, len(text) - 1)]
        values[place >= length[:, None]] = 0
        found.append(values.view(f"S{width}")[:, 0])
    return found
