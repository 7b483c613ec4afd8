"""How Sphinx builds these pages: `make docs`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import option_tables  # noqa: E402

from cnnprobe.machine.version import __version__  # noqa: E402

project = "cnnprobe"
author = "the cnnprobe authors"
copyright = f"2026, {author}"
release = __version__
extensions = ["myst_parser"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "generated"]
html_theme = "furo"
html_title = f"cnnprobe {release}"

option_tables.write(HERE / "generated")
