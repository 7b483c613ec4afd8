"""Figures of a run, drawn from its store alone."""

from pathlib import Path

from cnnprobe import files, methods
from cnnprobe.figures import style
from cnnprobe.reading import Recording


def draw(folder: Path) -> int:
    """Draw every figure of a run from its store alone, and return how many."""
    recording = Recording(folder / "store.h5")
    method = methods.module(recording.attributes["command"])
    target = folder / "figures"
    target.mkdir(exist_ok=True)
    count = 0
    for name, figure in method.draw(recording):
        files.write(target / f"{name}.png", style.png(figure))
        count += 1
    return count
