"""What the jobs of a sweep look up in its folder: whether it is still that sweep, and whether it was stopped.

Jobs are done by other processes, on other machines perhaps, while the folder may be deleted and its name be that of
another sweep, or while a signal has reached the process that launched them.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnprobe.errors import UserError
from cnnprobe.machine import files
from cnnprobe.runs.sweep_table import read_json
from cnnprobe.store import newest
from cnnprobe.store.kinds import fits

NAME = newest.SAID
"""File in the folder of a sweep: the number that is its own, when it began, and the exit status of a signal."""
KIND = {"id": str, "began?": datetime, "stopped": (int, None)}
"""See `store.kinds.fits`."""


@dataclass(frozen=True)
class Sweep:
    """A sweep, as its jobs know it.

    Args:
        folder: of the sweep, absolute.
        id: a number that no other sweep has; "": a folder in which nothing says so.
    """

    folder: Path
    id: str = ""

    def check(self, _path: Path | None = None) -> None:
        """Make sure that the folder under this name is still that of this sweep, whatever is to be written in it.

        Raises:
            UserError: it was deleted, moved or replaced.
        """
        if about(self.folder)["id"] != self.id:
            gone = "was deleted, moved or replaced while its jobs were at work"
            raise UserError(f"{self.folder} {gone}; nothing more is written there")

    def stop(self, status: int) -> None:
        """Have no further job begun; `status`: with which the sweep ends."""
        files.write_json(self.folder / NAME, about(self.folder) | {"id": self.id, "stopped": status})


def begin(folder: Path) -> Sweep:
    """Give a sweep that begins its number."""
    sweep = Sweep(folder.absolute(), secrets.token_hex(16))
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    files.write_json(sweep.folder / NAME, {"id": sweep.id, "began": now, "stopped": None})
    return sweep


def about(folder: Path) -> dict[str, Any]:
    """Return what a sweep says of itself."""
    found = read_json(folder / NAME)
    return found if fits(found, KIND) else {"id": "", "stopped": None}
