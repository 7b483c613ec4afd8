"""Kinds of outputs of a network: logits of classes, probabilities of its own softmax or sigmoid, or neither.

Found out by what they do on several images, far from the range of pixels too:

    softmax       between 0 and 1, sum 1; or a softmax of scores on the way that is clamped, scaled or shifted
    log-softmax   log-sum-exp 0
    sigmoid       each between 0 and 1, also where the image is a hundred times as strong: a probability of its own
    logits        of as many classes as are known by name
    unknown       of norm 1, between -1 and 1, one value for every image, or nothing that says they are of classes

One output is a binary classifier where it is a probability, or where two classes are known: class 1 has it as its
score, class 0 its negative.

Logits of classes that stand each for itself have sigmoids for probabilities: those of a network that says so
(`About.output` existence), and those for images that may have several classes. Which form an output has, see `forms`.
"""

import logging
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.about import Output, about
from cnnprobe.instruments.network.conduct import apart, handed
from cnnprobe.instruments.network.findings import kept
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.tracing import noise_image
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.instruments.outputs.forms import form_of
from cnnprobe.instruments.outputs.readout import ends_in_layer
from cnnprobe.instruments.outputs.scores import Scores, is_coarse, is_piled, scores_before
from cnnprobe.machine import chance
from cnnprobe.machine.memory import is_short

LOG = logging.getLogger("cnnprobe")
_UNFOUND = {
    "softmax": "the scores before it were not found: logit is the logarithm of the probability",
    "log-softmax": "the scores before it were not found: logit is the output itself",
    "sigmoid": "the scores before it were not found: logit is made from the probability",
}
Kind = Literal["logits", "softmax", "log-softmax", "sigmoid", "unknown"]
CLOSE = 1e-4
ROUGH = 0.01
"""How far the sum of probabilities may be from 1 where they are clamped, or of 16 bits."""
TINY = 1e-30
FAR = 100.0
"""How much stronger than an image what is shown to find out whether outputs are bounded."""


@dataclass(frozen=True)
class Outputs:
    """What a network returns.

    Args:
        kind: see the head of this file.
        count: how many outputs there are for an image; 0 where it returns no such row.
        single: whether one class is chosen for an image.
        remark: what has to be said of them, "" where they are logits of known classes.
        before: where the scores are read that its own softmax or sigmoid is made from; None where that was not found.
        altered: whether what is returned is no such probability itself, but a clamped, scaled or shifted one.
        each: whether classes stand each for itself, so that probabilities are sigmoids.
        form: of what is returned, see `forms.form_of`.
        shape: of what is returned for an image, () where it is no tensor.
    """

    kind: Kind
    count: int
    single: bool = True
    remark: str = ""
    before: Layer | None = None
    altered: bool = False
    each: bool = False
    form: Output | None = None
    shape: tuple[int, ...] = ()

    @property
    def binary(self) -> bool:
        """Whether the one output tells two classes apart."""
        return self.count == 1 and self.kind in ("logits", "sigmoid") and not self.each

    @property
    def by_sigmoid(self) -> bool:
        """Whether the probability of a class is the sigmoid of its score, whatever the others are."""
        return self.binary or self.each or self.kind == "sigmoid"

    @property
    def classes(self) -> int:
        """Number of classes; of outputs that stand for no classes, the number of outputs."""
        return 2 if self.binary else self.count

    def tell(self) -> "Outputs":
        """Warn of what is to be said."""
        if self.remark:
            LOG.warning(self.remark)
        return self

    def rows(self, returned: Any) -> Tensor | None:
        """Return what a network returned as (image, output), None where it is no such thing."""
        return rows_of(returned) if self.count else None

    def scores(self, returned: Any, before: Tensor | None = None) -> Tensor | None:
        """Return the scores of the classes (image, class), larger for the more probable; None where there are none.

        Args:
            returned: by the network.
            before: what was read at `before` in the same pass; None: made from what was returned.
        """
        values = self.rows(returned)
        if values is None:
            return None
        if before is not None:
            values = before.flatten(1)
        elif self.kind == "softmax":
            values = values.clamp(min=TINY).log()
        elif self.kind == "sigmoid":
            low, high = values.float().clamp(min=TINY), values.float().clamp(max=1 - torch.finfo(torch.float32).eps / 2)
            values = low.log() - (-high).log1p()
        return torch.cat([-values, values], 1) if self.binary else values

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return the probabilities (image, class) of scores; NaN where they are none of classes or unknown."""
        if self.kind == "unknown" or (self.altered and self.before is None):
            return torch.full_like(scores, math.nan)
        return scores.sigmoid() if self.by_sigmoid else scores.softmax(1)

    def log_probabilities(self, scores: Tensor) -> Tensor:
        """Return the logarithms of the probabilities (image, class), of large scores too."""
        return torch.nn.functional.logsigmoid(scores) if self.by_sigmoid else scores.log_softmax(1)

    def chosen(self, scores: Tensor) -> Tensor:
        """Return the class chosen for each image, (image,) int64; -1 where none is, or scores are no numbers."""
        if not self.single or self.kind == "unknown":
            return torch.full((len(scores),), -1, device=scores.device)
        return torch.where(scores.isfinite().all(1), scores.argmax(1), -1)  # argmax would take NaN for the largest


def rows_of(returned: Any) -> Tensor | None:
    """Return a network's output as (image, output), also of (image,) and (image, output, 1, 1); else None."""
    if not isinstance(returned, Tensor) or not returned.dim() or not returned.is_floating_point():
        return None
    if returned.dim() > 2 and math.prod(returned.shape[2:]) != 1:
        return None
    return returned.reshape(len(returned), -1)


