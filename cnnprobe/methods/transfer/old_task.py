"""The task a network had learned before: how much of it is left, measured with the old readout.

Of classes that is the accuracy; of masks, several classes and courses what a training of them is judged by.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.augmentation import as_float
from cnnprobe.instruments.network.conduct import conduct_of, handed
from cnnprobe.instruments.outputs.readout import Readout, instead, right_by_class
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.train.tasks import task_of
from cnnprobe.methods.train.training_images import Supply, parted
from cnnprobe.methods.transfer.label_fraction import label_fraction
from cnnprobe.methods.transfer.recoverable import refitted_accuracy


class OldTask:
    """Images of the old task, and the old readout that is put back to answer them.

    Args:
        model: whose body learns something else meanwhile.
        readout: the old one, as `readout_of` found it; it is never trained.
        dataset: an image set with what the old readout answers.
        computation: device, loaders, batch size.
        preload: hold the images in memory, see `train.training_images.Supply`.

    Raises:
        UserError: the old readout has another number of classes than the images; of courses, it is no multiple of
            their channels.
    """

    def __init__(
        self,
        model: nn.Module,
        readout: Readout,
        dataset: ImageSet,
        computation: Computation,
        *,
        preload: bool | str,
    ):
        theirs, ours = len(dataset.target.names), readout.classes
        if ours % max(theirs, 1) if dataset.target.kind == "course" else theirs != ours:
            what = "channels" if dataset.target.kind == "course" else "classes"
            raise UserError(f"old_task: {dataset.name} has {theirs} {what}, the old readout {readout.path} has {ours}")
        self.task = task_of(dataset)
        self.model, self.readout, self.dataset = model, readout, dataset
        self.batch_size = computation.batch_size
        self.where = {"device": torch.device(computation.device), "workers": computation.workers}
        self.supply = Supply(dataset, **self.where, preload=preload)
        self.filled = False

    @torch.no_grad()
    def right_by_class(self) -> np.ndarray:
        """Ask the network as it is now, its body in eval mode.

        Returns:
            (class, 2) counts: images, and images answered right.
        """
        classes = len(self.dataset.classes)
        counts = self._asked(lambda outputs, labels: right_by_class(outputs, labels, classes))
        return sum(counts, torch.zeros(classes, 2, dtype=torch.int64)).numpy()

    def value(self) -> float:
        """Return the measure of the old task, of the network as it is now; NaN where no image can be judged."""
        if self.task.measure == "accuracy":
            return self.accuracy()
        task = self.task
        answers = self._asked(lambda outputs, targets: task.answers(outputs, task.fitted(targets, outputs)))
        return task.value(task.result(torch.cat(answers))) if answers else float("nan")

    @torch.no_grad()
    def _asked(self, use: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        """Return what is made of outputs and targets of every batch that can be read, the body in eval mode."""
        if not self.filled:
            self.supply.fill(lambda: False)
            self.filled = True
        modes = [(module, module.training) for module in self.model.modules()]
        order, found = np.arange(len(self.dataset)), []
        with instead(self.model, self.readout.path, self.readout.module) as model:
            model.eval()
            for images, targets, _ in self.supply.shown(order, parted(len(order), self.batch_size), self.batch_size):
                if len(images):
                    found.append(use(handed(model, as_float(images)).float(), targets))
        for module, training in modes:
            module.training = training
        return found

    @torch.no_grad()
    def recoverable(self, most: int, seed: int) -> float:
        """Return the share of the images a readout fitted anew answers right, see `recoverable.refitted_accuracy`.

        Args:
            most: images it is tried on at most, the same share of each class.
            seed: of these images and of their parts.
        """
        labels = self.dataset.labels
        count = int((labels >= 0).sum())
        chosen = label_fraction(labels, min(1.0, most / max(count, 1)), seed)
        images = Supply(self.dataset.part(chosen), **self.where, preload=False)
        features, known, modes = [], [], [(module, module.training) for module in self.model.modules()]
        conduct_of(self.model, tuple(self.dataset.size))  # before any hook of ours is there
        reader = self.model.get_submodule(self.readout.path)
        handle = reader.register_forward_pre_hook(lambda _, inputs: features.append(_as_features(inputs[0], reader)))
        try:
            self.model.eval()
            order = np.arange(len(chosen))
            for batch, own, _ in images.shown(order, parted(len(order), self.batch_size), self.batch_size):
                if len(batch):
                    handed(self.model, as_float(batch))
                    known.append(own.cpu())
        finally:
            handle.remove()
            for module, training in modes:
                module.training = training
        if not known:
            return float("nan")
        return refitted_accuracy(torch.cat(features).numpy(), torch.cat(known).numpy(), seed)

    def accuracy(self) -> float:
        """Return the share of the images answered right; NaN where none has a class."""
        return share_right(self.right_by_class())


def _as_features(inputs: Tensor, reader: nn.Module) -> Tensor:
    """Return (image, feature) of what enters a readout: of maps the mean over positions, as they are pooled behind it.

    A convolution as large as its map reads every position for itself, like a linear layer. What is returned is a copy:
    the network may write into what its readout has read.
    """
    if inputs.ndim > 2 and any(side > 1 for side in getattr(reader, "kernel_size", ())):
        return inputs.flatten(1).float().cpu().clone()
    return (inputs.flatten(2).mean(2) if inputs.ndim > 2 else inputs).float().cpu().clone()


def share_right(counts: np.ndarray) -> float:
    """Return the share answered right from (class, 2) counts of images and of those right; NaN without images."""
    images, right = counts.sum(0)
    return float(right / images) if images else float("nan")
