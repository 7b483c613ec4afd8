"""What occlusion costs: changed windows against brute force and against captum, and how far the results differ.

    python benchmarks/rf_map.py                    # all parts, about ten minutes on two cores
    python benchmarks/rf_map.py alexnet choice     # some of: alexnet peers layer choice memory

*brute* is the batch of occluded images through the network as far as the layer, already less than peers do; *captum* is
captum.attr.Occlusion on the whole network, a hook reading one unit. Both are timed on a sample of occluder places and
scaled to all of them; each takes the same time. Ours is timed whole, the clean pass included. Shortest of interleaved
repetitions. Random weights, noise images, float32.
"""

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
import torchvision
from clock import shortest
from torch import Tensor, nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.windows.engine import Plan, WindowEngine
from cnnprobe.instruments.windows.occluders import Grid
from cnnprobe.instruments.windows.operations import Convolution
from cnnprobe.methods.rf_map.occlusion import Occlusion
from cnnprobe.models import mousenet

SAMPLE = 128
"""Places of the occluder that brute force is timed on."""


@dataclass
class Subject:
    """A network, the size of its images, and its occluder."""

    name: str
    model: nn.Module
    side: int
    patch: int
    stride: int

    def __post_init__(self):
        self.size = (3, self.side, self.side)
        self.grid = Grid(self.size[1:], self.patch, self.stride)
        self.places = math.prod(self.grid.shape)
        generator = torch.Generator().manual_seed(0)
        self.image, fill = (torch.rand(self.size, generator=generator) for _ in range(2))
        self.filled = fill[None]

    def windows(self, layer: str) -> Occlusion:
        return Occlusion(self.model, find(self.model, layer, self.size)[0], self.size, self.grid)

    def brute(self, layer: str) -> Occlusion:
        one = find(self.model, layer, self.size)[0]
        return Occlusion(self.model, one, self.size, self.grid, engine="brute force")

    def sample(self) -> np.ndarray:
        """Return places of the occluder, (occluder,), in order."""
        chosen = np.random.default_rng(0).choice(self.places, min(SAMPLE, self.places), replace=False)
        return np.sort(chosen)


def alexnet() -> Subject:
    torch.manual_seed(0)
    return Subject("AlexNet", torchvision.models.alexnet(weights=None).eval(), 224, 11, 3)


def squeezenet() -> Subject:
    torch.manual_seed(0)
    return Subject("SqueezeNet", torchvision.models.squeezenet1_0(weights=None).eval(), 227, 11, 3)


def mouse() -> Subject:
    torch.manual_seed(0)
    options = {"variant": "mousenet64", "readout": "pool4", "mask": "per_channel", "mask_seed": 2021}
    net = mousenet.build(num_classes=10, input_size=None, upsample_to=None, **options)
    return Subject("MouseNet", net, 64, 3, 1)


def geometric(values: list[float]) -> float:
    return math.exp(np.mean(np.log(values)))


def product_speed() -> float:
    """Return multiply-accumulate operations per second of a large matrix product."""
    one, other = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2048**3 / shortest(lambda: one @ other)[0]


def least_work(engine: WindowEngine, plan: Plan) -> float:
    """Return the multiply-accumulate operations that no exact method of this kind can do without.

    For each occluder and convolution the smaller of two counts: changed inputs, or results, times all taps.
    """
    total = 0.0
    for how in (how for how in engine.operations.values() if isinstance(how, Convolution)):
        for rows in plan.rows:
            for columns in plan.columns:
                sides = [
                    [np.maximum(np.subtract(*axis.windows[value].changed[::-1]), 0) for axis in (rows, columns)]
                    for value in (how.inputs[0], how.output)
                ]
                read, made = (np.multiply.outer(*pair) for pair in sides)
                read = read / math.prod(slide.stride for slide in how.reach)
                total += float(np.minimum(read, made).sum()) * how.kernel.numel()
    return total


