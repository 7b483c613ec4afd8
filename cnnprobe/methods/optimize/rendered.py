"""What each dimension of a capsule means: the decoder draws it moved a little either way, without any ascent.

Sabour, Frosst, Hinton 2017 (section 5.1): v is the capsule of an image's class, and the decoder draws v + δ d, for δ
from -0.25 to 0.25 in steps of 0.05, d a dimension or a principal component of the capsules of its class. The picture is
then shown to the network again. With b(δ) = v'(δ)·d of the capsule v' that it gives:

    slope = sum over δ of (δ - mean δ) (b(δ) - mean b) / sum of (δ - mean δ)²

1 where the capsule comes back as far as it was moved, 0 where the picture does not carry it.
"""

import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.config import catalogue
from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.passes import passing
from cnnprobe.instruments.images.stimuli_table import skipped_rows, stimuli_table
from cnnprobe.instruments.images.thumbnails import thumbnails
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.about import about
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.units import units_of
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.instruments.ranking.strongest import BEST, Search
from cnnprobe.methods.contract import Provided
from cnnprobe.methods.optimize.directions import Spread, dimensions
from cnnprobe.store.reader import Recording
from cnnprobe.store.tables import Advance, Column, Measurement, Phase, Rows, Table

OFFSETS = np.round(np.linspace(-0.25, 0.25, 11), 10)
NAME = "drawn"
Along = Literal["dimensions", "components"]
Draw = Callable[[Tensor, Tensor], Tensor]
"""From capsules (image, class, dimension) and which of them are drawn (image, class) to images."""
RenderedColumn = Literal[
    "unit", "class", "dimension", "direction", "spread", "natural_image", "picture", "image", "value", "length", "back",
    "slope", "change",
]  # fmt: skip
"""Columns of the tables "units/<layer>" of objective=rendered."""


def decoder_of(model: nn.Module) -> Draw:
    """Return the method with which a network draws its capsules; a `__getattr__` is not asked.

    Raises:
        UserError: it has none.
    """
    drawn = inspect.isfunction(inspect.getattr_static(model, NAME, None))
    if not drawn or not about(model).capsules or getattr(model, "decoder", None) is None:
        name = type(model).__name__
        raise UserError(f"objective=rendered needs a network with a decoder (model=capsnet with model.decoder), {name} "
                        "has none")  # fmt: skip
    return getattr(model, NAME)


def makes_no_ascent(given: dict[str, Any]) -> None:
    """Refuse options of an ascent that are others than by default: here they would do nothing.

    Args:
        given: by name.
    """
    usual = catalogue.page(catalogue.yaml_path("method", "optimize")).entries
    idle = [key for key, value in given.items() if value != usual[key].default]
    if idle:
        raise UserError(f"objective=rendered makes no ascent: leave out {listing(idle)}")


