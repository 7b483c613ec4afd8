"""Manufactured stimuli, one factor each: what a physiologist shows a cell to find out what it is tuned to.

The families:
    blank       one image of mid-grey
    gratings    every orientation with every spatial frequency and phase, at full contrast
    contrast    the same at lower contrasts, of every fourth orientation and every third frequency
    bars        one bar through the middle, by orientation, at two widths
    corners     one filled corner with its tip in the middle, by the direction into which it opens, at three openings
    colours     a disc by hue, as bright as the grey around it (mean of red, green and blue)
    brightness  a disc by brightness
    letters     A to Z
    shapes      disc, ring, crescent, triangle, square, star, cross, bar

Bars, corners, letters and shapes are shown bright and dark. Everything that is no grating stands on mid-grey (0.5) in
the middle of the image. An angle of 0 points to the right, 90 downwards; the orientation of a grating or a bar is the
direction across its bars, so at 0 they stand upright. A disc of hue h has the colour
0.5 + 0.25 (cos h, cos(h - 120), cos(h - 240)).
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Annotated, Any, Literal

import numpy as np

from cnnprobe.config.options import Range
from cnnprobe.datasets import shapes
from cnnprobe.datasets.base.names import must_be_few
from cnnprobe.datasets.gratings import wave
from cnnprobe.datasets.rendering import letters
from cnnprobe.datasets.rendering.drawn import Drawn, must_differ
from cnnprobe.errors import UserError

DRAWING_VERSION = 1
FAMILIES = ("blank", "gratings", "contrast", "bars", "corners", "colours", "brightness", "letters", "shapes")
FACTORS = {
    "orientation": "degrees",
    "frequency": "cycles per px",
    "phase": "degrees",
    "contrast": "1",
    "polarity": "1: bright, -1: dark",
    "width": "px",
    "opening": "degrees",
    "direction": "degrees",
    "hue": "degrees",
    "brightness": "0 to 1",
}
"""Everything a stimulus is varied in, with its unit, apart from the name of a letter or shape."""
SUBPIXELS = 4
"""A pixel's share of a thing is counted on this many points along each side."""
WIDTHS, OPENINGS, POLARITIES = (0.15, 0.4), (45.0, 90.0, 135.0), (1.0, -1.0)
"""Of bars, in halves of `extent`; of corners, degrees; of all small stimuli."""
REACHES = {"blank": 0.0, "gratings": 0.0, "contrast": 0.0, "bars": 0.5, "corners": 0.5}
"""Share of the extent within which neurons are asked about a family: of bars not at the ends; elsewhere all of it."""
MOST = 1_000_000
"""Gratings, each of which has a row of factors."""
HUES, BRIGHTNESSES, CORNERS = 12, (0.0, 0.125, 0.25, 0.375, 0.625, 0.75, 0.875, 1.0), 12


