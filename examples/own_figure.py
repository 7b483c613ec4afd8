"""Open the store of a run of rf-map and make a figure of one's own: measured against theoretical receptive fields.

cnnprobe rf-map model=convnet dataset=avatar layer=[conv1,conv2,conv3]
python examples/own_figure.py outputs/rf-map/convnet-avatar/latest fields.png
"""

import sys

import numpy as np
from matplotlib.figure import Figure

import cnnprobe


def figure_of(run: str) -> Figure:
    """Return a figure: by layer, the side of each unit's measured field (px) beside that of the theoretical one."""
    recording = cnnprobe.open(run)
    made = Figure(figsize=(5, 3.2), layout="constrained")
    axes = made.subplots()
    tables = recording.in_order()
    for place, table in enumerate(tables):
        measured = table["size"][:, 1]  # side at a fifth of the peak, (unit,), NaN where a unit is silent
        spread = np.random.default_rng(0).uniform(-0.15, 0.15, len(measured))
        axes.plot(place + spread, measured, "o", color="C0", alpha=0.6, label="measured, a unit" if not place else None)
        side = float(np.sqrt(np.prod(table.attributes["field_size"])))
        axes.plot([place - 0.3, place + 0.3], [side, side], color="k", label="theoretical" if not place else None)
    axes.set_xticks(range(len(tables)), [table.attributes["layer"] for table in tables])
    axes.set(ylabel="side of the receptive field (px)", ylim=(0, None))
    axes.set_title(f"{recording.attributes['model']}, weights: {recording.attributes['weights']}", fontsize="medium")
    axes.legend(frameon=False)
    return made


if __name__ == "__main__":
    figure_of(sys.argv[1]).savefig(sys.argv[2], dpi=150)