def outputs_of(
    model: nn.Module, size: tuple[int, ...], names: tuple[str, ...], dataset: ImageSet | None = None
) -> Outputs:
    """Find out what the outputs of a network are.

    Args:
        model: any network; it is given back as it was.
        size: (channel, y, x) or (channel, time) of the images.
        names: the network's own class names, () where unknown.
        dataset: an image set, whose classes may be the network's; or None. Where its images may have several classes,
            none is chosen.
    """
    several = dataset is not None and dataset.target.kind == "present"
    classes = () if dataset is None else dataset.target.names if several else dataset.classes
    known = len(names) or len(classes)
    key = "outputs", tuple(size), known, bool(names), about(model).output
    found = kept(model, key, lambda: _found_out(model, size, known, bool(names)))
    return replace(found, single=False, each=found.each or found.kind in ("logits", "sigmoid")) if several else found


def _found_out(model: nn.Module, size: tuple[int, ...], known: int, named: bool) -> Outputs:
    noise = noise_image(model, size)
    near = [noise, 1 - noise.flip(-1) * 0.7, noise * 0.3, torch.zeros_like(noise)]
    far = [noise * FAR, (noise - 0.5) * FAR]
    returned: list[Any] = []
    with untouched(model), chance.forked(), torch.no_grad():
        try:
            returned = [apart(handed(model, image)) for image in (*near, *far)]
        except Exception as error:  # the network is tried where it may have no meaning
            if is_short(error):
                raise
    values = [one for one in map(rows_of, returned) if one is not None and len(one) == 1]
    if not values or len(values) < len(returned) or len({one.shape for one in values}) > 1:
        shown = returned[0] if returned else None
        shape = tuple(shown.shape[1:]) if isinstance(shown, Tensor) else ()
        words = f"{_shown(shown)}: no class is chosen, prediction is -1"
        return Outputs("unknown", 0, remark=words, form=form_of(model, shown), shape=shape)
    found = _of_rows(model, size, [*near, *far], values, len(near), known, named)
    return replace(found, form=form_of(model, values[0]), shape=tuple(values[0].shape[1:]))


def _of_rows(
    model: nn.Module, size: tuple[int, ...], images: list[Tensor], values: list[Tensor], near: int, known: int,
    named: bool,
) -> Outputs:  # fmt: skip
    """Return what rows of outputs are, (1, output) of each image, of which the first `near` are as images are."""
    table, coarse = torch.cat(values).float(), is_coarse(torch.cat(values))
    count = table.shape[1]
    if about(model).output == "existence":
        return Outputs("logits", count, remark="" if count == known else _unnamed(count, known), each=True)
    ends = _ends_in_layer(model, size)
    found = _judged(table, near, known, named, coarse, linear=ends[1])
    if found is None and (count == 1 or not bool((table <= ROUGH).all())):
        return _of_classes(ends[0], count, known, _one_sided(table))
    own = found or Outputs("log-softmax", count)
    if own.kind not in ("softmax", "log-softmax", "sigmoid"):
        return own
    place = scores_before(model, size, own.kind, images, table, near)
    if found is None and place is None:
        return _of_classes(ends[0], count, known, _one_sided(table))
    return _with_scores(own, place, table)


