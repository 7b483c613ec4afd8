"""Drawings of arrays: numpy in, matplotlib figures out."""

import importlib.util
from contextlib import chdir
from pathlib import Path


def load() -> None:
    """Load matplotlib with the `matplotlibrc` that comes with it, which it looks for first where it stands.

    One of the user, or of the folder somebody stands in, might be a pipe, or no text, and nothing could be drawn.
    """
    found = importlib.util.find_spec("matplotlib")
    if found is None or not found.submodule_search_locations:  # told by whoever draws
        return
    own = Path(found.submodule_search_locations[0]) / "mpl-data"
    with chdir(own if own.is_dir() else Path.cwd()):
        import matplotlib  # noqa: F401


load()
