"""Complete settings of an ascent, and those that were published, by name.

Published values are for pixels from 0 to 255, or for pixels normalised as ImageNet's; ours go from 0 to 1. A pixel
difference is divided by 255 (by 255 and once more where it multiplies a gradient, which is 255 times larger for us), or
multiplied by the deviation of ImageNet's pixels, 0.226. Means are those of the dataset in place of ImageNet's.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from cnnprobe.config.options import Range
from cnnprobe.errors import UserError, unknown
from cnnprobe.methods.optimize.ascent.regularisers import Regularisers
from cnnprobe.methods.optimize.ascent.transforms import Transforms

RAW = 1 / 255
DEVIATION = 0.226
"""Mean deviation of ImageNet's pixels, 0 to 1."""


@dataclass(frozen=True)
class Settings:
    """How images are made to climb.

    Args:
        parametrisation: see `parametrisations`.
        steps: of the ascent.
        optimiser: adam; nadam; constant (the gradient times `lr`); progress (times the smaller of `lr` and `desired`
            over the squared norm of the gradient, so that each step is expected to gain the same; Yosinski et al.
            2015); progress01 (the same, expecting the smaller of `desired` and `late` times what is missing to 1);
            normalised (the gradient divided by its root mean square, times `lr`).
        lr: step size; for progress the largest.
        desired, late: of progress and progress01, units of the objective.
        weight_decay: of adam, added to the gradient.
        transforms: before each pass.
        regularisers: penalties, and changes of pixels after a step.
        box: least and largest pixel of the image that is kept; None: any.
        boxed: whether also during the ascent (pixels only).
        normal: standard deviation of the noise that pixels start from.
        uniform: or its range.
        colours: of the dataset, or lucid's, which are ImageNet's.
        redirect: first steps in which a silent rectifier passes the signal back (lucid).
        diversity: times how alike the images of one unit are in the layer.
    """

    parametrisation: Literal["pixel", "fourier", "maco"] = "fourier"
    steps: int = 256
    optimiser: Literal["adam", "nadam", "constant", "progress", "progress01", "normalised"] = "adam"
    lr: float = 0.05
    desired: float = 0
    late: float = 0
    weight_decay: float = 0
    transforms: Transforms = field(default_factory=Transforms)
    regularisers: Regularisers = field(default_factory=Regularisers)
    box: tuple[float, float] | None = (0.0, 1.0)
    boxed: bool = True
    normal: float = 0.01
    uniform: tuple[float, float] | None = None
    colours: Literal["dataset", "lucid"] = "dataset"
    redirect: int = 16
    diversity: float = 0


def _range(most: int, step: float) -> tuple[float, ...]:
    return tuple(step * place for place in range(-most, most + 1))


LUCID_MOVES = Transforms(
    pad=12,
    jitter=8,
    scales=tuple(1 + change for change in _range(5, 0.02)),
    angles=(*_range(10, 1.0), *[0.0] * 5),
    jitter_after=4,
)
OLAH_MOVES = Transforms(pad=16, jitter=16, scales=(1, 0.975, 1.025, 0.95, 1.05), angles=_range(5, 1.0), jitter_after=8)
_YOSINSKI = Settings("pixel", optimiser="constant", normal=10 * RAW, redirect=0)
_GAINING = replace(_YOSINSKI, optimiser="progress", desired=2.0)

