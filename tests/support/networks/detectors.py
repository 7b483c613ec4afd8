"""A network whose units each find one class, images of those classes, and a call of a command on them."""

import torch
from torch import nn

import cnnprobe as package
from tests.support.calling import Labelled, whole


def measured(model, dataset, **options):
    """Return the columns of a lesion by table and name."""
    return whole(package.measure("lesion", model=model, dataset=dataset, **options))


class Detectors(nn.Module):
    """Unit k of the layer `find` is channel k of the image, whose mean logit k reads alone; the others are dead."""

    def __init__(self, classes=4, units=6):
        super().__init__()
        self.find = nn.Conv2d(classes, units, 1, bias=False)
        self.out = nn.Linear(units, classes, bias=False)
        with torch.no_grad():
            self.find.weight.zero_()
            self.out.weight.zero_()
            for k in range(classes):
                self.find.weight[k, k] = self.out.weight[k, k] = 1

    def forward(self, given):
        return self.out(self.find(given).relu().mean((2, 3)))


def coloured(count=40, classes=4):
    """Images of class k, whose channel k is brightest."""
    generator = torch.Generator().manual_seed(0)
    labels = [place % classes for place in range(count)]
    pixels = 0.2 * torch.rand(count, classes, 5, 5, generator=generator)
    for place, label in enumerate(labels):
        pixels[place, label] += 0.5 + 0.3 * torch.rand(1, generator=generator)
    return Labelled(pixels, labels, classes)


def by_hooks(model, module, dataset, units, value):
    """Return the outputs with the activation behind a module changed by hand, one image at a time."""
    found = []
    for place in range(len(dataset)):

        def replaced(_, __, output, place=place):
            output = output.clone()
            output[:, units] = value(place)
            return output

        handle = module.register_forward_hook(replaced)
        with torch.no_grad():
            found.append(model(dataset.load([place])[0]))
        handle.remove()
    return torch.cat(found)
