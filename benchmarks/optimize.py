"""What preferred images of a whole layer cost: all units at once, beside lucent's loop over channels and bare passes.

    python benchmarks/optimize.py                                      # AlexNet features.3, 64 channels, 512 steps
    python benchmarks/optimize.py --steps 32 --channels 16 --loop 2    # a look
    python benchmarks/optimize.py --layer features.8 --channels 256 --side 224

*bare* is forward and backward of the network (normalising included) cut off behind the layer, batched over the
channels, and nothing else.
*ours* is a whole ascent with preset lucid, from the first noise to the last image: Fourier images, transforms, Adam,
looks at the best step. *lucent* is its `render_vis` with the same objective, transforms, optimiser, steps and size, one
channel after the other, for the first channels (`--loop`); each takes as long. Random weights unless AlexNet's own are
on disk. Response: the mean of the channel's map for the image that comes out, shown without transforms.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.machine.memory import Carried
from cnnprobe.methods.optimize.ascent.objectives import Channel
from cnnprobe.methods.optimize.ascent.presets import preset_of
from cnnprobe.methods.optimize.ascent.rows import ascending
from cnnprobe.models.parts.normalisation import IMAGENET, normalise

REPETITIONS = 5


def alexnet() -> tuple[nn.Module, str]:
    """Return the network, as torchvision has it, and where its weights come from."""
    torch.manual_seed(0)
    weights = torchvision.models.AlexNet_Weights.IMAGENET1K_V1
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[1]
    model = torchvision.models.alexnet(weights=weights if file.is_file() else None)
    return model.eval(), "published weights" if file.is_file() else "random weights"


class Bare:
    """One forward and backward pass of the network as far as the layer, for all channels at once."""

    def __init__(self, model: nn.Module, layer: str, channels: int, side: int):
        self.cut = model.features[: int(layer.rpartition(".")[2]) + 1]
        self.images = torch.rand(channels, 3, side, side, requires_grad=True)
        self.rows = torch.arange(channels)
        self.mean, self.deviation = (torch.tensor(values)[:, None, None] for values in IMAGENET)
        self.times: list[float] = []

    def __call__(self) -> None:
        start = time.perf_counter()
        maps = self.cut((self.images - self.mean) / self.deviation)
        torch.autograd.grad(maps.flatten(2).mean(2)[self.rows, self.rows].sum(), self.images)
        self.times.append(time.perf_counter() - start)


def ours(model: nn.Module, options: argparse.Namespace, bare: Bare) -> tuple[float, np.ndarray]:
    """Return seconds of the whole ascent, and the responses, (channel,); bare passes are timed in between."""
    size = (3, options.side, options.side)
    layers = find(model, options.layer, size)
    objective = Channel(options.layer, np.arange(options.channels))
    seeds = [(0, unit, 0) for unit in range(options.channels)]
    settings = preset_of("lucid", steps=options.steps)
    carried = Carried(options.rows or options.channels)
    events = ascending(model, layers, objective, size, settings, seeds, carried=carried)
    bare(), bare.times.clear()
    seconds = 0.0
    while True:
        start = time.perf_counter()
        try:
            next(events)
        except StopIteration as end:
            seconds += time.perf_counter() - start
            return seconds, responses(model, options.layer, torch.from_numpy(end.value.images))
        seconds += time.perf_counter() - start
        for _ in range(REPETITIONS):
            bare()


def responses(model: nn.Module, layer: str, images: Tensor) -> np.ndarray:
    """Return the mean of each image's own channel, (channel,)."""
    from cnnprobe.instruments.network.activations import activations

    with torch.no_grad():
        maps = activations(model, find(model, layer, tuple(images.shape[1:])), images)[layer]
    return maps.flatten(2).mean(2).diagonal().numpy()


def loop(model: nn.Module, layer: str, channels: int, side: int, steps: int) -> tuple[float, list[Tensor]]:
    """Return lucent's seconds for some channels, and the images."""
    from lucent.optvis import objectives, param, render

    start, images = time.perf_counter(), []
    for unit in range(channels):
        (image,) = render.render_vis(
            model,
            objectives.channel(layer.replace(".", "_"), unit),
            lambda: param.image(side),
            thresholds=(steps,),
            progress=False,
            show_image=False,
            fixed_image_size=side,
        )
        images.append(torch.from_numpy(image[0]).permute(2, 0, 1))
    return time.perf_counter() - start, images


def compare(options: argparse.Namespace) -> None:
    """Time all three and print one table."""
    plain, weights = alexnet()
    side, steps, channels = options.side, options.steps, options.channels
    print(f"AlexNet {options.layer}, {weights}, {channels} channels, {side} px, {steps} steps, ", end="")
    print(f"{torch.get_num_threads()} threads; ms per channel and step")
    for parameter in plain.parameters():
        parameter.requires_grad_(False)
    model = normalise(torchvision.models.alexnet(weights=None).eval(), *IMAGENET)
    model.load_state_dict(plain.state_dict())
    passes = Bare(plain, options.layer, channels, side)
    seconds, reached = ours(model, options, passes)
    floor = statistics.mean(passes.times) / channels
    own = seconds / steps / channels
    print(f"bare    {1e3 * floor:8.3f}   mean of {len(passes.times)} passes between the windows of the ascent")
    print(f"ours    {1e3 * own:8.3f}   {own / floor:.2f} x bare   median response {statistics.median(reached):.4g}")
    if not options.loop:
        return
    try:
        import lucent.optvis  # noqa: F401
    except ImportError as error:
        missing = f"lucent is not there ({error}); pip install --no-deps torch-lucent"
        print(f"{missing}; pip install decorator kornia==0.4.1 tqdm ipython")
        return
    slow, images = loop(plain, options.layer, options.loop, side, steps)
    slow /= options.loop * steps
    theirs = responses(model, options.layer, torch.stack(images).float())
    same = reached[: options.loop]
    print(
        f"lucent  {1e3 * slow:8.3f}   {slow / own:.1f} x ours   median response {statistics.median(theirs):.4g}",
        end=" ",
    )
    print(f"(ours for the same {options.loop}: {statistics.median(same):.4g})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layer", default="features.3")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--rows", type=int, default=0, help="rows that climb at once; 0: all channels")
    parser.add_argument("--loop", type=int, default=8, help="channels that lucent does; 0: none")
    compare(parser.parse_args())


if __name__ == "__main__":
    main()
