"""The tuning of units: every number of their curves, from their responses to manufactured stimuli."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cnnprobe.instruments.images.stimuli_table import StimulusColumn
from cnnprobe.methods.tuning.contrast_response import ContrastFit, fit_contrast
from cnnprobe.methods.tuning.curves import (
    Strength,
    circular_variance,
    grid,
    half_width,
    harmonic,
    modulation_ratio,
    octaves,
    orientation_index,
    rates,
    sparseness,
    strength,
    within,
)
from cnnprobe.store.tables import Column

FAMILIES = ("gratings", "bars", "corners", "colours", "brightness", "letters", "shapes")
"""In the order of `family_peak`."""
FLAT = 1e-5
"""A curve that changes by less than this share of its largest value is flat."""
STILL = (
    "NaN: still images have no direction of motion. A grating that drifts one way or the other is the same set of "
    "phases, each answered by itself, so that any index would be 0 by construction; it takes a network with time"
)
UnitColumn = Literal[
    "unit", "dead", "rest", "peak", "preferred", "bandwidth", "circular_variance", "orientation_index",
    "direction_index", "f1_f0", "preferred_phase", "preferred_frequency", "frequency_low", "frequency_high",
    "frequency_bandwidth", "contrast_exponent", "contrast_half", "contrast_largest", "contrast_explained",
    "family_peak", "preferred_bar", "bars_variance", "preferred_direction", "corners_variance", "preferred_hue",
    "colours_variance", "preferred_letter", "letters_sparseness", "preferred_shape", "shapes_sparseness", "curve",
]  # fmt: skip
"""Columns of the tables "units/<layer>"."""
FactorColumn = Literal[
    StimulusColumn, "family", "word", "reach", "orientation", "frequency", "phase", "contrast", "polarity", "width",
    "opening", "direction", "hue", "brightness",
]  # fmt: skip
"""Columns of the table "stimuli", the factors of `datasets.manufactured` among them."""


@dataclass(frozen=True)
class Circle:
    """A family whose factor lies on a circle.

    Args:
        factor: what is varied.
        period: of it, degrees.
        preferred, variance: columns of the preferred angle and of the circular variance.
    """

    factor: FactorColumn
    period: float
    preferred: UnitColumn
    variance: UnitColumn


CIRCLES = {
    "bars": Circle("orientation", 180, "preferred_bar", "bars_variance"),
    "corners": Circle("direction", 360, "preferred_direction", "corners_variance"),
    "colours": Circle("hue", 360, "preferred_hue", "colours_variance"),
}
WORDS: dict[str, tuple[UnitColumn, UnitColumn]] = {
    "letters": ("preferred_letter", "letters_sparseness"),
    "shapes": ("preferred_shape", "shapes_sparseness"),
}
"""Families of words, with the columns of the preferred one and of the sparseness."""


@dataclass(frozen=True)
class GratingCurves:
    """The curves of some units over gratings at full contrast.

    Args:
        orientation: (unit, orientation) at the preferred frequency; `orientations` in degrees.
        frequency: (unit, frequency) at the preferred orientation; `frequencies` in cycles per px.
        phase: (unit, phase) at both, `phases` in degrees.
    """

    orientations: np.ndarray
    orientation: np.ndarray
    frequencies: np.ndarray
    frequency: np.ndarray
    phases: np.ndarray
    phase: np.ndarray


@dataclass
class Curves:
    """The curves of some units; None where the stimuli for them were not shown.

    Args:
        rest: (unit,) the response to the blank image.
        gratings: over orientation, frequency and phase.
        contrast: the contrasts; (unit, contrast) at the best orientation and frequency of those shown at all contrasts.
        others: by family (unit, value), the largest response over everything else that was varied; `values` by family.
    """

    rest: np.ndarray
    gratings: GratingCurves | None = None
    contrast: tuple[np.ndarray, np.ndarray] | None = None
    others: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)


class Design:
    """Which stimulus is which.

    Args:
        factors: of the stimuli, by name (stimulus,), see `datasets.manufactured.Manufactured`.
        kind: how the answers to the phases of a grating become one number.
        subtract: the answer to the blank image is taken off first.
    """

    def __init__(self, factors: dict[FactorColumn, np.ndarray], kind: Strength, subtract: bool):
        self.factors, self.kind, self.subtract = factors, kind, subtract
        self.family = factors["family"].astype(str)
        self.gratings = self._grid("gratings", ("orientation", "frequency", "phase"))
        self.contrast = self._grid("contrast", ("orientation", "frequency", "contrast", "phase"))

    def _grid(self, family: str, names: tuple[FactorColumn, ...]) -> tuple[list[np.ndarray], np.ndarray] | None:
        where = self.family == family
        return grid(self.factors, names, where) if where.any() else None

    def rates(self, responses: np.ndarray) -> np.ndarray:
        """Return rates (unit, stimulus) from responses."""
        blank = responses[:, self.family == "blank"][:, 0]
        return rates(responses, blank if self.subtract else None)

    def curves(self, responses: np.ndarray) -> Curves:
        """Return the curves of some units from their responses (unit, stimulus)."""
        found = self.rates(np.asarray(responses, float))
        blank = found[:, self.family == "blank"][:, 0]
        shown = Curves(np.zeros_like(blank) if self.kind == "f1" else blank)
        rows = np.arange(len(found))
        if self.gratings:
            (orientations, frequencies, turns), index = self.gratings
            phases = found[:, index]  # (unit, orientation, frequency, phase)
            sizes = strength(phases, self.kind)
            best, wave = np.unravel_index(sizes.reshape(len(found), -1).argmax(1), sizes.shape[1:])
            shown.gratings = GratingCurves(
                orientations, sizes[rows, :, wave], frequencies, sizes[rows, best], turns, phases[rows, best, wave]
            )
        if self.contrast:
            shown.contrast = self._contrast(found, *self.contrast)
        for name in FAMILIES[1:]:
            if (self.family == name).any():
                shown.values[name], shown.others[name] = self._other(name, found)
        return shown

    def _contrast(
        self, found: np.ndarray, factors: list[np.ndarray], index: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        angles, waves, contrasts, _ = factors
        sizes = strength(found[:, index], self.kind)  # (unit, orientation, frequency, contrast)
        if self.gratings:
            (every, frequencies, _), full = self.gratings
            full = full[np.ix_(np.searchsorted(every, angles), np.searchsorted(frequencies, waves))]
            sizes = np.concatenate([sizes, strength(found[:, full], self.kind)[..., None]], -1)
            contrasts = np.append(contrasts, 1.0)
        flat = sizes.reshape(len(found), -1, len(contrasts))
        return contrasts, flat[np.arange(len(found)), flat[..., -1].argmax(1)]

    def _other(self, family: str, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of a family's factor in their order, and the largest response at each."""
        where = np.flatnonzero(self.family == family)
        name: FactorColumn = "word" if family in WORDS else "brightness"
        own = self.factors[CIRCLES[family].factor if family in CIRCLES else name][where]
        values = np.array(list(dict.fromkeys(own)))
        return values, np.stack([found[:, where[own == value]].max(1) for value in values], 1)