def render(
    provided: Provided,
    layer: str | list[str] | None,
    units: str | int | list[int],
    k: int,
    source: Recording | None,
    along: Along,
) -> Measurement:
    """Draw each dimension of class capsules moved, from the images whose capsule of the class is longest.

    Args:
        provided: by the run.
        layer: that of the class capsules, or None.
        units: of it, class × dimension (or component).
        k: images of each class from which it starts.
        source: a run of topk or record of layer=logits that has ranked the images.
        along: which directions are moved.

    Returns:
        table "units/<layer>", and "stimuli".

    Raises:
        UserError: the network has no decoder, the layer is another one, or several moments of learning are asked for.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    draw = decoder_of(model)
    if len(provided.moments) > 1:
        raise UserError("objective=rendered shows one moment of learning, got several: say weights=RUN@last")
    one = find(model, about(model).capsules, dataset.size)[0]
    if layer is not None and [found.name for found in find(model, layer, dataset.size)] != [one.name]:
        raise UserError(f"objective=rendered draws the class capsules: say layer={one.name}, got {layer}")
    (logits,) = find(model, "logits", dataset.size)
    size, chosen = one.channels // logits.channels, units_of(one, units)
    classes, k = np.unique(chosen // size), min(k, len(dataset))
    search = Search(model, [logits], {logits.name: classes}, k, len(dataset), source)
    names = provided.classes or (tuple(dataset.classes) if len(dataset.classes) == logits.channels else ())
    table = _table(one, chosen, size, k, dataset.size, names, along)
    capsules = _Capsules(model, one, draw, logits.channels)

    def events() -> Iterator[Rows[Any] | Advance | Phase]:
        def every(start: int) -> Iterator[Batch]:
            return batches(dataset, **computation.loading, start=start)

        found, skipped = yield from search.run(every, resumed.unfinished)
        yield from skipped_rows(skipped, computation.batch_size)
        best = found[logits.name].ranks[BEST].images
        spread = Spread(logits.channels, size)
        if along == "components":
            yield Phase("spread of capsules", len(dataset), "images")
            yield from passing(
                "spread", len(dataset), every, lambda batch: capsules.of(batch.images).cpu().numpy(),
                lambda batch, seen: spread.add(seen), take=spread.take, restore=spread.restore,
                unfinished=resumed.unfinished,
            )  # fmt: skip
        yield Phase("rendering", len(chosen), "dimensions")
        done = resumed.finished.get(table.name, frozenset())
        for place, label in enumerate(classes):
            rows = np.flatnonzero(chosen // size == label)
            todo = [int(row) for row in rows if row not in done]
            yield Advance(len(rows) - len(todo))
            own = best[place]
            there = own[own >= 0]
            if todo and len(there):
                (shown,) = batches(dataset, **computation.loading | {"batch_size": k}, indices=there)
                capsules.start(shown)
            axes, widths = spread.components(int(label)) if along == "components" else dimensions(size)
            for row in todo:
                axis = axes[chosen[row] % size]
                columns = empty_row(k, dataset.size)
                if len(there) and np.isfinite(axis).all():
                    columns |= capsules.rendered(int(label), axis, k)
                columns |= {"direction": axis[None], "spread": widths[[chosen[row] % size]]}
                yield Rows[RenderedColumn](table.name, row, {"natural_image": own[None], **columns})
                yield Advance()

    stimuli = stimuli_table(dataset, computation.batch_size)
    return Measurement([table, stimuli], events(), len(dataset), "images", resumed.facts)


class _Capsules:
    """The class capsules of a network and its decoder.

    Args:
        model: any network of capsules.
        layer: of the class capsules.
        draw: its decoder.
        classes: how many.
    """

    def __init__(self, model: nn.Module, layer: Layer, draw: Draw, classes: int):
        self.model, self.layer, self.draw, self.classes = model, layer, draw, classes

    def of(self, images: Tensor) -> Tensor:
        """Return capsules (image, class, dimension)."""
        found: list[Tensor] = []
        with (
            torch.inference_mode(),
            tap(self.model, [self.layer], lambda layer, activation: found.append(activation.clone())) as run,
        ):
            run(images)
        return found[0].unflatten(1, (self.classes, -1))

    def start(self, shown: Batch) -> None:
        """Take the images from which it starts."""
        self.pictures = shown.images
        self.before = self.of(shown.images)

    def rendered(self, label: int, axis: np.ndarray, k: int) -> dict[RenderedColumn, np.ndarray]:
        """Move a capsule along a direction and show the pictures again: one row.

        Args:
            label: class of the capsule.
            axis: (dimension,) of length 1.
            k: how many images there are room for.
        """
        count, steps = len(self.before), len(OFFSETS)
        with torch.inference_mode():
            moved = self.before[:, None].repeat(1, steps, 1, 1)
            moved[:, :, label] += torch.from_numpy(np.outer(OFFSETS, axis)).to(moved)
            present = torch.zeros(count * steps, self.classes, device=moved.device, dtype=moved.dtype)
            present[:, label] = 1
            with untouched(self.model):
                made = self.draw(moved.flatten(0, 1), present).float()
            back = (self.of(made)[:, label].double().cpu().numpy() @ axis).reshape(count, steps)
            made = made.unflatten(0, (count, steps))
            change = (made[:, -1] - made[:, 0]).double().square().flatten(1).mean(1).sqrt()
        own = self.before[:, label].double().cpu().numpy()
        numbers: dict[RenderedColumn, np.ndarray] = {
            "value": own @ axis,
            "length": np.linalg.norm(own, axis=1),
            "back": back,
            "slope": np.array([slope(OFFSETS, one) for one in back]),
            "change": change.cpu().numpy(),
        }
        found = {name: np.pad(values, [(0, k - count), *[(0, 0)] * (values.ndim - 1)], constant_values=np.nan)[None]
                 for name, values in numbers.items()}  # fmt: skip
        picture = thumbnails(self.pictures[:1], tuple(self.pictures.shape[2:]))
        return found | {"image": made[:1].cpu().numpy(), "picture": picture}


def empty_row(k: int, size: tuple[int, ...]) -> dict[RenderedColumn, np.ndarray]:
    """Return a row of a class without any image."""
    found: dict[RenderedColumn, np.ndarray] = {name: np.full((1, k), np.nan) for name in SINGLE}
    found["back"] = np.full((1, k, len(OFFSETS)), np.nan)
    found["image"] = np.full((1, len(OFFSETS), *size), np.nan, np.float32)
    found["picture"] = np.full((1, *size), 255, np.uint8)
    return found


SINGLE: tuple[RenderedColumn, ...] = ("value", "length", "slope", "change")


def slope(moved: np.ndarray, back: np.ndarray) -> float:
    """Return the least squares slope of what came back (step,) over what was asked for (step,)."""
    away = moved - moved.mean()
    return float(away @ (back - back.mean()) / (away @ away))


def _table(
    layer: Layer, units: np.ndarray, size: int, k: int, image: tuple[int, ...], names: tuple[str, ...], along: Along
) -> Table[RenderedColumn]:
    steps = len(OFFSETS)
    columns: dict[RenderedColumn, Column] = {
        "unit": Column("class × dimension (or component)", dtype="int64", unit="index", values=units),
        "class": Column("whose capsule it is", dtype="int64", unit="index", values=units // size),
        "dimension": Column("of the capsule; along=components: which of them, most spread first", dtype="int64",
                            unit="index", values=units % size),
        "direction": Column("of length 1, along which the capsule is moved", "dimension", (size,), "float64"),
        "spread": Column("standard deviation along it over the images whose longest capsule is of the class; NaN: not "
                         "asked for", dtype="float64", unit="length"),
        "natural_image": Column("row of /stimuli from which it starts, longest capsule of the class first; -1 = none",
                                "k", (k,), "int64", "index"),
        "picture": Column("the first of these images", "channel y x", image, "uint8", "0 to 255"),
        "image": Column("the decoder's, of the first image with its capsule moved", "step channel y x",
                        (steps, *image), unit="0 to 1"),
        "value": Column("of the capsule along the direction, in each image", "k", (k,), "float64", "length"),
        "length": Column("of the capsule in each image", "k", (k,), "float64", "length"),
        "back": Column("the same when the picture is shown again", "k step", (k, steps), "float64",
                       "length"),
        "slope": Column("of what came back over what was asked for", "k", (k,), "float64"),
        "change": Column("root mean square difference of the pictures of the first and the last step", "k", (k,),
                         "float64", "0 to 1"),
    }  # fmt: skip
    own = {"order": 0, "objective": "rendered", "along": along, "offsets": OFFSETS.tolist(), "image_size": list(image)}
    own |= {"classes": json.dumps(list(names), ensure_ascii=False)}
    return Table(f"units/{layer.group}", "unit", len(units), columns, 1, own | layer.attributes)
