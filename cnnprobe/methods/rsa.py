"""Ask whether layers see stimuli as alike as a brain does: dissimilarity matrices, compared with references."""

from typing import Annotated, Any, Literal

import numpy as np
from torch import nn

from cnnprobe.engine.layers import Layer, find, main_layers
from cnnprobe.engine.matrix_analysis import MatrixAnalysis
from cnnprobe.options import Range, Run
from cnnprobe.records import Measurement

SHOWN = 12
"""Layers at most whose matrices are drawn."""


def compute(
    *,
    model: nn.Module,
    dataset: Any,
    layer: str | list[str] | None,
    reference: Run | list[str] | None,
    reference_axes: list[Literal["subject", "session", "time", "region"]] | None,
    conditions: Literal["image", "class"],
    metric: Literal["correlation", "spearman", "euclidean", "cosine", "mahalanobis", "crossnobis"],
    comparison: Literal["spearman", "pearson", "kendall", "cosine", "rho-a"],
    controls: list[Literal["pixels", "random"]] | None,
    bootstrap: Annotated[int, Range(0, 100000)],
    over: Literal["conditions", "subjects", "both"],
    permutations: Annotated[int, Range(0, 1000000)],
    batch_size: int,
    device: str,
    workers: int,
    seed: int,
) -> Measurement:
    """Make the dissimilarity matrix of every layer and compare it with references.

    Args:
        model: any network; it is given back as it was.
        dataset: an image set.
        layer: names of layers, see `engine.layers.find`; None: the main layers and the logits.
        reference: see `engine.reference_matrices.given_references`; on the command line see `references.load`.
        reference_axes: what the axes of a reference in front of its conditions are.
        conditions: every image by itself, or classes with their images as repeats.
        metric: of dissimilarity, see `engine.dissimilarity` and `engine.noise_distances`.
        comparison: of matrices, see `engine.matrix_comparison`.
        controls: rows beside the layers: the pixels, the same layers with random weights.
        bootstrap: draws behind the intervals.
        over: what is drawn again.
        permutations: of the conditions' labels, behind p.
        batch_size: images that pass through the network together.
        device: where the network is.
        workers: processes that load images.
        seed: of the draws, permutations and random weights.

    Returns:
        tables "layers", "references", "differences", "conditions", "stimuli", "pictures".

    Raises:
        UserError: no such layer, a reference that does not fit, or fewer than 3 conditions.
    """
    analysis = MatrixAnalysis(
        model, _layers(model, layer, dataset.size), dataset, reference, reference_axes, tuple(controls or ()),
        conditions == "class", metric, comparison, bootstrap, over, permutations, seed, batch_size, device, workers,
    )  # fmt: skip
    return Measurement(analysis.tables(), analysis.events(), len(dataset), "images")


def _layers(model: nn.Module, spec: str | list[str] | None, size: tuple[int, ...]) -> list[Layer]:
    if spec is not None:
        return find(model, spec, size)
    main, (output,) = main_layers(model, size), find(model, "logits", size)
    if main and main[-1].kind == "linear" and main[-1].channels == output.channels:
        main.pop()  # the output by another name
    return find(model, [*(layer.name for layer in main), "logits"], size)


def headline(recording: Any) -> dict[str, Any]:
    """Say which layer is closest to each reference, and how close."""
    table = recording["layers"]
    own = np.flatnonzero(table["kind"] == "layer")
    found: dict[str, Any] = {"layers": len(own), "conditions": len(recording["conditions"]["name"])}
    if "references" not in recording:
        return found
    for place, name in enumerate(recording["references"]["name"][:4]):
        values = table["similarity"][own, place]
        if np.isfinite(values).any():
            best = own[np.nanargmax(values)]
            found[f"closest to {name}"] = f"{table['name'][best]} ({table['similarity'][best, place]:.3f})"
    return found


def summary(recording: Any) -> dict[str, list[str]]:
    """Return the table that is printed: the closest layer to each reference, beside controls and noise ceiling."""
    if "references" not in recording:
        return {}
    table, references = recording["layers"], recording["references"]
    kinds, names, similarity = table["kind"], table["name"], table["similarity"]
    columns: dict[str, list[str]] = {"reference": [str(name) for name in references["name"]]}
    closest = [_best(similarity[:, place], kinds == "layer") for place in range(len(references["name"]))]
    low, high, p = table["similarity_low"], table["similarity_high"], table["p_corrected"]
    columns["closest layer"] = ["-" if row is None else str(names[row]) for row in closest]
    columns[table.attributes["comparison"]] = [
        "-" if row is None else f"{similarity[row, n]:.3f} ({low[row, n]:.3f} to {high[row, n]:.3f})"
        for n, row in enumerate(closest)
    ]
    columns["p, corrected"] = ["-" if row is None else f"{p[row, n]:.3g}" for n, row in enumerate(closest)]
    for kind, words in (("random", "random weights, best"), ("pixels", "pixels")):
        if (kinds == kind).any():
            rows = [_best(similarity[:, place], kinds == kind) for place in range(len(closest))]
            columns[words] = ["-" if row is None else f"{similarity[row, n]:.3f}" for n, row in enumerate(rows)]
    ends = zip(references["noise_lower"], references["noise_upper"])
    columns["noise ceiling"] = [f"{a:.3f} to {b:.3f}" if np.isfinite(a) else "one subject" for a, b in ends]
    return columns


def _best(values: np.ndarray, rows: np.ndarray) -> int | None:
    """Return the row with the largest value among some rows; None where there is none."""
    known = np.flatnonzero(rows & np.isfinite(values))
    return int(known[values[known].argmax()]) if len(known) else None


def draw(recording):
    """."""
    return iter(())