PRESETS = {
    # ours: lucid's ascent in the colours of the dataset
    "standard": Settings("fourier", steps=256, lr=0.05, transforms=LUCID_MOVES),
    # Yosinski et al. 2015, table 1; lr as in their command lines
    "yosinski-1": replace(
        _GAINING, steps=500, lr=100 * RAW**2, regularisers=Regularisers(blur=0.5, blur_every=4, small_norm=0.5)
    ),
    "yosinski-2": replace(_YOSINSKI, steps=750, lr=100 * RAW**2, regularisers=Regularisers(decay=0.3, small_norm=0.2)),
    "yosinski-3": replace(
        _YOSINSKI, steps=1000, lr=100 * RAW**2, regularisers=Regularisers(decay=0.0001, blur=1.0, blur_every=4)
    ),
    "yosinski-4": replace(
        _GAINING, steps=1000, lr=1e8 * RAW**2, regularisers=Regularisers(blur=0.5, blur_every=4, small_contribution=0.9)
    ),
    # layer visualisation of pytorch-cnn-visualizations (Ozbulak): uniform 150 to 180 of 255, Adam on normalised pixels
    "pytorch-cnn-visualizations": Settings(
        "pixel",
        steps=30,
        lr=0.1 * DEVIATION,
        weight_decay=1e-6 / DEVIATION**2,
        uniform=(150 * RAW, 180 * RAW),
        boxed=False,
        redirect=0,
    ),
    # footnote of the article
    "olah-2017": Settings("fourier", steps=2560, lr=0.05, transforms=OLAH_MOVES, colours="lucid"),
    # what lucid and lucent do when nothing is said
    "lucid": Settings("fourier", steps=512, lr=0.05, transforms=LUCID_MOVES, colours="lucid"),
    # Simonyan, Vedaldi, Zisserman 2014: from the mean image, L2; the paper gives neither weight nor step
    "simonyan": Settings(
        "pixel",
        steps=256,
        optimiser="normalised",
        lr=0.01,
        normal=0.0,
        boxed=False,
        redirect=0,
        regularisers=Regularisers(l2=1e-3),
    ),
    # Fel et al. 2023; crops are wider than theirs because our image is no larger than the network's input
    "maco": Settings(
        "maco", steps=256, optimiser="nadam", lr=1.0, transforms=Transforms(crop=(0.6, 1.0), noise=0.05), redirect=0
    ),
}


@dataclass(frozen=True)
class Changes:
    """What replaces values of a preset; None leaves what the preset says.

    Args:
        parametrisation, steps, lr, diversity: see `Settings`.
        transforms: False takes all transforms away; True puts lucid's in where there are none.
        l2, tv, decay, blur, blur_every, small_norm, small_contribution: see `regularisers.Regularisers`.
    """

    parametrisation: Literal["pixel", "fourier", "maco"] | None = None
    steps: Annotated[int, Range(1, 100000)] | None = None
    lr: Annotated[float, Range(above=0)] | None = None
    transforms: bool | None = None
    l2: Annotated[float, Range(0)] | None = None
    tv: Annotated[float, Range(0)] | None = None
    decay: Annotated[float, Range(0, 1)] | None = None
    blur: Annotated[float, Range(0)] | None = None
    blur_every: Annotated[int, Range(1)] | None = None
    small_norm: Annotated[float, Range(0, 1)] | None = None
    small_contribution: Annotated[float, Range(0, 1)] | None = None
    diversity: Annotated[float, Range(0)] | None = None

    def of(self, name: str) -> Settings:
        """Return a preset with what replaces its values."""
        values = {key: value for key, value in vars(self).items() if key != "transforms"}
        settings = preset_of(name, **values)
        if self.transforms is None or (self.transforms and not settings.transforms.none):
            return settings
        return replace(settings, transforms=LUCID_MOVES if self.transforms else Transforms())


def preset_of(name: str, **changes: Any) -> Settings:
    """Return settings by name.

    Args:
        name: of `PRESETS`.
        changes: fields of `Settings` or of `Regularisers`; None leaves what the preset says.

    Raises:
        UserError: there is no such preset, or pixels are to be changed after a step and there are none.
    """
    if name not in PRESETS:
        raise unknown("preset", name, list(PRESETS))
    settings = PRESETS[name]
    asked = {key: value for key, value in changes.items() if value is not None}
    inner = {key: value for key, value in asked.items() if key in Regularisers.__dataclass_fields__}
    outer = {key: value for key, value in asked.items() if key not in inner}
    made = replace(settings, regularisers=replace(settings.regularisers, **inner), **outer)
    if made.parametrisation != "pixel" and made.regularisers.after_steps:
        raise UserError(
            f"decay, blur, small_norm and small_contribution change pixels, and preset {name} has "
            f"parametrisation={made.parametrisation}; use parametrisation=pixel, or the penalties l2 and tv"
        )
    return made
