"""The training loop: epochs of updates, what is measured after each, and the weights kept on the way."""

import logging
import math
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.augmentation import as_float
from cnnprobe.instruments.network import snapshots
from cnnprobe.instruments.network.conduct import conduct_of, handed
from cnnprobe.machine import chance
from cnnprobe.machine import precision as numbers
from cnnprobe.machine.computation import Computation
from cnnprobe.machine.memory import is_short
from cnnprobe.methods.train.epochs import (
    COMMON,
    EpochColumn,
    Progress,
    columns_of,
    copied,
    measures_of,
    moments_of,
    put_back,
)
from cnnprobe.methods.train.judging import Judging
from cnnprobe.methods.train.modes import Modes
from cnnprobe.methods.train.penalties import names_of, penalties_of
from cnnprobe.methods.train.recipe import Recipe, has_batch_norm
from cnnprobe.methods.train.schedules import kept_epochs, kept_updates
from cnnprobe.methods.train.tally import LOSS, TERMS, Tally
from cnnprobe.methods.train.tasks import task_of
from cnnprobe.methods.train.training_images import Supply, order_of, parted
from cnnprobe.store.tables import Advance, Checkpoint, Rows

LOG = logging.getLogger("cnnprobe")
LOOK = 50
"""Updates between two looks at the losses, on a GPU: each look waits until it has caught up."""
SHARE = 0.02
"""Of the time that saving what a resume needs may take."""


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
    of (seed, epoch), their augmentation of (seed, epoch, image), what the network draws of (seed, update), the learning
    rate of the update.
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
        self.device, self.target, self.task = torch.device(computation.device), dataset.target, task_of(held_out)
        self.gpus = [self.device.index or 0] if self.device.type == "cuda" else []
        self.learned, self.held_column = measures_of(self.task)
        self.terms = names_of(model, dataset, (*COMMON, self.learned, self.held_column))
        self.penalties = penalties_of(model) if self.terms else None
        self.columns = columns_of(self.task, self.terms)
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
            own = Progress(len(self.target.names))
            self.progress = Progress.of(state["progress"], own.classes, recipe.epochs, self.columns) if state else own

    def events(self, start: int = 0) -> Iterator[Rows[Any] | Advance | Checkpoint]:
        """Teach the network.

        Args:
            start: rows of `/epochs` there are already; they are not given again.

        Raises:
            UserError: loss or weights are no longer finite, or a batch does not fit in memory.
        """
        with numbers.repeatable(self.precision), chance.forked(self.gpus):
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
        yield Advance(progress.epoch * len(self.dataset) + int(self.tally.shown))
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
        assert progress.best_result is not None  # the first epoch is the best one so far
        yield self.task.rows(progress.best_result)

    def _prepare(self) -> None:
        """Bring network, optimiser and images to where they are needed, and to the state they had."""
        self.built = snapshots.as_built(self.model)
        if self.state:
            with _state_of_this_training():
                snapshots.put(self.model, self.state["model"])
        self.model.to(device=self.device, memory_format=self.precision.layout)
        conduct_of(self.model, tuple(self.dataset.size))  # now: whatever it draws there, no update draws after it
        self.optimiser = self.recipe.optimiser(self.groups)
        self.stopped = not all(supply.fill(self.should_stop) for supply in (self.supply, self.held_out))
        if self.stopped:  # before the first update: no state is kept
            return
        self.loss, self.odds = self.recipe.loss_and_odds(self.model, self.dataset, self.supply.pixels, self.device)
        self.parts = parted(len(self.dataset), self.computation.batch_size)
        LOG.info("computing in %s", self.precision.words)
        if len(self.dataset) % self.computation.batch_size == 1:
            LOG.info("the image left over by batches of %d joins the last batch", self.computation.batch_size)
        self.rates = self.recipe.rates(len(self.parts))
        self.kept_updates = set(kept_updates(len(self.parts)))
        self.kept_epochs = kept_epochs(self.recipe.checkpoints, self.recipe.epochs)
        self.saved = time.monotonic()
        self.tally, self.cost = Tally(self.task, len(self.parts), len(self.terms), self.device), 0.0
        self.judging = Judging(self.task, self.loss, self.terms, self.dataset.name)
        if self.state:
            with _state_of_this_training():
                self._put_back(self.state)

    def _put_back(self, state: dict[str, Any]) -> None:
        """Give optimiser and epoch what they had."""
        put_back(self.optimiser, state["moments"])
        self.tally.put_back(state)
        self.judging.put_back(state.get("asked", ()), self.device)
        if self.progress.step > len(self.parts):
            raise ValueError("it is of another training")

    def _learn(self) -> Iterator[Advance | Checkpoint]:
        """Make the updates of an epoch that are still to make."""
        progress = self.progress
        self.begin(progress.epoch, self.optimiser.param_groups)
        self.modes.learn()
        order = order_of(len(self.dataset), self.computation.seed, progress.epoch, self.odds)
        began = time.monotonic()
        parts = self.parts[progress.step :]
        for images, targets, indices in self.supply.shown(order, parts, self.computation.batch_size):
            loss = self._update(images, targets, indices) if len(images) >= self.smallest else 0.0
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

    def _update(self, images: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        """Make one update of the weights; return the loss before it."""
        epoch, step = self.progress.epoch, self.progress.step
        update = epoch * len(self.parts) + step
        if self.target.kind == "map":
            targets = self.augmentation.maps(targets, indices, epoch)
        images = self._entering(self.augmentation(images, indices, epoch), self.supply)
        chance.seed(zlib.crc32(f"{self.computation.seed} {update}".encode()), self.gpus)
        with self.precision.autocast():
            outputs = handed(self.model, images)
            targets = self.task.fitted(targets, outputs)
            owned = self._owned(images, outputs, targets)
        outputs = outputs.float()
        loss = self.loss.total(self.loss.terms(outputs, targets))
        (loss + owned.sum() if self.terms else loss).backward()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rates(update) * group["factor"]
        if self.recipe.clip is not None:
            learning = [parameter for group in self.groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(learning, self.recipe.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.tally.write(step, loss.detach(), owned.detach(), outputs.detach(), targets)
        return loss.detach()

    def _owned(self, images: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (term,) what the network itself adds to the loss."""
        if self.penalties is None:
            return images.new_zeros(0)
        found = self.penalties(images, outputs, targets)
        return torch.stack([found[name].float().reshape(()) for name in self.terms])

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
        if (found := self.tally.look(self.progress.step)) is not None:
            raise self._diverged(f"step {found[0] + 1} (loss {found[1]:g})")

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
        parts = parted(len(order), size)[len(self.judging.batches) :]
        for images, targets, _ in supply.shown(order, parts, size):
            with torch.no_grad():
                self._ask(images, targets) if len(images) else self.judging.skip()
            self.stopped = self.should_stop()
            if self.stopped:
                return
            if self._due:
                yield from self._save()
        self.progress.clock(time.monotonic() - began, learning=False)

    def _ask(self, images: Tensor, targets: Tensor) -> None:
        """Ask about held-out images."""
        images = self._entering(images, self.held_out)
        outputs = handed(self.model, images).float()
        targets = self.task.fitted(targets, outputs)
        self.judging.add(outputs, targets, self._owned(images, outputs, targets))

    def _measured(self) -> tuple[Tensor, dict[EpochColumn, float]]:
        """Return the result of the held-out images, see `Task.result`, and their columns of `/epochs`.

        Raises:
            UserError: no image was learned, or none of these can be read; the loss or a weight is not finite.
        """
        if not self.tally.shown:
            raise UserError(f"no batch of the training images of {self.dataset.name} has enough that can be read")
        result, found = self.judging.result()
        if not math.isfinite(found["val_loss"]):
            raise self._diverged(f"after its last step (validation loss {found['val_loss']:g})")
        return result, found

    def _finish(
        self, result: Tensor, measured: dict[EpochColumn, float], observed: dict[EpochColumn, float], start: int
    ) -> Iterator[Rows[EpochColumn] | Checkpoint]:
        """Write down an epoch and keep what is to be kept; the row first, for it cannot be made from weights alone."""
        progress, means = self.progress, self.tally.means()
        row: dict[EpochColumn, float] = {
            "epoch": progress.epoch + 1,
            "loss": means[LOSS],
            self.learned: self.tally.share(),
            "lr": self.rates((progress.epoch + 1) * len(self.parts) - 1),
        }
        for place, name in enumerate(self.terms, TERMS):
            row[cast(EpochColumn, name)] = means[place]
        row |= measured | observed
        best = progress.finish_epoch(row, self.held_column, result, self.tally.shown)
        self.tally.clear()
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
        learned = snapshots.changed(self.model, self.built)
        weights = {key: copied(tensor) for key, tensor in (self.model.state_dict() | learned).items()}
        if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
            raise self._diverged(f"step {progress.step} (weights no longer finite)")
        progress.kept = name
        about = {
            "epoch": progress.epoch,
            "update": progress.epoch * len(self.parts) + progress.step,
            "num_classes": len(self.target.names),
            "classes": list(self.target.names),
            "input_size": list(self.dataset.size),
        }
        if learned:
            about["buffers"] = sorted(learned)
        if self.target.kind == "present":
            about["output"] = "existence"
        if progress.epoch and not progress.step:
            about[self.held_column] = progress.history[self.held_column][-1]
        return Checkpoint(name, weights, about)

    def _last(self) -> Checkpoint:
        """Take the weights with all that going on needs, the weights once more: so all of it is of one moment."""
        kept = self.progress.kept
        last = self._checkpoint("last")
        self.progress.kept = kept  # `last` will be written over
        self.saved = time.monotonic()
        more: dict[str, Any] = {"moments": moments_of(self.optimiser), "progress": self.progress.plain()}
        more |= {"asked": self.judging.plain(), **self.tally.plain()}
        return replace(last, resume={"model": last.weights} | more)
