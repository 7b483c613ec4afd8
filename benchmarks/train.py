"""What `cnnprobe train` costs beside a loop written by hand, and what MouseNet gains over the way of its authors.

    python benchmarks/train.py
    python benchmarks/train.py --networks convnet --repetitions 5

One run prints, for each network, images learned per second in the second of two epochs, medians of interleaved
repetitions: (a) `train` without and (b) with augmentation (crop and flip), (c) a bare PyTorch loop over images that
lie in memory as floats, with the same network, autocast and memory format and torch's own SGD; for MouseNet (d) the
authors' way: float32, contiguous, every convolution padded, strided, its weight multiplied by its mask (Shi et al.
2022, their code).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

import cnnprobe
from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.machine import precision
from cnnprobe.models import convnet, mousenet
from cnnprobe.store.tables import Rows

CONFIGS = Path(__file__).parent.parent / "configs"
SETTINGS = {"convnet": (32, 64, 100), "mousenet": (64, 32, 2)}  # side of the images, batch, updates per epoch


ALIKE = {"epochs": 2, "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}  # as the loop by hand


class Noise(ImageSet):
    """Random bytes with random labels."""

    in_memory = True

    def __init__(self, count: int, side: int):
        rng = np.random.default_rng(0)
        self.pixels = torch.from_numpy(rng.integers(0, 256, (count, 3, side, side), dtype=np.uint8))
        labels, size = np.arange(count) % 10, (3, side, side)
        names, classes = map(str, range(count)), map(str, range(10))
        super().__init__(name="noise", names=names, labels=labels, classes=classes, size=size, source_size=size)

    def load_source(self, indices: np.ndarray) -> tuple[Tensor, np.ndarray]:
        return self.pixels[torch.as_tensor(np.asarray(indices))], np.ones(len(indices), dtype=bool)


def built(name: str) -> nn.Module:
    options = yaml.safe_load((CONFIGS / f"model/{name}.yaml").read_text(encoding="utf-8"))
    given = {key: value for key, value in options.items() if key not in ("name", "num_classes")}
    torch.manual_seed(0)
    return {"convnet": convnet, "mousenet": mousenet}[name].build(num_classes=10, **given)


def ours(name: str, data: Noise, batch: int, device: str, **changes) -> float:
    """Return images per second of the second epoch of `cnnprobe train`."""
    options = yaml.safe_load((CONFIGS / "method/train.yaml").read_text(encoding="utf-8"))["method"]
    options = {key: value for key, value in options.items() if key != "name"} | ALIKE | changes
    around = {"device": device, "workers": 0, "seed": 0, "batch_size": batch}
    few = Noise(20, data.size[1])
    measurement = cnnprobe.measure(
        "train", model=built(name).to(device), dataset=data, held_out=few, **around, **options
    )
    rows = [event for event in measurement.events if isinstance(event, Rows) and event.table == "epochs"]
    return float(rows[1].columns["images_per_second"][0])


def bare(model: nn.Module, data: Noise, batch: int, how: precision.Precision) -> float:
    """Return images per second of the second epoch of a loop written by hand."""
    model.to(how.device, memory_format=how.layout).train()
    images = (data.pixels.float() / 255).to(how.device, memory_format=how.layout)
    labels = torch.from_numpy(data.labels).to(how.device)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for _ in range(2):
        started = time.perf_counter()
        for chosen in torch.randperm(len(images), device=how.device).split(batch):
            with how.autocast():
                loss = functional.cross_entropy(model(images[chosen]), labels[chosen])
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        loss.item()  # waits for a GPU
    return len(images) / (time.perf_counter() - started)


def authors_way(model: nn.Module) -> nn.Module:
    """Make every convolution of a MouseNet compute as in the authors' code."""

    def forward(edge: mousenet.Edge, source: Tensor) -> Tensor:
        before, after = edge.padding[0], edge.padding[0] + edge.stride[0] - 1
        padded = functional.pad(source, (before, after, before, after))
        return functional.conv2d(padded, edge.weight * edge.mask, edge.bias, edge.stride)

    model.halving = {}  # which edges are one convolution here while they learn
    for edge in model.conv.values():
        edge.forward = forward.__get__(edge)
    return model


def contenders(name: str, device: str, steps: int | None) -> dict[str, Callable[[], float]]:
    side, batch, updates = SETTINGS[name]
    data = Noise(batch * (steps or updates), side)
    how = precision.chosen("auto", "auto", torch.device(device), 3)
    theirs = precision.Precision(torch.device(device), half=False, tf32=False, layout=torch.contiguous_format)
    print(f"{name}: {side} px, batches of {batch}, {how.words}, {torch.get_num_threads()} threads")
    found = {
        "train": lambda: ours(name, data, batch, device, augment="none"),
        "train, crop and flip": lambda: ours(name, data, batch, device, augment=["crop", "flip"]),
        "bare loop": lambda: bare(built(name), data, batch, how),
    }
    if name == "mousenet":
        found["authors' way"] = lambda: bare(authors_way(built(name)), data, batch, theirs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--updates", type=int, help="per epoch")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    for name in arguments.networks:
        found = contenders(name, arguments.device, arguments.updates)
        speeds = {label: [] for label in found}
        for _ in range(arguments.repetitions):
            for label, work in found.items():
                speeds[label].append(work())
        typical = {label: statistics.median(values) for label, values in speeds.items()}
        for label, speed in typical.items():
            paired = statistics.median(a / b for a, b in zip(speeds[label], speeds["bare loop"]))
            print(f"  {label:22} {speed:9.1f} images/s   {paired:.3f} of the bare loop")
        if "authors' way" in speeds:
            gain = statistics.median(a / b for a, b in zip(speeds["train"], speeds["authors' way"]))
            print(f"  train is {gain:.2f} times as fast as the authors' way")


if __name__ == "__main__":
    main()
