"""The devices of the machine: processor cores this process may use, and GPUs."""

import os
import re
from pathlib import Path

import torch

from cnnprobe.errors import UserError


def chosen(name: str) -> str:
    """Return the device that a name stands for: "cpu", "cuda" or "cuda:1".

    Args:
        name: "cpu", "cuda", "cuda:1", or "auto": the first GPU, where there is none the processor.

    Raises:
        UserError: there is no such device here.
    """
    count = torch.cuda.device_count() if name != "cpu" and torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    if name == "cpu":
        return name
    asked = re.fullmatch(r"cuda(?::(\d+))?", name)
    if asked is None:
        raise UserError(f"no device {name!r}; there are auto, cpu, cuda and, of several GPUs one, cuda:1")
    if not count:
        raise UserError(f"no CUDA device here, asked for device={name}; device=cpu or device=auto")
    if int(asked[1] or 0) >= count:
        there = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise UserError(f"device={name} is not here; there {'is' if count == 1 else 'are'} {there}")
    return name


def cores() -> int:
    """Return the number of physical cores this process may run on, at most OMP_NUM_THREADS where that is set."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    most = int(said) if said.isdigit() and int(said) else len(allowed)
    seen = set()
    for number in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{number}/topology")
        try:
            seen.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            return max(1, min(len(allowed), most))
    return max(1, min(len(seen), most))
