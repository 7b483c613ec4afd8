"""The provenance of a result: code, packages, machine and peak memory."""

import hashlib
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from cnnprobe.machine import version

PACKAGES = (
    "torch",
    "torchvision",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scipy",
    "h5py",
    "matplotlib",
    "pillow",
    "safetensors",
    "nibabel",
)


def versions() -> dict[str, str]:
    """Return the versions of Python, cnnprobe and what it stands on."""
    found = {"python": platform.python_version(), "cnnprobe": version.__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Return the git commit of the checkout cnnprobe runs from, with "+" where files were changed; None outside one."""
    folder = Path(version.__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5)
        # without the lock that bringing git's index up to date takes: a kill would leave it there
        look = ["git", "--no-optional-locks", "status", "--porcelain"]
        state = subprocess.run(look, cwd=folder, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("+" if state.stdout.strip() else "") if head.returncode == 0 else None


def code() -> str:
    """Return the digest of the Python files of cnnprobe, which a version or a commit with changes does not tell."""
    folder, digest = Path(version.__file__).parents[1], hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()} ".encode() + path.read_bytes())
    return digest.hexdigest()


def machine() -> dict[str, Any]:
    """Return host, processor and system."""
    return {"host": platform.node(), "system": platform.platform(), "processor": _processor()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def birth(process: int) -> int | None:
    """Return when a process of this machine began, in ticks since the machine did; None where there is none.

    One that has ended is none, also where nobody has asked yet how. Numbers of processes are given again; number and
    birth together are not.
    """
    try:
        text = Path(f"/proc/{process}/stat").read_bytes()
        fields = text.rpartition(b")")[2].split()  # from the third on; the name before them may hold anything
        return int(fields[19]) if fields[0] != b"Z" else None
    except (OSError, ValueError, IndexError):
        return None


def peak_memory() -> int:
    """Return the largest resident size of this process so far, bytes."""
    with suppress(OSError, StopIteration, ValueError):  # Linux: what `getrusage` says begins with that of the parent
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