def columns() -> dict[UnitColumn, Column]:
    """Describe what `numbers` gives, by column."""
    preferred = {"bars": "orientation of a bar", "corners": "direction into which a corner opens", "colours": "hue"}
    found: dict[UnitColumn, Column] = {
        "dead": Column("true where no stimulus drives the unit", dtype="bool"),
        "rest": Column("response to the blank image", unit="activation"),
        "peak": Column(
            "largest rate to an orientation at contrast 1, over phases as `strength` says", unit="activation"
        ),
        "preferred": Column("preferred orientation, across the bars", unit="degrees"),
        "bandwidth": Column("half width of the orientation curve at half of its interpolated peak", unit="degrees"),
        "circular_variance": Column("1 - |sum R exp(2 i theta)| / sum R over orientations, R: rates"),
        "orientation_index": Column("(preferred - orthogonal) / (preferred + orthogonal), of rates"),
        "direction_index": Column(STILL),
        "f1_f0": Column("F1/F0 of the rates to the phases of the preferred grating; above 1: simple"),
        "preferred_phase": Column("phase in the middle of the image with the largest response", unit="degrees"),
        "preferred_frequency": Column("preferred spatial frequency", unit="cycles per px"),
        "frequency_low": Column("frequency below it at half of the interpolated peak", unit="cycles per px"),
        "frequency_high": Column("frequency above it at half of the interpolated peak", unit="cycles per px"),
        "frequency_bandwidth": Column("log2(high / low)", unit="octaves"),
        "contrast_exponent": Column("n of R_0 + R_max c^n / (c^n + c50^n)"),
        "contrast_half": Column("c50; NaN where it is beyond the largest contrast shown"),
        "contrast_largest": Column("R_max; NaN where c50 is", unit="activation"),
        "contrast_explained": Column("share of the variance over contrasts that this explains"),
        "family_peak": Column("largest rate to an image of each family", "family", (len(FAMILIES),), unit="activation"),
    }
    for name, words in preferred.items():
        found[CIRCLES[name].preferred] = Column(f"preferred {words}", unit="degrees")
        found[CIRCLES[name].variance] = Column(f"circular variance over the {words}")
    for best, sparse in WORDS.values():
        found[best] = Column("number of the one with the largest response, -1: none", dtype="int64", unit="index")
        found[sparse] = Column("0: equal responses to all, 1: only to one (Vinje, Gallant 2000)")
    return found


