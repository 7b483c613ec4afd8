"""What a change costs: topk, gbp, rf-map and optimize of four networks in this checkout beside another one.

    git worktree add ../before COMMIT
    python benchmarks/versions.py ../before              # about ten minutes on two cores
    python benchmarks/versions.py ../before --networks squeezenet --pairs 15

Two processes, one for each checkout, each with the same network and images in memory, measure in turn on one thread;
of every pair of measurements the processor time of ours is divided by theirs, and the median of the ratios is printed.
*first* is the measurement that meets the network for the first time, with all that is found out about it once; what it
costs more than a later one is printed in seconds and in passes of one image. Random weights, noise images, float32.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

IMAGES = 64
WORK = {
    "topk": {"k": 9},
    "gbp": {"top_images": 5, "units": list(range(16)), "sanity": False},
    "rf-map": {"top_images": 2, "units": [0, 1], "draws": 1},
    "optimize": {"units": [0, 1, 2], "steps": 16},
}
NETWORKS = {
    "squeezenet": (224, "features.6"),
    "alexnet": (224, "features.6"),
    "resnet18": (224, "layer2"),
    "mousenet": (64, "VISp2/3"),
}


def network(name: str):
    """Return a network with random weights, the same in every process."""
    import torch
    import torchvision

    from cnnprobe.models import mousenet

    torch.manual_seed(0)
    if name == "mousenet":
        options = {"variant": "mousenet64", "readout": "pool4", "mask": "per_channel", "mask_seed": 2021}
        return mousenet.build(num_classes=10, input_size=None, upsample_to=None, **options).eval()
    if name == "squeezenet":
        return torchvision.models.squeezenet1_0(weights=None).eval()
    return torchvision.models.get_model(name, weights=None).eval()


def serve(name: str) -> None:
    """Measure what is asked for, a line each; answer with seconds of processor time."""
    import torch

    import cnnprobe

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):  # both on the same core: two of them are seldom as fast as each other
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    side, layer = NETWORKS[name]
    images = torch.rand((IMAGES, 3, side, side), generator=torch.Generator().manual_seed(0))
    kept = network(name)
    for line in sys.stdin:
        command, new = json.loads(line)
        if new:
            kept = network(name)
        start = time.process_time()
        if command == "bare":
            with torch.inference_mode():
                kept(images[:1])
        else:
            found = cnnprobe.measure(command, model=kept, dataset=images, layer=layer, **WORK[command])
            for _ in found.events:
                pass
        print(json.dumps(time.process_time() - start), flush=True)


class Checkout:
    """A process that measures with the code of one checkout."""

    def __init__(self, tree: Path, name: str):
        environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-W", "ignore", __file__, "--serve", name]
        self.process = subprocess.Popen(
            words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def seconds(self, command: str, new: bool = False) -> float:
        """Return the processor time of one measurement, with a network that is new to it or the same as before."""
        self.process.stdin.write(json.dumps([command, new]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(tree: Path, name: str, commands: list[str], pairs: int) -> None:
    """Print a line for each command."""
    sides = [Checkout(Path(__file__).resolve().parent.parent, name), Checkout(tree, name)]
    for side in sides:
        for _ in range(3):
            side.seconds("bare")
    alone = statistics.median(sides[0].seconds("bare") for _ in range(9))
    for command in commands:
        for side in sides:
            side.seconds(command)
        first, later = [], []
        for pair in range(pairs):
            order = sides if pair % 2 else sides[::-1]
            told = [{side: side.seconds(command, new) for side in order} for new in (True, False)]
            first.append([told[0][side] for side in sides])
            later.append([told[1][side] for side in sides])
        ratio, whole = (statistics.median(ours / theirs for ours, theirs in found) for found in (later, first))
        once = statistics.median(a[0] - b[0] - a[1] + b[1] for a, b in zip(first, later))
        print(
            f"{name:10s} {command:8s} {statistics.median(ours for ours, _ in later):7.2f} s  {ratio:.3f} of the other"
            f"  first {whole:.3f}, {once:+.2f} s = {once / alone:+.1f} passes of one image",
            flush=True,
        )
    for side in sides:
        side.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", nargs="?", type=Path, help="the other checkout")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--commands", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--serve", choices=NETWORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    for name in options.networks:
        compare(options.other, name, options.commands, options.pairs)


if __name__ == "__main__":
    main()
