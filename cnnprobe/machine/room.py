"""The memory that the machine, or the container that limits it, can still provide. No torch: it may not load."""

import os
from pathlib import Path

MACHINE = Path("/proc/meminfo")
GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)
"""Files of the limit of a container, of what it uses, and of what it uses it for; version 2 and version 1."""


def available() -> int | None:
    """Return the bytes that can still be taken, of the machine or of its container; None where nothing says so.

    What the system keeps of files it has read counts as available: it is given back when memory is requested.
    """
    found = [_of_machine(), *(_of_container(*map(Path, group)) for group in GROUPS)]
    known = [value for value in found if value is not None]
    return max(min(known), 0) if known else None


def _of_machine() -> int | None:
    try:
        lines = MACHINE.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):  # not Linux
        known = "SC_AVPHYS_PAGES" in os.sysconf_names
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else None


def _of_container(limit: Path, used: Path, uses: Path) -> int | None:
    try:
        free = int(limit.read_text(encoding="utf-8")) - int(used.read_text(encoding="utf-8"))  # "max": no limit
    except (OSError, ValueError):
        return None
    try:
        lines = dict(line.split() for line in uses.read_text(encoding="utf-8").splitlines())
        return free + int(lines.get("total_inactive_file", lines.get("inactive_file", 0)))
    except (OSError, ValueError):
        return free