@np.errstate(invalid="ignore", over="ignore")  # responses that are no numbers give numbers that are none
def numbers(design: Design, responses: np.ndarray, phases: bool) -> dict[UnitColumn, np.ndarray]:
    """Return the columns of `columns` for some units.

    Args:
        design: which stimulus is which.
        responses: (unit, stimulus).
        phases: whether phases mean something; f1_f0 is NaN otherwise.
    """
    curves = design.curves(responses)
    found: dict[UnitColumn, np.ndarray] = {}
    missing = np.full(len(responses), np.nan)
    all_rates = design.rates(np.asarray(responses, float))
    found["dead"] = np.all(all_rates <= 0, 1)
    found["rest"] = responses[:, design.family == "blank"][:, 0]
    families = [design.family == name for name in FAMILIES]
    found["family_peak"] = np.stack([all_rates[:, one].max(1) if one.any() else missing for one in families], 1)
    _gratings(curves.gratings, found, missing, phases)
    fit = ContrastFit(missing, missing, missing, missing)
    if curves.contrast is not None:
        contrasts, answers = curves.contrast
        fit = fit_contrast(answers, contrasts, curves.rest)
    found |= {"contrast_exponent": fit.exponent, "contrast_half": fit.half}
    found |= {"contrast_largest": fit.largest, "contrast_explained": fit.explained}
    for name, circle in CIRCLES.items():
        curve = curves.others.get(name)
        angle, spread = (missing, missing) if curve is None else _circle(curve, curves.values[name], circle.period)
        found[circle.preferred], found[circle.variance] = angle, spread
    for name, (preferred, sparse) in WORDS.items():
        curve = curves.others.get(name)
        best = np.full(len(responses), -1) if curve is None else np.where(_changes(curve), curve.argmax(1), -1)
        found[preferred] = best
        found[sparse] = missing if curve is None else sparseness(curve)
    described = columns()
    return {name: np.asarray(values).astype(described[name].dtype) for name, values in found.items()}


def _changes(curve: np.ndarray) -> np.ndarray:
    """Tell which curves (unit, …) have a peak at all."""
    return np.ptp(curve, 1) > FLAT * np.abs(curve).max(1)


def _circle(curve: np.ndarray, angles: np.ndarray, period: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the preferred angle, NaN for a flat curve, and the circular variance."""
    return np.where(_changes(curve), half_width(curve, angles)[0], np.nan), circular_variance(curve, angles, period)


def _gratings(
    curves: GratingCurves | None, found: dict[UnitColumn, np.ndarray], missing: np.ndarray, phases: bool
) -> None:
    """Add what gratings tell."""
    names: tuple[UnitColumn, ...] = (
        "peak", "preferred", "bandwidth", "circular_variance", "orientation_index", "direction_index", "f1_f0",
        "preferred_phase", "preferred_frequency", "frequency_low", "frequency_high", "frequency_bandwidth",
    )  # fmt: skip
    found |= dict.fromkeys(names, missing)
    if curves is None:
        return
    found["peak"] = curves.orientation.max(1)
    preferred, found["bandwidth"] = half_width(curves.orientation, curves.orientations)
    found["preferred"] = np.where(_changes(curves.orientation), preferred, np.nan)
    found["circular_variance"] = circular_variance(curves.orientation, curves.orientations)
    found["orientation_index"] = orientation_index(curves.orientation, curves.orientations)
    best, low, high = octaves(curves.frequency, curves.frequencies)
    found["preferred_frequency"] = np.where(_changes(curves.frequency), best, np.nan)
    found["frequency_low"], found["frequency_high"], found["frequency_bandwidth"] = low, high, np.log2(high / low)
    if phases:
        found["f1_f0"] = modulation_ratio(curves.phase)
        turn = within(np.degrees(-np.angle(harmonic(curves.phase))), 360)
        found["preferred_phase"] = np.where(_changes(curves.phase), turn, np.nan)
