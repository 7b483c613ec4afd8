"""Figures of a run, and maps for other programs, made from its store alone."""

from pathlib import Path

from cnnprobe import files, methods, volumes
from cnnprobe.figures import style
from cnnprobe.reading import Recording


def draw(folder: Path) -> int:
    """Draw every figure of a run from its store alone, and return how many; maps of a brain go into `maps`."""
    recording = Recording(folder / "store.h5")
    method = methods.module(recording.attributes["command"])
    target = folder / "figures"
    target.mkdir(exist_ok=True)
    count = 0
    for name, figure in method.draw(recording):
        files.write(target / f"{name}.png", style.png(figure))
        count += 1
    for name, values, affine in getattr(method, "volumes", lambda _: ())(recording):
        (folder / "maps").mkdir(exist_ok=True)
        files.write(folder / "maps" / f"{name}.nii.gz", volumes.nifti(values, affine, name))
    return count
