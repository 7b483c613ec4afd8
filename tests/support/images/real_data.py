"""Real images and weights, where CNNPROBE_DATA names a folder that has them; tests are skipped elsewhere."""

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

needs_real_data = pytest.mark.skipif("CNNPROBE_DATA" not in os.environ, reason="CNNPROBE_DATA names no folder of data")


def data_folder() -> Path:
    """Return the folder of real data."""
    return Path(os.environ["CNNPROBE_DATA"])


def unpack(archive: str, target: Path, wanted: Callable[[str], bool] = lambda _: True, most: int = 10**9) -> None:
    """Copy regular files out of an archive, by name; nothing else in it is looked at."""
    with tarfile.open(data_folder() / archive) as source:
        count = 0
        for member in source:
            if count == most:
                break
            if member.isreg() and ".." not in member.name and wanted(member.name):
                path = target / member.name.lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as copy:
                    shutil.copyfileobj(source.extractfile(member), copy)
                count += 1
