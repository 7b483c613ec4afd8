"""What the machine offers: processor cores this process may use."""

import math
import os
from pathlib import Path


def cores() -> int:
    """Return the number of physical cores this process may run on, at most OMP_NUM_THREADS where that is set."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    most = int(said) if said.isdigit() and int(said) else math.inf
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    seen = set()
    for number in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{number}/topology")
        try:
            seen.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            return max(1, min(len(allowed), most))
    return max(1, min(len(seen), most))
