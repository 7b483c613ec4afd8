"""The training loop: epochs of updates, what is measured after each, and the weights kept on the way."""

import logging
import math
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.augmentation import as_float
from cnnprobe.instruments.network.conduct import conduct_of, handed
from cnnprobe.machine import precision as numbers
from cnnprobe.machine.computation import Computation
from cnnprobe.machine.memory import is_short
from cnnprobe.methods.train.epochs import EpochColumn, Progress, copied, moments_of, put_back
from cnnprobe.methods.train.modes import Modes
from cnnprobe.methods.train.recipe import Loss, Recipe, class_weights, has_batch_norm
from cnnprobe.methods.train.schedules import kept_epochs, kept_updates
from cnnprobe.methods.train.training_images import Supply, order_of, parted
from cnnprobe.store.tables import Advance, Checkpoint, Rows

LOG = logging.getLogger("cnnprobe")
LOOK = 50
"""Updates between two looks at the losses, on a GPU: each look waits until it has caught up."""
SHARE = 0.02
"""Of the time that saving what a resume needs may take."""
LOSS, RIGHT, COUNT = range(3)  # columns of the tally of an epoch, one row an update


@contextmanager
def _state_of_this_training() -> Iterator[None]:
    """Tell in one line that a state does not fit the training that would go on from it: anyone may have written it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        if is_short(error):
            raise
        what = f"weights/resume.safetensors is not what this training left ({type(error).__name__})"
        raise UserError(f"{what}; --rerun does it once more") from None


class Training:
    """A network being taught. `events` does it; stopped at any update, it goes on later to the same bits.

    That holds because nothing is drawn from a generator whose state could be lost: the order of images is a function
    of (seed, epoch), their augmentation of (seed, epoch, image), dropout of (seed, update), the learning rate of the
    update.
    A layer none of whose parameters is to be trained stays in eval mode and keeps its running statistics.

    Args:
        model: trained in place, on any device; in eval mode afterwards.
        dataset, held_out: image sets, checked by `recipe.check`.
        recipe: every choice.
        computation: device, loaders, batch size, and the seed of order, augmentation and dropout.
        groups: parameter groups with their share of the learning rate as "factor", and then whatever rests stays bit
            for bit, see `modes.Modes`; None: all that require a gradient.
        begin: called before the updates of an epoch, also of one that is gone on with, with its number from 0 and the
            optimiser's groups: says by `requires_grad` what learns in it, and by "factor" how fast.
        observe: called after each epoch, network in eval mode; its figures, by name, join the row of the epoch.
        state: `resume` of the checkpoint `last`; the weights are in it.
        should_stop: asked after every batch.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: ImageSet,
        held_out: ImageSet,
        recipe: Recipe,
        computation: Computation,
        *,
        groups: list[dict[str, Any]] | None = None,
        begin: Callable[[int, list[dict[str, Any]]], None] | None = None,
        observe: Callable[[], dict[EpochColumn, float]] | None = None,
        state: dict[str, Any] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ):
        self.model, self.dataset, self.recipe, self.computation = model, dataset, recipe, computation
        self.device, self.classes = torch.device(computation.device), tuple(dataset.classes)
        self.begin = begin or (lambda epoch, groups: None)
        self.observe = observe or dict
        self.should_stop = should_stop or (lambda: False)
        self.stopped = False
        self.precision = numbers.chosen(recipe.precision, recipe.channels_last, self.device, len(dataset.size))
        self.augmentation = recipe.augmentation(computation.seed)
        where = {"device": self.device, "workers": computation.workers, "preload": recipe.preload}
        self.supply = Supply(dataset, **where, source=bool(self.augmentation.kinds))
        self.held_out = Supply(held_out, **where)
        self.modes = Modes(model, tuple(dataset.size), strict=groups is not None)
        self.smallest = 2 if has_batch_norm(model) else 1
        self.groups = groups or [{"params": [p for p in model.parameters() if p.requires_grad], "factor": 1.0}]
        self.state = state
        with _state_of_this_training():
            self.progress = Progress.of(state["progress"], len(self.classes), recipe.epochs) if state else Progress(
                len(self.classes)
            )  # fmt: skip

    def events(self, start: int = 0) -> Iterator[Rows[Any] | Advance | Checkpoint]:
        """Teach the network.

        Args:
            start: rows of `/epochs` there are already; they are not given again.

        Raises:
            UserError: loss or weights are no longer finite, or a batch does not fit in memory.
        """
        devices = [self.device.index or 0] if self.device.type == "cuda" else []
        with numbers.repeatable(self.precision), torch.random.fork_rng(devices):
            try:
                yield from self._events(start)
            except (MemoryError, RuntimeError) as error:
                if not is_short(error):
                    raise
                half = max(1, self.computation.batch_size // 2)
                asked = f"a batch of {self.computation.batch_size} images does not fit in memory"
                raise UserError(f"{asked}; try batch_size={half}") from None
            finally:
                self.model.to(memory_format=torch.contiguous_format).eval()

    def _events(self, start: int) -> Iterator[Rows[Any] | Advance | Checkpoint]:
        self._prepare()
        if self.stopped:
            return
        progress = self.progress
        for epoch in range(start, progress.epoch):  # rows that were lost although the state was saved after them
            yield progress.row(epoch)
        yield Advance(progress.epoch * len(self.dataset) + int(self.tally[:, COUNT].sum()))
        if not self.state:
            yield self._checkpoint("update=000000")
            yield self._checkpoint("epoch=000")
        while progress.epoch < self.recipe.epochs:
            yield from self._learn()
            if not self.stopped:
                with numbers.repeatable(numbers.whole(self.precision)):
                    yield from self._measure()
                    observed = {} if self.stopped else self.observe()
            if self.stopped:
                yield self._last()
                return
            yield from self._finish(*self._measured(), observed, start)
        yield progress.confusion()

    def _prepare(self) -> None:
        """Bring network, optimiser and images to where they are needed, and to the state they had."""
        if self.state:
            with _state_of_this_training():
                self.model.load_state_dict(self.state["model"])
        self.model.to(device=self.device, memory_format=self.precision.layout)
        conduct_of(self.model, tuple(self.dataset.size))  # now: whatever it draws there, no update draws after it
        self.optimiser = self.recipe.optimiser(self.groups)
        self.stopped = not all(supply.fill(self.should_stop) for supply in (self.supply, self.held_out))
        if self.stopped:  # before the first update: no state is kept
            return
        labels = self.dataset.labels
        weights = class_weights(labels, len(self.classes))
        self.odds = weights[labels] if self.recipe.balance == "draw" else None
        factors = torch.from_numpy(weights).float().to(self.device) if self.recipe.balance == "loss" else None
        self.loss = Loss(self.recipe.loss, self.recipe.label_smoothing, factors)
        self.parts = parted(len(labels), self.computation.batch_size)
        LOG.info("computing in %s", self.precision.words)
        if len(labels) % self.computation.batch_size == 1:
            LOG.info("the image left over by batches of %d joins the last batch", self.computation.batch_size)
        self.rates = self.recipe.rates(len(self.parts))
        self.kept_updates = set(kept_updates(len(self.parts)))
        self.kept_epochs = kept_epochs(self.recipe.checkpoints, self.recipe.epochs)
        self.saved = time.monotonic()
        self.tally = torch.zeros(len(self.parts), 3, dtype=torch.float64, device=self.device)
        self.looked, self.cost = 0, 0.0
        self.asked: list[tuple[Tensor, Tensor]] = []  # losses and cells of the confusion, of each held-out batch
        if self.state:
            with _state_of_this_training():
                self._put_back(self.state)

    def _put_back(self, state: dict[str, Any]) -> None:
        """Give optimiser and epoch what they had."""
        put_back(self.optimiser, state["moments"])
        self.tally.copy_(state["tally"])
        self.asked = [tuple(one.to(self.device) for one in pair) for pair in state.get("asked", ())]
        if self.progress.step > len(self.parts) or any(len(pair) != 2 for pair in self.asked):
            raise ValueError("it is of another training")

    def _learn(self) -> Iterator[Advance | Checkpoint]:
        """Make the updates of an epoch that are still to make."""
        progress = self.progress
        self.begin(progress.epoch, self.optimiser.param_groups)
        self.modes.learn()
        order = order_of(len(self.dataset), self.computation.seed, progress.epoch, self.odds)
        began = time.monotonic()
        parts = self.parts[progress.step :]
        for images, labels, indices in self.supply.shown(order, parts, self.computation.batch_size):
            loss = self._update(images, labels, indices) if len(images) >= self.smallest else 0.0
            progress.step += 1
            if progress.step % LOOK == 0 or (self.device.type != "cuda" and not math.isfinite(loss)):
                self._look()
            yield Advance(len(images))
            if progress.epoch == 0 and progress.step in self.kept_updates:
                yield self._checkpoint(f"update={progress.step:06d}")
            self.stopped = self.should_stop()
            if self.stopped:
                break
            if self._due:
                progress.clock(time.monotonic() - began, learning=True)
                yield from self._save()
                began = time.monotonic()
        self._look()
        progress.clock(time.monotonic() - began, learning=True)

    def _update(self, images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        """Make one update of the weights; return the loss before it."""
        epoch, step = self.progress.epoch, self.progress.step
        update = epoch * len(self.parts) + step
        images = self._entering(self.augmentation(images, indices, epoch), self.supply)
        numbers.seed(self.device, zlib.crc32(f"{self.computation.seed} {update}".encode()))
        with self.precision.autocast():
            outputs = handed(self.model, images)
        outputs = outputs.float()
        loss = self.loss(outputs, labels).mean()
        loss.backward()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rates(update) * group["factor"]
        if self.recipe.clip is not None:
            learning = [parameter for group in self.groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(learning, self.recipe.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        row = self.tally[step]
        row[LOSS] = loss = loss.detach()
        row[RIGHT] = (outputs.detach().argmax(1) == labels).sum()
        row[COUNT] = len(labels)
        return loss

    def _entering(self, images: Tensor, supply: Supply) -> Tensor:
        """Return images as they enter the network: fitted, float32 0 to 1, in its layout."""
        images = self.dataset.fit(images) if supply.source else images
        if images.ndim == 4:  # while they are bytes yet: a quarter to move
            images = images.contiguous(memory_format=self.precision.layout)
        return as_float(images)

    def _look(self) -> None:
        """Look at the losses since the last look.

        Raises:
            UserError: one of them is not finite.
        """
        losses = self.tally[self.looked : self.progress.step, LOSS]
        wrong = (~losses.isfinite()).nonzero()
        if len(wrong):
            first = int(wrong[0])
            raise self._diverged(f"step {self.looked + first + 1} (loss {float(losses[first]):g})")
        self.looked = self.progress.step

    def _diverged(self, where: str) -> UserError:
        kept = self.progress.kept
        place = f"training diverged at epoch {self.progress.epoch + 1}, {where}; last good weights: {kept}"
        return UserError(f"{place}; try a smaller lr, warmup=1 or clip=1")

    @property
    def _due(self) -> bool:
        """Whether it is time to save what a resume needs; the saving itself takes `SHARE` of the time at most."""
        return time.monotonic() - self.saved > max(60 * self.recipe.save_minutes, self.cost / SHARE)

    def _save(self) -> Iterator[Checkpoint]:
        """Hand over what a resume needs, and note how long it takes to save it."""
        began = time.monotonic()
        yield self._last()
        self.cost = time.monotonic() - began

    def _measure(self) -> Iterator[Checkpoint]:
        """Ask about the held-out images, those after the ones that were asked about already.

        In float32 whatever the network learns in: what the same weights answer elsewhere.
        """
        began = time.monotonic()
        self.model.eval()
        supply, size = self.held_out, self.computation.batch_size
        order = np.arange(len(supply.dataset))
        parts = parted(len(order), size)[len(self.asked) :]
        for images, labels, _ in supply.shown(order, parts, size):
            losses, cells = labels.new_zeros(0, dtype=torch.float32), labels  # where none of them can be read
            if len(images):
                with torch.no_grad():
                    outputs = handed(self.model, self._entering(images, supply)).float()
                    losses, cells = self.loss(outputs, labels), labels * len(self.classes) + outputs.argmax(1)
            self.asked.append((losses, cells))
            self.stopped = self.should_stop()
            if self.stopped:
                return
            if self._due:
                yield from self._save()
        self.progress.clock(time.monotonic() - began, learning=False)

    def _measured(self) -> tuple[Tensor, float]:
        """Return the confusion matrix (true, predicted) and the mean loss of the held-out images.

        Raises:
            UserError: no image was learned, or none of these can be read; the loss or a weight is not finite.
        """
        (losses, cells), classes = zip(*self.asked), len(self.classes)
        self.asked = []
        for part, shown in (("training", float(self.tally[:, COUNT].sum())), ("held-out", sum(map(len, cells)))):
            if not shown:
                raise UserError(f"no batch of the {part} images of {self.dataset.name} has enough that can be read")
        loss = float(torch.cat(losses).double().mean())
        if not math.isfinite(loss):
            raise self._diverged(f"after its last step (validation loss {loss:g})")
        return torch.bincount(torch.cat(cells).cpu(), minlength=classes**2).view(classes, classes), loss

    def _finish(
        self, confusion: Tensor, val_loss: float, observed: dict[EpochColumn, float], start: int
    ) -> Iterator[Rows[EpochColumn] | Checkpoint]:
        """Write down an epoch and keep what is to be kept; the row first, for it cannot be made from weights alone."""
        progress, tally = self.progress, self.tally.cpu()
        shown = float(tally[:, COUNT].sum())
        row: dict[EpochColumn, float] = {
            "epoch": progress.epoch + 1,
            "loss": float((tally[:, LOSS] * tally[:, COUNT]).sum()) / shown,
            "accuracy": float(tally[:, RIGHT].sum()) / shown,
            "val_loss": val_loss,
            "val_accuracy": int(confusion.diagonal().sum()) / int(confusion.sum()),
            "lr": self.rates((progress.epoch + 1) * len(self.parts) - 1),
        }
        best = progress.finish_epoch(row | observed, confusion, shown)
        self.tally.zero_()
        self.looked = 0
        if progress.epoch > start:
            yield progress.row(progress.epoch - 1)
        if progress.epoch in self.kept_epochs:
            yield self._checkpoint(f"epoch={progress.epoch:03d}")
        if best:
            yield self._checkpoint("best")
        yield self._last()

    def _checkpoint(self, name: str) -> Checkpoint:
        """Take the weights as they are.

        Raises:
            UserError: they are not finite.
        """
        self._look()
        progress = self.progress
        weights = {key: copied(tensor) for key, tensor in self.model.state_dict().items()}
        if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
            raise self._diverged(f"step {progress.step} (weights no longer finite)")
        progress.kept = name
        about = {
            "epoch": progress.epoch,
            "update": progress.epoch * len(self.parts) + progress.step,
            "num_classes": len(self.classes),
            "classes": list(self.classes),
            "input_size": list(self.dataset.size),
        }
        if progress.epoch and not progress.step:
            about["val_accuracy"] = progress.history["val_accuracy"][-1]
        return Checkpoint(name, weights, about)

    def _last(self) -> Checkpoint:
        """Take the weights with all that going on needs, the weights once more: so all of it is of one moment."""
        kept = self.progress.kept
        last = self._checkpoint("last")
        self.progress.kept = kept  # `last` will be written over
        self.saved = time.monotonic()
        more = {"moments": moments_of(self.optimiser), "tally": copied(self.tally), "progress": self.progress.plain()}
        more["asked"] = [[copied(one) for one in pair] for pair in self.asked]
        return replace(last, resume={"model": last.weights} | more)
