"""What lesions cost: by target beside chance, by share, unit by unit, class by class, and images decided otherwise."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnprobe.datasets.base.targets import BACKGROUND
from cnnprobe.machine import files
from cnnprobe.methods.lesion.columns import AFTER, Fit, ImageColumn
from cnnprobe.methods.lesion.effects import LEVELS, LesionColumn
from cnnprobe.methods.lesion.examples import IMAGES, PictureColumn
from cnnprobe.methods.lesion.lesioning import BOTH, NEAR, NEAR_BOTH, TRUE
from cnnprobe.methods.lesion.pixels import EDGE
from cnnprobe.plots.canvas import footer, largest
from cnnprobe.plots.sheet import Outlined, contact_sheet
from cnnprobe.plots.style import ACCENT, DIVERGING, SERIES, apart, by_depth, figure, plain, shades
from cnnprobe.plots.traces import captioned_traces
from cnnprobe.store.reader import TableView

MANY = 12
"""Groups of one layer from which on they have a figure of their own, sorted by what they cost."""
NAMED = 48
"""Up to so many units, or classes, each has its name."""
LEVEL = 0.05
"""Share of random lesions that lose as much, up to which a class is marked."""
LABELS = {
    "accuracy": "accuracy",
    "iou": "intersection over union",
    "explained": "explained share (R²)",
    "changed": "share decided otherwise than intact",
    "unexplained": "unexplained variance of the outputs",
}
WORDS = {"swap": "swapped with another image's", "mean": "set to its mean over images", "zero": "set to 0"}


@dataclass(frozen=True)
class Lesions:
    """The table "lesions", and what its attributes say.

    Args:
        table: by column, (lesion, …).
        measure: by which losses are counted.
        classes: names, in the order of the columns by class.
        localizer: as asked, "" for none.
    """

    table: dict[LesionColumn, np.ndarray]
    measure: str
    classes: list[str]
    localizer: str

    @classmethod
    def of(cls, table: TableView[LesionColumn]) -> "Lesions":
        """Read it."""
        about = table.attributes
        names = apart(json.loads(about["classes"]), 30)
        return cls({name: table[name] for name in table.columns}, about["measure"], names, about["localizer"])

    def __getitem__(self, column: LesionColumn) -> np.ndarray:
        return self.table[column]

    @property
    def ways(self) -> list[str]:
        """What stands in, in the order in which it was made."""
        return list(dict.fromkeys(self["how"].tolist()))

    @property
    def layers(self) -> list[str]:
        """Layers in their order."""
        return list(dict.fromkeys(self["layer"].tolist()))

    def rows(self, *, controls: bool = False, **is_so: Any) -> np.ndarray:
        """Return the places of lesions whose columns are these: of the lesions themselves, or of their controls."""
        fits = (self["control"] >= 0) == controls
        for name, value in is_so.items():
            fits &= self.table[name] == value  # type: ignore[index]  # keywords are plain words
        return np.flatnonzero(fits)

    def many(self, layer: str) -> bool:
        """Say whether a layer has so many groups that they stand in a figure of their own."""
        return len(set(self["group"][self.rows(layer=layer)].tolist())) > MANY

    @property
    def of_pixels(self) -> bool:
        """Whether the network gives a class for every pixel."""
        return "class_pixels" in self.table

    @property
    def by_class(self) -> bool:
        """Whether the images have several classes, and the network decides."""
        return len(self.classes) > 1 and bool(np.isfinite(self["class_changed"]).any())

    @property
    def column(self) -> LesionColumn:
        """The column that is drawn."""
        return "after" if self.measure in LEVELS else self.measure  # type: ignore[return-value]  # named as columns are

    def ends(self, rows: np.ndarray) -> np.ndarray | None:
        """Return (2, row) how far the 95 % interval reaches below and above what is drawn; None where there is none."""
        values = self[self.column][rows]
        if self.measure in LEVELS:
            low, high = (self["before"][rows] + self[name][rows] for name in ("difference_low", "difference_high"))
        elif self.measure == "changed":
            low, high = self["changed_low"][rows], self["changed_high"][rows]
        else:
            return None
        return np.nan_to_num(np.stack([values - low, high - values])).clip(0)


def all_of(lesions: Lesions, title: str) -> Iterator[tuple[str, Figure]]:
    """Give the figures that the lesions have something to show in; of courses only those by unit."""
    few = [] if lesions.measure == "explained" else [layer for layer in lesions.layers if not lesions.many(layer)]
    if few:
        yield "loss", by_target(lesions, few, title)
    shares = np.unique(lesions["share"])
    if len(shares) > 1 and lesions.measure != "explained":
        yield "shares", by_share(lesions, title)
    for layer in lesions.layers:
        if lesions.many(layer):
            yield f"units_{files.plain(layer)}", by_unit(lesions, layer, title)
    if few and lesions.by_class:
        yield "classes", by_class(lesions, few, title)
    if few and lesions.measure == "iou" and "class_pixels_intact" in lesions.table:  # not in runs of older versions
        yield "edges", by_edge(lesions, few, title)


def by_target(lesions: Lesions, layers: list[str], title: str) -> Figure:
    """Draw what is left after each lesion, the network from the image on from top to bottom, beside random lesions."""
    most = float(lesions["share"].max())
    chosen = [row for layer in layers for row in lesions.rows(layer=layer, share=np.float32(most))]
    targets = list(dict.fromkeys(lesions["target"][chosen].tolist()))
    made = figure(6.8, 1.0 + (0.26 + 0.1 * len(lesions.ways)) * len(targets), title)
    panel = made.subplots()
    for place, way in enumerate(lesions.ways):
        shift = (place - (len(lesions.ways) - 1) / 2) * 0.22
        for controls in (True, False):
            rows = lesions.rows(controls=controls, how=way, share=np.float32(most))
            rows = rows[np.isin(lesions["layer"][rows], layers)]
            heights = np.array([targets.index(name) for name in lesions["target"][rows]]) + shift
            values = lesions[lesions.column][rows]
            if controls:
                panel.plot(values, heights, "|", color="0.55", markersize=7, markeredgewidth=0.7, zorder=1)
                continue
            look = {"color": SERIES[place], "markersize": 5, "elinewidth": 1.2, "zorder": 3}
            panel.errorbar(values, heights, xerr=lesions.ends(rows), fmt="o", label=WORDS[way], **look)
            _chances(panel, lesions, rows, heights, SERIES[place])
    _intact(panel, lesions, across=False)
    panel.set_yticks(range(len(targets)), [plain(name, 40) for name in targets], fontsize=8)
    panel.set_ylim(len(targets) - 0.5, -0.5)
    panel.set_xlabel(LABELS[lesions.measure], fontsize=8)
    panel.grid(axis="x", color="0.9", linewidth=0.6)
    panel.tick_params(axis="x", labelsize=8)
    panel.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0), title="activation", title_fontsize=7)
    footer(made, _remarks(lesions, most, bool((lesions["control"] >= 0).any())))
    return made


def _chances(panel: Axes, lesions: Lesions, rows: np.ndarray, heights: np.ndarray, colour: str) -> None:
    """Write p at the border away from the intact network, on the height of what was compared with random lesions."""
    across = panel.get_yaxis_transform()
    for row, height in zip(rows, heights):
        if np.isfinite(lesions["p"][row]):
            words = f"p = {lesions['p'][row]:.2g}"
            at, side = (0.01, "left") if lesions.measure in LEVELS else (0.99, "right")
            panel.text(at, height, words, transform=across, fontsize=6, va="center", ha=side, color=colour)


def _intact(panel: Axes, lesions: Lesions, across: bool) -> None:
    """Draw a line where the intact network stands, and give the axis its whole range."""
    if lesions.measure in LEVELS:
        level, ends = float(lesions["before"][0]), (-0.02, 1.02)
    else:
        level, ends = 0.0, (-0.02, max(1.02, 1.05 * largest(lesions[lesions.column])))
    (panel.axhline if across else panel.axvline)(level, color="black", linestyle="--", linewidth=1, label="intact")
    (panel.set_ylim if across else panel.set_xlim)(*ends)


def _remarks(lesions: Lesions, share: float, controls: bool) -> list[str]:
    judged = int(lesions["images"].max())
    said = [f"{judged} images"]
    if share < 1:
        said.append(f"{share:g} of the units")
    if lesions.measure != "unexplained":
        said.append("bars: 95 % intervals" + " of the change" * (lesions.measure in LEVELS))
    if controls:
        said.append("grey: random lesions of as many other units of the layer; p: how often these lose as much")
    if lesions.localizer:
        said.append(f"units that tell {plain(lesions.localizer)} apart, found on other images")
    return said


def by_share(lesions: Lesions, title: str) -> Figure:
    """Draw what is left against the share of units taken out, a panel for each thing that stands in."""
    ways = lesions.ways
    made = figure(1.2 + 3.1 * len(ways), 3.0, title)
    panels = made.subplots(1, len(ways), sharey=True, squeeze=False)[0]
    for panel, way in zip(panels, ways):
        targets = list(dict.fromkeys(lesions["target"][lesions.rows(how=way)].tolist()))
        targets = targets if len(targets) <= MANY else targets[:MANY]
        for place, target in enumerate(targets):
            rows = lesions.rows(how=way, target=target)
            shares, values = lesions["share"][rows], lesions[lesions.column][rows]
            colour = by_depth(place, len(targets))
            panel.plot(shares, values, "o", color=colour, markersize=3, alpha=0.5)
            means = [(share, values[shares == share].mean()) for share in np.unique(shares)]
            panel.plot(*np.transpose(means), color=colour, linewidth=1.5, label=plain(target, 30))
        _intact(panel, lesions, across=True)
        panel.set_title(f"activation {WORDS[way]}", fontsize=8)
        panel.set_xlabel("share of the units taken out", fontsize=8)
        panel.set_xlim(-0.02, 1.02)
        panel.tick_params(labelsize=7)
        panel.grid(color="0.92", linewidth=0.6)
    panels[0].set_ylabel(LABELS[lesions.measure], fontsize=8)
    panels[-1].legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    draws = int(lesions["draw"].max()) + 1
    footer(made, [f"{int(lesions['images'].max())} images", f"points: {draws} random choices, lines: their means"])
    return made


def by_unit(lesions: Lesions, layer: str, title: str) -> Figure:
    """Draw the loss by each unit of a layer, the costliest first, and below it by class."""
    share = np.float32(lesions["share"].max())
    first = lesions.rows(layer=layer, how=lesions.ways[0], share=share, draw=0)
    order = np.argsort(-np.nan_to_num(lesions["loss"][first], nan=-np.inf), kind="stable")
    names = lesions["group"][first][order]
    heat = lesions.by_class
    tall = min(5.0, 0.8 + 0.14 * len(lesions.classes)) if heat else 0.0
    made = figure(7.6, 2.4 + tall, f"{layer} of {title}")
    panels = np.atleast_1d(made.subplots(1 + heat, 1, sharex=True, height_ratios=[2.2, tall] if heat else [1]))
    for place, way in enumerate(lesions.ways):
        rows = lesions.rows(layer=layer, how=way, share=share, draw=0)[order]
        look = {"color": SERIES[place], "markersize": 2.5, "elinewidth": 0.6, "linewidth": 0, "label": WORDS[way]}
        panels[0].errorbar(range(len(rows)), lesions[lesions.column][rows], lesions.ends(rows), fmt="o", **look)
    level = float(lesions["before"][first[0]]) if lesions.measure in LEVELS else 0.0
    panels[0].axhline(level, color="black", linestyle="--", linewidth=1, label="intact")
    panels[0].set_ylabel(LABELS[lesions.measure].replace(" than", "\nthan").replace(" of the", "\nof the"), fontsize=8)
    panels[0].legend(fontsize=6, loc="best")
    panels[0].tick_params(labelsize=7)
    panels[0].grid(axis="y", color="0.92", linewidth=0.6)
    if heat:
        _heat(made, panels[1], lesions, first[order], by_column=True)
    if len(names) <= NAMED:
        panels[-1].set_xticks(range(len(names)), names.tolist(), fontsize=5, rotation=90 if len(names) > 24 else 0)
    panels[-1].tick_params(axis="x", labelsize=5 if len(names) <= NAMED else 7)
    ranked = "unit" if len(names) <= NAMED else "rank of the unit"
    panels[-1].set_xlabel(f"{ranked}, the costliest first", fontsize=8)
    said = [f"{int(lesions['images'].max())} images"]
    if lesions.measure != "unexplained":
        said.append("bars: 95 % intervals" + " of the change" * (lesions.measure in LEVELS))
    if heat:
        said.append(f"by class: activation {WORDS[lesions.ways[0]]}")
    footer(made, said)
    return made


def by_class(lesions: Lesions, layers: list[str], title: str) -> Figure:
    """Draw what each lesion changes by class of the image, a panel for each thing that stands in."""
    share = np.float32(lesions["share"].max())
    ways = lesions.ways
    every = [lesions.rows(how=way, share=share, draw=0) for way in ways]
    own = [rows[np.isin(lesions["layer"][rows], layers)] for rows in every]
    wide = min(9.0, max(2.4, 1.4 + 0.22 * len(lesions.classes)))
    made = figure(1.2 + wide * len(ways), 1.5 + 0.24 * len(own[0]), title)
    panels = made.subplots(1, len(ways), sharey=True, squeeze=False)[0]
    for panel, way, rows in zip(panels, ways, own):
        _heat(made, panel, lesions, rows, by_column=False, bar=panel is panels[-1])
        panel.set_title(f"activation\n{WORDS[way]}", fontsize=8)
    panels[0].set_yticks(range(len(own[0])), [plain(name, 40) for name in lesions["target"][own[0]]], fontsize=7)
    starred = bool((lesions["class_p"] <= LEVEL).any())
    said = [f"{int(lesions['images'].max())} images"]
    said += [f"*: at most {100 * LEVEL:g} % of random lesions of as many other units cost that class as much"] * starred
    footer(made, said)
    return made


def _heat(made: Figure, panel: Axes, lesions: Lesions, rows: np.ndarray, *, by_column: bool, bar: bool = True) -> None:
    """Draw lesion × class: change of accuracy, or share decided otherwise where that is unknown."""
    known = lesions.measure in LEVELS
    values = lesions["class_after"] - lesions["class_before"] if known else lesions["class_changed"]
    shown = values[rows].T if by_column else values[rows]
    ends = {"cmap": DIVERGING, "vmin": -1, "vmax": 1} if known else {"cmap": shades("Reds"), "vmin": 0, "vmax": 1}
    look = ends | {"aspect": "auto", "interpolation": "nearest"}
    panel.set_facecolor("0.85")
    image = panel.imshow(shown, **look)
    places = np.argwhere(lesions["class_p"][rows] <= LEVEL)
    for row, kind in places:
        panel.text(*((row, kind) if by_column else (kind, row)), "*", fontsize=9, ha="center", va="center")
    if bar:
        scale = made.colorbar(image, ax=panel, fraction=0.05, pad=0.02)
        scale.set_label(f"change of {LABELS[lesions.measure]}" if known else "share decided otherwise", fontsize=7)
        scale.ax.tick_params(labelsize=6)
    names, count = lesions.classes, len(lesions.classes)
    if count <= NAMED:
        put = panel.set_yticks if by_column else panel.set_xticks
        turned = {"rotation": 90} if not by_column and count > 4 else {}
        put(range(count), names, fontsize=6, **turned)
    (panel.set_ylabel if by_column else panel.set_xlabel)(
        f"class of the {'pixel' if lesions.of_pixels else 'image'}", fontsize=8
    )


def by_edge(lesions: Lesions, layers: list[str], title: str) -> Figure:
    """Draw the share of pixels decided rightly, inside and outside of shapes, near their edges and farther away."""
    share = np.float32(lesions["share"].max())
    every = [lesions.rows(how=way, share=share, draw=0) for way in lesions.ways]
    own = [rows[np.isin(lesions["layer"][rows], layers)] for rows in every]
    background = lesions.classes[0] == BACKGROUND
    classes = {"inside": slice(int(background), None), "outside": slice(0, 1)} if background else {"": slice(None)}
    made = figure(1.2 + 2.4 * len(own), 1.5 + 0.24 * (1 + len(own[0])), title)
    panels = made.subplots(1, len(own), sharey=True, squeeze=False)[0]
    for panel, way, rows in zip(panels, lesions.ways, own):
        counts = np.concatenate([lesions["class_pixels_intact"][rows[:1]], lesions["class_pixels"][rows]]).astype(float)
        shares, names = [], []
        for what, some in classes.items():
            both, true, near_both, near = counts[:, some][..., [BOTH, TRUE, NEAR_BOTH, NEAR]].sum(1).T
            names += [f"{what} near".strip(), f"{what} far".strip()]
            for part, whole in ((near_both, near), (both - near_both, true - near)):
                shares.append(np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0))
        values = np.transpose(shares)
        image = panel.imshow(values, cmap=shades("Blues"), vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        for (row, column), value in np.ndenumerate(values):
            ink = "white" if value > 0.6 else "black"
            panel.text(column, row, f"{value:.2f}", fontsize=6.5, ha="center", va="center", color=ink)
        panel.set_title(f"activation\n{WORDS[way]}", fontsize=8)
        panel.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names], fontsize=6.5)
    targets = [plain(name, 40) for name in lesions["target"][own[0]]]
    panels[0].set_yticks(range(1 + len(targets)), ["intact", *targets], fontsize=7)
    scale = made.colorbar(image, ax=panels[-1], fraction=0.05, pad=0.03)
    scale.set_label("share decided rightly", fontsize=7)
    scale.ax.tick_params(labelsize=6)
    said = "inside: pixels of shapes, outside: of the background" if background else ""
    footer(made, [f"{int(lesions['images'].max())} images", said, f"near: within {EDGE} px of another true class"])
    return made


def examples(
    lesions: Lesions, pictures: TableView[PictureColumn], images: TableView[ImageColumn], title: str
) -> Figure:
    """Show images that are decided otherwise after the lesions that cost most, one row each."""
    rows = np.flatnonzero(pictures["image"] >= 0)
    if lesions.of_pixels or lesions.measure == "explained":
        return _fits(lesions, pictures, images, rows, title)
    labels, intact, decided = images["label"], images["intact"], images["decided"]
    names = lesions.classes
    captions, places = [], []
    for row in rows:
        lesion, image = int(pictures["lesion"][row]), int(pictures["shown"][row])
        before, after = (_name(one, names) for one in (intact[image], decided[image, lesion]))
        truth = "" if 0 <= labels[image] == intact[image] else f" ({_name(labels[image], names)})"
        captions.append(f"{plain(lesions['target'][lesion], 24)}, {lesions['how'][lesion]}\n{before}{truth} → {after}")
        places.append(int(row))
    title = f"images that are decided otherwise without these units: {title}"
    pixels = pictures["pixels"][places]
    if pixels.ndim == 3:
        return captioned_traces(pixels, captions, None, title)
    return contact_sheet(pixels, captions, (), title, IMAGES)


def _fits(
    lesions: Lesions, pictures: TableView[PictureColumn], images: TableView[ImageColumn], rows: np.ndarray, title: str
) -> Figure:
    """Show images whose maps of classes, or courses, fit much worse, with how well each did and does."""
    what, fit, captions = "segmentation", "intersection over union, IoU", []
    by: Fit = "iou"
    if not lesions.of_pixels:
        what, fit, by = "courses", "explained share, R²", "explained"
    for lesion, image in zip(pictures["lesion"][rows], pictures["shown"][rows]):
        before, after = images[by][image], images[AFTER[by]][image, lesion]
        name = f"{plain(lesions['target'][lesion], 24)}, {lesions['how'][lesion]}"
        captions.append(f"{name}\n{before:.2f} → {after:.2f}")
    words = f"images whose {what} ({fit}) lose{'s' * lesions.of_pixels} most without these units: {title}"
    places, lines = rows.tolist(), []
    if "truth" in pictures:  # not in runs of older versions
        lines = [
            Outlined(pictures["truth"][places], "white", "black", 1.8, "true"),
            Outlined(pictures["intact"][places], SERIES[0], "white", 0.9, "intact"),
            Outlined(pictures["lesioned"][places], ACCENT, "white", 0.9, "with the lesion"),
        ]
    return contact_sheet(pictures["pixels"][places], captions, (), words, IMAGES, lines)


def _name(index: int, names: list[str]) -> str:
    return plain(names[index], 20) if 0 <= index < len(names) else "?" if index < 0 else str(index)
