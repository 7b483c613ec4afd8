"""Figures of `record`: the first images and what the network says of them; maps and courses beside the true ones."""

import json
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnprobe.instruments.images.stimuli_table import StimulusColumn
from cnnprobe.instruments.outputs.distances import BOTH, COUNTED, PREDICTED, RIGHT, TRUE
from cnnprobe.instruments.outputs.explained import explained
from cnnprobe.methods.record.columns import ImageColumn, PictureColumn
from cnnprobe.plots import style
from cnnprobe.plots.scores import scores
from cnnprobe.plots.sheet import Outlined, contact_sheet
from cnnprobe.plots.traces import captioned_traces
from cnnprobe.store.reader import Recording, TableView

COURSES, CHANNELS = 4, 8
"""Images and channels whose courses are drawn."""


def sheet(recording: Recording) -> Figure:
    """Draw the first images with their class, and frame those decided wrongly."""
    images: TableView[ImageColumn] = recording["images"]
    stimuli: TableView[StimulusColumn] = recording["stimuli"]
    pixels = _pictures(recording)["pixels"][: len(images.rows)]
    how = "classified otherwise by"
    if images.attributes.get("target") == "present":
        how = "other classes come first for"
        captions, wrong = _several(images, len(pixels))
    else:
        captions, wrong = _one(images, json.loads(stimuli.attributes["classes"]), len(pixels))
    for place in np.flatnonzero(stimuli["skipped"][: len(pixels)]):
        captions[place] = captions[place] if wrong[place] else "unreadable"
    about = recording.attributes
    note = f"; framed: {how} {about['model']}, weights {about['weights']}" if wrong.any() else ""
    title = f"{about['dataset']}: first {len(pixels)} {'signals' if pixels.ndim == 3 else 'images'}{note}"
    if pixels.ndim == 3:
        return captioned_traces(pixels, captions, None, title, wrong)
    return contact_sheet(pixels, captions, wrong, title)


def _one(images: TableView[ImageColumn], classes: list[str], count: int) -> tuple[list[str], np.ndarray]:
    """Return captions of the first images that have a class each, and which are decided wrongly."""
    own = json.loads(images.attributes["classes"]) or classes
    wrong = images["rank"][:count] > 0
    captions = []
    for label, said, bad in zip(images["label"][:count], images["prediction"][:count], wrong):
        truth = classes[label] if 0 <= label < len(classes) else "?"
        captions.append(f"{truth}\n→ {own[said] if 0 <= said < len(own) else said}" if bad else truth)
    return captions, wrong


def _several(images: TableView[ImageColumn], count: int) -> tuple[list[str], np.ndarray]:
    """Return captions of the first images that may have several classes, and of which not all come first."""
    names = np.array(json.loads(images.attributes["target_names"]), dtype=object)
    wrong = images["all_found"][:count] == 0
    captions = []
    for present, values, bad in zip(images["present"][:count], images["scores"][:count], wrong):
        first = np.sort(np.argsort(-values, kind="stable")[: int(present.sum())])
        there = ", ".join(names[present > 0]) or "none"
        captions.append(f"{there}\n→ {', '.join(names[first])}" if bad else there)
    return captions, wrong


def outlined(recording: Recording, overall: float) -> Figure:
    """Draw outlines of the true and the predicted maps over the first images, the worst first."""
    images: TableView[ImageColumn] = recording["images"]
    stimuli: TableView[StimulusColumn] = recording["stimuli"]
    pictures = _pictures(recording)
    count = min(len(pictures["pixels"]), len(images.rows))
    value = images["iou"][:count]
    order = np.argsort(value, kind="stable")  # NaN last
    unread = stimuli["skipped"][:count]
    captions = ["unreadable" if unread[one] else _overlap(value[one]) for one in order]
    about, names = recording.attributes, json.loads(images.attributes["target_names"])
    over = " (background not counted)" if len(images.attributes["judged"]) < len(names) else ""
    title = (
        f"{about['dataset']}: first {count} images, the worst first, by {about['model']}, weights {about['weights']}\n"
        f"intersection over union{over}: {_overlap(overall).removeprefix('IoU ')} of all {len(images.rows)} images"
    )
    lines = [
        Outlined(pictures["truth"][:count][order], "white", "black", 1.8, "true"),
        Outlined(pictures["answer"][:count][order], style.ACCENT, "white", 0.9, "predicted"),
    ]
    return contact_sheet(pictures["pixels"][:count][order], captions, (), title, 8, lines)


def _overlap(value: float) -> str:
    return f"IoU {value:.2f}" if np.isfinite(value) else "IoU: none"


def scored(
    recording: Recording,
    values: np.ndarray,
    what: str,
    guessed: np.ndarray | None = None,
    notes: Sequence[str] = (),
) -> Figure:
    """Draw a score of each class or channel, see `plots.scores.scores`."""
    images: TableView[ImageColumn] = recording["images"]
    about = recording.attributes
    title = f"{about['model']} (weights: {about['weights']}), {len(images.rows)} images of {about['dataset']}"
    return scores(values, json.loads(images.attributes["target_names"]), what, title, guessed, notes)