def build(
    *,
    size: Annotated[int, Range(8, 1024)] | None,
    channels: Annotated[int, Range(1, 4096)] | None,
    families: list[Literal["gratings", "contrast", "bars", "corners", "colours", "brightness", "letters", "shapes"]]
    | Literal["all"],
    orientations: Annotated[int, Range(2, 360)],
    frequencies: Annotated[int, Range(1, 100)],
    lowest: Annotated[float, Range(above=0, maximum=0.5)],
    highest: Annotated[float, Range(above=0, maximum=0.5)],
    phases: Annotated[int, Range(3, 360)],
    contrasts: list[Annotated[float, Range(above=0, below=1)]],
    extent: Annotated[float, Range(above=0, maximum=1)],
) -> "Manufactured":
    """Return the dataset.

    Args:
        size: height and width, px; None: 64.
        channels: of the images, the same in all but for colours, which only 3 channels have; None: 3.
        families: those listed above, blank is always there; or "all".
        orientations: how many, in equal steps over 180 degrees from 0.
        frequencies: how many, in equal steps of the logarithm from `lowest` to `highest`, cycles per px.
        phases: how many, in equal steps over 360 degrees from 0.
        contrasts: of the contrast series, beside 1.
        extent: of what is no grating, as a share of the image's side.

    Raises:
        UserError: `lowest` is above `highest`, a value is there twice, there would be too many gratings, or colours are
            requested in a number of channels other than 3.
    """
    if lowest > highest:
        raise UserError(f"dataset.lowest must be at most dataset.highest ({highest}), got {lowest}")
    if lowest == highest and frequencies > 1:
        need = f"{frequencies} dataset.frequencies need dataset.lowest below dataset.highest"
        raise UserError(f"{need}, both are {lowest}")
    must_differ("contrasts", contrasts)
    must_differ("families", [] if families == "all" else families)
    chosen = ["blank", *(FAMILIES[1:] if families == "all" else families)]
    channels = channels or 3
    if channels != 3:
        if families != "all" and "colours" in families:
            raise UserError(f"colours need 3 channels, the images have {channels}")
        chosen = [name for name in chosen if name != "colours"]
    made = {"gratings": orientations * frequencies, "contrast": -(-orientations // 4) * -(-frequencies // 3)}
    count = phases * sum(made.get(name, 0) * (len(contrasts) if name == "contrast" else 1) for name in chosen)
    must_be_few(count, "dataset.orientations, frequencies, phases and contrasts", MOST)
    options = {"size": size or 64, "channels": channels, "families": chosen, "orientations": orientations}
    options |= {"frequencies": frequencies, "lowest": lowest, "highest": highest, "phases": phases}
    return Manufactured(options | {"contrasts": list(contrasts), "extent": extent})


class Manufactured(Drawn):
    """The stimuli in the order of the families; of gratings the phase changes quickest, then frequency, orientation.

    Args:
        options: see `build`, all given.

    Attributes:
        factors: by name of `FACTORS` (image,) float64, NaN where a stimulus has no such factor; "family" and "word"
            (name of the letter or shape, "" elsewhere), (image,) str; "reach", (image,) share of the image's side
            within which neurons are asked about the factor: 0 where the whole image is filled.
        units: of the factors that are numbers, by name.
    """

    units = FACTORS

    def __init__(self, options: dict[str, Any]):
        self.extent = options["extent"]
        rows = [row for name in FAMILIES if name in options["families"] for row in SERIES[name](options)]
        self.factors: dict[str, np.ndarray] = {
            name: np.array([row.get(name, np.nan) for row in rows], float) for name in FACTORS
        }
        for name in ("family", "word"):
            self.factors[name] = np.array([row.get(name, "") for row in rows], dtype=object)
        shares = [REACHES.get(name, 1.0) for name in self.factors["family"]]
        self.factors["reach"] = self.extent * np.array(shares)
        super().__init__(
            version=DRAWING_VERSION,
            options=options,
            side=options["size"],
            channels=options["channels"],
            name="manufactured",
            names=[_name(row) for row in rows],
            labels=[FAMILIES.index(row["family"]) for row in rows],
            classes=FAMILIES,
        )

    def draw(self, index: int) -> np.ndarray:
        """Return one image, (channel, y, x) float32 0 to 1."""
        one = {name: values[index] for name, values in self.factors.items()}
        if one["family"] == "blank":
            image = np.full(self.size[1:], 0.5)
        elif not one["reach"]:
            cycles = one["frequency"] * self.side
            image = 0.5 + 0.5 * one["contrast"] * wave(self.side, one["orientation"], cycles, one["phase"])
        elif one["family"] == "colours":
            hue = np.radians(one["hue"] - np.array([0.0, 120.0, 240.0]))
            image = 0.5 + 0.25 * np.cos(hue)[:, None, None] * self._cover(one)
        else:
            change = one["brightness"] - 0.5 if one["family"] == "brightness" else 0.5 * one["polarity"]
            image = 0.5 + change * self._cover(one)
        return np.broadcast_to(image.astype(np.float32), self.size).copy()

    def _cover(self, one: dict[str, Any]) -> np.ndarray:
        """Return how much of each pixel a small stimulus covers, (y, x) 0 to 1."""
        side = self.side * SUBPIXELS
        points = ((np.arange(side) + 0.5) / side - 0.5) * 2 / self.extent  # -1 to 1 over the extent
        inside = THINGS[one["family"]](one, points[None, :], points[:, None], self.extent * self.side)
        return np.broadcast_to(inside, (side, side)).reshape(self.side, SUBPIXELS, self.side, SUBPIXELS).mean((1, 3))

    def truth(self, index: int) -> dict[str, np.ndarray]:
        """Return the factors of a stimulus that it has, by name."""
        found = {name: values[index] for name, values in self.factors.items()}
        return {name: np.array(value) for name, value in found.items() if value == value and value != ""}


def _name(row: dict[str, Any]) -> str:
    parts = [f"{name}-{value:.6g}" if not isinstance(value, str) else value for name, value in row.items()]
    return "/".join(parts)


def _gratings(
    options: dict[str, Any], contrasts: tuple[float, ...] = (1.0,), steps: tuple[int, int] = (1, 1)
) -> Iterator[dict[str, Any]]:
    angles = [180 * step / options["orientations"] for step in range(options["orientations"])][:: steps[0]]
    waves = np.geomspace(options["lowest"], options["highest"], options["frequencies"])[:: steps[1]].tolist()
    turns = [360 * step / options["phases"] for step in range(options["phases"])]
    family = "gratings" if contrasts == (1.0,) else "contrast"
    for angle, frequency, contrast, phase in product(angles, waves, contrasts, turns):
        found = {"orientation": angle, "frequency": frequency, "contrast": contrast, "phase": phase}
        yield {"family": family, **found}


def _bars(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    angles = [180 * step / options["orientations"] for step in range(options["orientations"])]
    for angle, width, polarity in product(angles, WIDTHS, POLARITIES):
        wide = width * options["extent"] * options["size"] / 2
        yield {"family": "bars", "orientation": angle, "width": wide, "polarity": polarity}


def _corners(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for step, opening, polarity in product(range(CORNERS), OPENINGS, POLARITIES):
        yield {"family": "corners", "direction": 360 * step / CORNERS, "opening": opening, "polarity": polarity}


def _words(family: str, words: tuple[str, ...]) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    return lambda options: [{"family": family, "word": w, "polarity": p} for w, p in product(words, POLARITIES)]


SERIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "blank": lambda options: [{"family": "blank"}],
    "gratings": _gratings,
    "contrast": lambda options: _gratings(options, tuple(options["contrasts"]), (4, 3)),
    "bars": _bars,
    "corners": _corners,
    "colours": lambda options: [{"family": "colours", "hue": 360 * step / HUES} for step in range(HUES)],
    "brightness": lambda options: [{"family": "brightness", "brightness": level} for level in BRIGHTNESSES],
    "letters": _words("letters", letters.LETTERS),
    "shapes": _words("shapes", shapes.CLASSES),
}
"""The stimuli of each family, as rows of factors."""


def _bar(one: dict[str, Any], x: np.ndarray, y: np.ndarray, extent: float) -> np.ndarray:
    turn = np.radians(one["orientation"])
    across, along = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    return (np.abs(across) * extent < one["width"]) & (np.abs(along) < 1)


def _corner(one: dict[str, Any], x: np.ndarray, y: np.ndarray, extent: float) -> np.ndarray:
    away = (np.degrees(np.arctan2(y, x)) - one["direction"] + 180) % 360 - 180
    return (np.abs(away) < one["opening"] / 2) & (np.hypot(x, y) < 1)


THINGS: dict[str, Callable[..., np.ndarray]] = {
    "bars": _bar,
    "corners": _corner,
    "colours": lambda one, x, y, extent: np.hypot(x, y) < 1,
    "brightness": lambda one, x, y, extent: np.hypot(x, y) < 1,
    "letters": lambda one, x, y, extent: letters.inside(one["word"], x, y),
    "shapes": lambda one, x, y, extent: shapes.SHAPES[one["word"]](x, y),
}
"""Which points a small stimulus covers: its factors, x and y in halves of the extent, and the extent in px."""