def class_scores(model: nn.Module, size: tuple[int, ...]) -> Layer:
    """Return the layer whose units are the classes: the output, or what its own softmax or sigmoid is made from.

    A probability near 0 or 1 has hardly a gradient, and one of a softmax speaks against the other classes as well.
    """
    (logits,) = find(model, "logits", size)
    found = outputs_of(model, size, ())
    if logits.channels == 1 and not logits.map_size:
        LOG.warning("the network has one output: it is unit 0; where it tells two classes apart, the score of class 1")
    if found.kind not in ("softmax", "log-softmax", "sigmoid"):
        return logits
    if found.before is None or found.before.channels != logits.channels:
        LOG.warning(
            f"the network ends in its own {found.kind}, of which the scores were not found: logits is what it returns"
        )
        return logits
    LOG.warning(f"the network ends in its own {found.kind}: a class is its score before that ({found.before.reads})")
    return replace(found.before, name="scores")


def _ends_in_layer(model: nn.Module, size: tuple[int, ...]) -> tuple[bool, bool]:
    try:
        return ends_in_layer(model, size)
    except UserError:  # it cannot be followed
        return False, False


def _judged(table: Tensor, near: int, known: int, named: bool, coarse: bool, linear: bool) -> Outputs | None:
    """Return what outputs (image, output) are by their values; None where these say nothing.

    Args:
        table: the outputs.
        near, known, named: see `_found_out`.
        coarse: they are of 16 bits.
        linear: nothing stands behind the last linear layer, so that a small range says nothing of them.
    """
    count, alike = table.shape[1], bool((table == table[:1]).all())
    table = table[table.isfinite().all(1)]
    if not len(table) or (alike and count > 1):
        return None
    own = f"the network ends in its own {{}}: its {count} outputs are"
    if count > 1 and bool((table >= 0).all()) and bool(((table.sum(1) - 1).abs() < ROUGH).all()):
        altered = not coarse and bool(((table.sum(1) - 1).abs() > CLOSE).any())
        return Outputs("softmax", count, remark=f"{own.format('softmax')} the probabilities", altered=altered)
    if count > 1 and bool((table.logsumexp(1).abs() < CLOSE).all()):
        return Outputs("log-softmax", count, remark=f"{own.format('log-softmax')} logarithms of the probabilities")
    if alike:
        return Outputs(
            "unknown", count, remark=f"the one output of the network is {float(table[0, 0]):g} for every image: "
            "no class is chosen, probability is NaN and prediction -1"
        )  # fmt: skip
    if bool((table >= 0).all()) and bool((table <= 1).all()) and not linear:
        if count == 1:
            words = (
                "the network has one output, from 0 to 1 as of a sigmoid: taken as the probability of class 1 of two"
            )
            return Outputs("sigmoid", 1, remark=words)
        words = f"the {count} outputs of the network lie between 0 and 1 as sigmoids do: probabilities of their own"
        if not named:
            words += "; several may hold or none, so prediction is -1"
        return Outputs("sigmoid", count, named, words)
    unknown = "they are no logits, probability is NaN and prediction -1"
    total = float(table.sum(1).mean())
    if count > 1 and bool((table >= 0).all()) and bool(((table.sum(1) - total).abs() < CLOSE * total).all()):
        shares = f"the {count} outputs of the network are never negative and their sum is always {total:.4g}"
        return Outputs("unknown", count, remark=f"{shares} (percentages?): {unknown}; divide them by {total:.4g}")
    for name, powers in (("negative logarithms", -table), ("logarithms to base 2", table * math.log(2)),
                         ("logarithms to base 10", table * math.log(10))):  # fmt: skip
        if count > 1 and bool((powers.logsumexp(1).abs() < CLOSE).all()):
            words = f"the {count} outputs of the network are {name} of probabilities"
            return Outputs("unknown", count, remark=f"{words}: {unknown}; return what log_softmax gives")
    far = table[near:]
    if bool((table.abs() <= 1).all()) and len(far) and bool((far.abs() > 0.99).float().mean() > 0.5):
        return Outputs("unknown", count, remark=f"the {count} outputs of the network lie between -1 and 1: {unknown}")
    if count > 2 and bool(((table.norm(dim=1) - 1).abs() < CLOSE).all()):
        return Outputs(
            "unknown", count, remark=f"the {count} outputs of the network have norm 1 (embedding): {unknown}"
        )
    if count == 1 and known != 2:
        words = f"the network has one output, and {known or 'no'} classes are known: it may be anything (regression)"
        return Outputs("unknown", 1, remark=f"{words}; probability is NaN and prediction -1")
    if count == 1:
        words = "the network has one output: taken as the logit of class 1 of two, its probability is the sigmoid"
        return Outputs("logits", 1, remark=words)
    return None