def against_brute() -> None:
    """AlexNet, layer by layer: whole maps and single sites."""
    subject, speed = alexnet(), product_speed()
    print(f"matrix product: {speed / 1e9:.0f} billion multiply-accumulate operations per second")
    print("layer   brute ms/place   whole map x  share  difference     one site x  share  difference")
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        windows, brute = subject.windows(name), subject.brute(name)
        layer, engine = windows.layer, windows.windows
        units = list(range(layer.channels))
        site = [side // 2 for side in layer.map_size]
        sites, sample = [site] * len(units), subject.sample()
        scale = responses(subject, name)
        with windows, brute:
            ours = {
                "mean": lambda: windows.discrepancies(subject.image, subject.filled, units, sites, "mean"),
                "site": lambda: windows.discrepancies(subject.image, subject.filled, units, sites, "site"),
            }

            def sampled(reading: str) -> np.ndarray:
                given = torch.tensor(units), torch.tensor(sites)
                with torch.inference_mode():
                    return brute._brute(subject.image, subject.filled, *given, reading, sample)

            slow, whole, one = shortest(lambda: sampled("site"), ours["mean"], ours["site"])
            slow *= subject.places / len(sample)
            wrong = {}
            for reading in ("site", "anywhere"):
                found = windows.discrepancies(subject.image, subject.filled, units, sites, reading)
                exact = sampled(reading)
                wrong[reading] = np.abs(found.reshape(len(units), 1, -1)[:, :, sample] - exact).max() / scale
            plans = engine.plan(), engine.plan(tuple((at, at + 1) for at in site))
            shares = [least_work(engine, plan) / speed / spent for plan, spent in zip(plans, (whole, one))]
        print(
            f"{name:6} {1e3 * slow / subject.places:12.2f}"
            f" {slow / whole:15.1f} {shares[0]:7.0%} {wrong['anywhere']:11.1e}"
            f" {slow / one:14.0f} {shares[1]:7.0%} {wrong['site']:11.1e}",
            flush=True,
        )


def responses(subject: Subject, name: str) -> float:
    """Return the largest response of a layer to the clean image."""
    engine = subject.windows(name).windows
    with torch.inference_mode():
        return float(engine.clean(subject.image).values[engine.target].abs().max())


def captum_seconds(subject: Subject, name: str, unit: int, site: list[int]) -> tuple[float, float]:
    """Return the seconds captum takes for each place, and its largest difference to ours, relative to the response."""
    from captum.attr import Occlusion as Peer

    layer = find(subject.model, name, subject.size)[0]
    kept: list[Tensor] = []
    module = subject.model.get_submodule(layer.tap.module)
    handle = module.register_forward_hook(lambda _, inputs, output: kept.append(output[:, unit, site[0], site[1]]))

    def response(images: Tensor) -> Tensor:
        subject.model(images)
        return kept.pop()

    step = subject.patch  # the largest that captum takes
    places = math.ceil((subject.side - subject.patch) / step) + 1

    def attribute() -> Tensor:
        with torch.no_grad():
            return Peer(response).attribute(
                subject.image[None],
                sliding_window_shapes=(3, subject.patch, subject.patch),
                strides=(3, step, step),
                baselines=subject.filled,
                perturbations_per_eval=32,
            )

    response(subject.image.expand(32, -1, -1, -1))
    start = time.perf_counter()
    peer = attribute()[0, 0]
    spent = (time.perf_counter() - start) / places**2
    handle.remove()
    with subject.windows(name) as windows:
        ours = windows.discrepancies(subject.image, subject.filled, [unit], [site], "site")[0, 0]
    both = [n * step for n in range(places) if n * step % subject.stride == 0 and n * step + step <= subject.side]
    wrong = max(abs(float(peer[y, x]) - ours[y // subject.stride, x // subject.stride]) for y in both for x in both)
    return spent, wrong / responses(subject, name)


def against_captum() -> None:
    """One unit at one site, three networks."""
    print("one unit, every place of the occluder      captum ms/place   ours ms (all places)        x   difference")
    for subject, layers in (
        (alexnet(), ("conv1", "conv2", "conv3", "conv4", "conv5")),
        (squeezenet(), ("features.3", "features.7", "features.12")),
        (mouse(), ("VISp4", "VISp2/3", "VISl4")),
    ):
        ratios = []
        for name in layers:
            with subject.windows(name) as windows:
                site = [side // 2 for side in windows.layer.map_size]
                ours = shortest(lambda: windows.discrepancies(subject.image, subject.filled, [0], [site], "site"))[0]
            slow, wrong = captum_seconds(subject, name, 0, site)
            ratios.append(slow * subject.places / ours)
            print(
                f"{subject.name:10} {name:12} {1e3 * slow:33.1f} {1e3 * ours:22.1f} {ratios[-1]:8.0f} {wrong:12.1e}",
                flush=True,
            )
        print(f"{subject.name}: geometric mean {geometric(ratios):.0f} x")


def whole_layer() -> None:
    """All 256 units of a layer on one image, each at the site of its maximum, against captum unit by unit."""
    subject = alexnet()
    ratios = []
    for name in ("conv4", "conv5"):
        with subject.windows(name) as windows, torch.inference_mode():
            maps = windows.windows.clean(subject.image).values[windows.windows.target][0]
            flat = maps.flatten(1).argmax(1)
            sites = torch.stack([flat // maps.shape[2], flat % maps.shape[2]], 1).numpy()
            units = np.arange(len(maps))
            ours = shortest(
                lambda: windows.discrepancies(subject.image, subject.filled, units, sites, "site"),
                times=2,
            )[0]
        slow, _ = captum_seconds(subject, name, 0, sites[0].tolist())
        slow *= subject.places * len(units)
        ratios.append(slow / ours)
        print(
            f"AlexNet {name}, {len(units)} units: {ours:.1f} s, captum {slow / 3600:.1f} h: {ratios[-1]:.0f} x",
            flush=True,
        )
    print(f"geometric mean {geometric(ratios):.0f} x")


def choice() -> None:
    """Several units on one image: one pass for all sites, or one for each, and what is chosen."""
    print("units  sites apart s  together s   chosen   slower than the better by")
    subject = alexnet()
    for name in ("conv2", "conv3", "conv4"):
        with subject.windows(name) as windows:
            side = windows.layer.map_size[0]
            for count in (1, 2, 3, 4, 6, 8, 12, 16, 32):
                spots = np.random.default_rng(count).integers(0, side, (count, 2))
                units = np.arange(count)
                engine = windows.windows
                low, high = spots.min(0), spots.max(0)
                together = engine.plan(tuple((int(a), int(b) + 1) for a, b in zip(low, high)))
                apart = [
                    (engine.plan(tuple((int(at), int(at) + 1) for at in spot)), torch.tensor([n]))
                    for n, spot in enumerate(spots)
                ]
                chosen = windows._plans(engine, torch.from_numpy(units), torch.from_numpy(spots), "site")

                def measured(plans: list, units: np.ndarray = units, spots: np.ndarray = spots) -> None:
                    windows._plans = lambda *_: plans
                    windows.discrepancies(subject.image, subject.filled, units, spots, "site")
                    del windows._plans

                both = [(together, torch.arange(count))], apart
                took = shortest(lambda: measured(both[0]), lambda: measured(both[1]))
                which = 0 if len(chosen) == 1 and chosen[0][0] is together else 1
                word = ("together", "apart")[which]
                print(
                    f"{name} {count:3} {took[1]:11.3f} {took[0]:11.3f}   {word:8} {took[which] / min(took) - 1:8.0%}",
                    flush=True,
                )


def memory() -> None:
    """The same map under a small budget."""
    subject = squeezenet()
    layer = find(subject.model, "features.7", subject.size)[0]
    for megabytes in (None, 64, 16):
        budget = None if megabytes is None else megabytes * 2**20
        with Occlusion(subject.model, layer, subject.size, subject.grid, memory=budget) as windows:
            spent = shortest(
                lambda: windows.discrepancies(subject.image, subject.filled, range(256), [[13, 13]] * 256, "mean"),
                times=1,
            )[0]
        print(f"memory {megabytes or 'free'} MB: {spent:.2f} s", flush=True)


PARTS = {"alexnet": against_brute, "peers": against_captum, "layer": whole_layer, "choice": choice, "memory": memory}


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for part in arguments.parts:
        print(f"== {part}: {PARTS[part].__doc__.splitlines()[0]}", flush=True)
        PARTS[part]()


if __name__ == "__main__":
    main()