def by_distance(recording: Recording) -> Figure:
    """Draw how well pixels are answered by their distance to the border of the image and to an edge of the true map."""
    images: TableView[ImageColumn] = recording["images"]
    about, own = recording.attributes, images.attributes
    border, edge = (images[name].sum(0, dtype=np.int64).astype(float).T for name in ("by_border", "by_edge"))
    title = f"{about['model']} (weights: {about['weights']}), {len(images.rows)} images of {about['dataset']}"
    made = style.figure(7.2, 2.9, title)
    left, right = made.subplots(1, 2, sharey=True)
    at, middle = (np.arange(border.shape[1]) + 0.5) * own["band"] - 0.5, np.arange(1, edge.shape[1] + 1)
    background = len(own["judged"]) < len(json.loads(own["target_names"]))
    either = border[TRUE] + border[PREDICTED] - border[BOTH]
    _line(left, at, border[BOTH], either, 1, "intersection over union")
    _line(left, at, border[RIGHT], border[COUNTED], 0, "share decided rightly")
    if background:
        _line(left, at, border[COUNTED] - border[TRUE], border[COUNTED], 5, "the same, all background", "--")
    _line(right, middle, edge[RIGHT], edge[COUNTED], 0, "all pixels")
    if background:
        _line(right, middle, edge[BOTH], edge[TRUE], 1, "inside (not background)")
        _line(right, middle, edge[RIGHT] - edge[BOTH], edge[COUNTED] - edge[TRUE], 2, "outside (background)")
    if (beyond := at[border[COUNTED] == 0]).size:  # of a network without padding
        left.axvspan(-0.5, beyond.max() + own["band"] / 2, color="0.92", label="not answered")
    left.set(xlim=(-0.5, at[-1] + own["band"] / 2), ylim=(-0.02, 1.02), ylabel="share")
    right.set_xlim(0.5, middle[-1] + 0.5)
    ticks = [1, *range(4, len(middle) - 1, 4), len(middle)]
    right.set_xticks(ticks, [*map(str, ticks[:-1]), f">{len(middle) - 1}"])
    beside = "" if background else "judged classes together"
    said = "share decided rightly"
    for axes, words, what in ((left, "to the border of the image (px)", beside),
                              (right, "to the nearest edge of the true map (px)", said)):  # fmt: skip
        axes.set_xlabel(f"distance {words}", fontsize=8)
        axes.set_title(what, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(color="0.92", linewidth=0.6)
        axes.legend(fontsize=6.5, frameon=False, loc="lower right")
    return made


def _line(
    axes: Axes, at: np.ndarray, part: np.ndarray, whole: np.ndarray, colour: int, words: str, dashes: str = "-"
) -> None:
    """Draw a share by distance; nothing where there are no pixels."""
    share = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    look = {"color": style.SERIES[colour], "markersize": 3, "linewidth": 1.2, "label": words}
    axes.plot(at, share, dashes, marker="o" if dashes == "-" else "", **look)


def courses(recording: Recording) -> Figure:
    """Draw courses, true and made, of images from the worst to the best of those stored; rows are channels."""
    images: TableView[ImageColumn] = recording["images"]
    pictures, about = _pictures(recording), images.attributes
    count = min(len(pictures["pixels"]), len(images.rows))
    shares = np.array([explained(one) for one in images["sums"][:count]])
    known = np.flatnonzero(np.isfinite(shares))
    ranked = known[np.argsort(shares[known], kind="stable")] if len(known) else np.arange(min(count, COURSES))
    shown = ranked[np.unique(np.linspace(0, len(ranked) - 1, COURSES).round().astype(int))]
    names = json.loads(about["target_names"])
    rows = min(len(names), CHANNELS)
    every = f"first {rows} of {len(names)} channels; " if rows < len(names) else ""
    head = f"{recording.attributes['dataset']}, courses by {recording.attributes['model']}"
    title = f"{head}, weights {recording.attributes['weights']}\n{every}from the worst to the best of {count} images"
    made = style.figure(2.1 * len(shown) + 0.6, 0.95 * rows + 0.75, title)
    panels = made.subplots(rows, len(shown), squeeze=False, sharex=True, sharey="row")
    rate = about.get("rate")
    time = about.get("start", 0.0) + np.arange(pictures["truth"].shape[2]) / (rate or 1.0)
    for column, image in enumerate(shown):
        panels[0, column].set_title(f"image {image}, R² {style.number(shares[image])}", fontsize=7)
        panels[-1, column].set_xlabel("time (s)" if rate else "time (samples)", fontsize=7)
        for row in range(rows):
            axes = panels[row, column]
            axes.plot(time, pictures["truth"][image, row], color="0.25", linewidth=1.1, label="true")
            axes.plot(time, pictures["answer"][image, row], "--", color=style.ACCENT, linewidth=1.1, label="network")
            axes.tick_params(labelsize=6)
            axes.spines[["top", "right"]].set_visible(False)
    for row, name in enumerate(style.apart(names[:rows], most=18)):
        panels[row, 0].set_ylabel(name, fontsize=7)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return made


def _pictures(recording: Recording) -> TableView[PictureColumn]:
    return recording["pictures"]