def _one_sided(table: Tensor) -> str:
    """Say of outputs (image, output) that they have one sign, which logits seldom have; "" where they have both."""
    table = table[table.isfinite().all(1)]
    if table.shape[1] < 3 or not len(table):
        return ""
    words = (
        "the {} outputs of the network are never {} for images of noise: taken as logits, the largest being the class"
    )
    if bool((table >= 0).all()):
        return (
            words.format(table.shape[1], "negative") + "; of distances, or of evidence to be normalised, that is wrong"
        )
    if bool((table <= 0).all()):
        return words.format(table.shape[1], "positive") + "; of logarithms of probabilities each its own that is wrong"
    return ""


def _of_classes(layered: bool, count: int, known: int, sided: str) -> Outputs:
    """Return what outputs are that could be logits, and do or do not come from a layer of their own."""
    if count == known:
        return Outputs("logits", count, remark=sided)
    if not layered:
        words = f"the {count} outputs of the network come from no linear layer of their own (features, an embedding?)"
        words += f" and {known or 'no'} classes are known: probability is NaN and prediction -1"
        return Outputs("unknown", count, remark=words)
    return Outputs("logits", count, remark=_unnamed(count, known))


def _unnamed(count: int, known: int) -> str:
    return (
        f"nothing says what the {count} outputs of the network are ({known or 'no'} classes are known): taken as "
        f"logits of {count} classes; of an embedding or a regression, prediction and probability mean nothing"
    )


def _with_scores(found: Outputs, place: Scores | None, table: Tensor) -> Outputs:
    """Return the outputs with the scores on the way that they are made from, where there are such."""
    count, sums = found.count, table.sum(1)
    if place is not None and place.altered:
        made = "sigmoid" if place.kind == "sigmoid" else "softmax"
        of = found.remark if made == "sigmoid" else f"the network ends in its own softmax of {count} classes"
        words = f"{of}; it is clamped, scaled or shifted behind it: probability is the {made} of the scores before"
        return Outputs(place.kind, count, found.single or made == "softmax", words, place.layer, True)
    if place is not None:
        return replace(found, before=place.layer, altered=False)
    unknown = "the scores before them were not found: probability is NaN"
    if found.altered:
        words = f"the sum of the {count} outputs of the network is {float(sums.min()):.4g} to {float(sums.max()):.4g}"
        return replace(found, remark=f"{words} (probabilities that are clamped or rounded?): {unknown}")
    if found.kind == "sigmoid" and is_piled(table):
        words = f"many of the outputs of the network are {float(table.min()):.4g} or {float(table.max()):.4g}"
        words += f" (clamped probabilities, of one class or of each?): {unknown} and prediction -1"
        return Outputs("unknown", count, remark=words)
    if found.kind == "sigmoid" and count > 1 and bool(((sums - sums.mean()).abs() < CLOSE * sums.mean()).all()):
        words = f"the sum of the {count} outputs of the network is always {float(sums.mean()):.4g} (altered "
        return Outputs("unknown", count, remark=f"{words}probabilities?): {unknown} and prediction -1")
    return replace(found, remark=f"{found.remark}; {_UNFOUND[found.kind]}") if count > 1 else found


def _shown(returned: Any) -> str:
    if isinstance(returned, Tensor):
        return f"the network returns {' x '.join(map(str, returned.shape[1:])) or 'one number'} per image"
    if isinstance(returned, (tuple, list, dict)):
        return f"the network returns a {type(returned).__name__} of {len(returned)}"
    return f"the network returns a {type(returned).__name__}"
