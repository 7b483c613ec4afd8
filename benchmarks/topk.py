"""What ranking costs: top images of all convolutions of SqueezeNet 1.0 by three criteria, against the bare network.

    python benchmarks/topk.py --images 640 --batch 32 --threads 2

Prints seconds per image of (a) the network alone, in inference mode, (b) our ranking of all its convolutional layers by
the three criteria, (c) one pass per layer, as with captum's
LayerActivation, with plain reductions; (c) is timed on the first images only. Medians of interleaved repetitions.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from cnnprobe.instruments.layers.naming import Layer, find
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.ranking.areas import Areas
from cnnprobe.instruments.ranking.top_k import CRITERIA, Ranker


def bare(model: nn.Module, images: Tensor, batch: int) -> None:
    with torch.inference_mode():
        for chunk in images.split(batch):
            model(chunk)


def ours(model: nn.Module, layers: list[Layer], images: Tensor, batch: int) -> None:
    ranker = Ranker(layers, 9, CRITERIA)
    areas = Areas(layers, {layer.name: np.arange(layer.channels) for layer in layers}, len(images), 0.995)

    def receive(layer: Layer, activation: Tensor) -> None:
        ranker.receive(layer, activation)
        areas.receive(layer, activation)

    with torch.inference_mode(), tap(model, layers, receive) as run:
        for start, chunk in zip(range(0, len(images), batch), images.split(batch)):
            indices = np.arange(start, start + len(chunk))
            ranker.begin(indices)
            areas.begin(indices, np.ones(len(chunk), bool))
            run(chunk)
    for layer in layers:
        areas.result(layer.name)


def pass_per_layer(model: nn.Module, layers: list[Layer], images: Tensor, batch: int) -> None:
    with torch.inference_mode():
        for layer in layers:
            kept = []
            module = model.get_submodule(layer.tap.module)
            handle = module.register_forward_hook(lambda _, inputs, output, kept=kept: kept.append(output))
            for chunk in images.split(batch):
                model(chunk)
                maps = kept.pop().flatten(2)
                maps.amax(2), maps.mean(2), (maps > 1).float().mean(2)
            handle.remove()


def seconds(work: Callable, *arguments) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("images", 640), ("batch", 32), ("threads", 2), ("repetitions", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = torchvision.models.squeezenet1_0(weights=None).eval()
    images = torch.rand(options.images, 3, 227, 227)
    layers = find(model, "conv*", (3, 227, 227), of="squeezenet")
    few = images[: options.batch]
    bare(model, few, options.batch)  # warm up
    times: dict[str, list[float]] = {"bare": [], "ours": [], "passes": []}
    for _ in range(options.repetitions):
        times["bare"].append(seconds(bare, model, images, options.batch) / len(images))
        times["ours"].append(seconds(ours, model, layers, images, options.batch) / len(images))
        times["passes"].append(seconds(pass_per_layer, model, layers, few, options.batch) / len(few))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{len(layers)} layers, {len(images)} images, batch {options.batch}, {options.threads} threads")
    for label, name in (("network alone", "bare"), ("top images", "ours"), ("one pass per layer", "passes")):
        cost, bare_cost, our_cost = medians[name], medians["bare"], medians["ours"]
        print(
            f"{label:20}{cost * 1e3:9.2f} ms per image, {cost / bare_cost:6.2f} x bare, {cost / our_cost:6.2f} x ours"
        )


if __name__ == "__main__":
    main()
