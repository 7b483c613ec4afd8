"""Are capsules more robust than a convolutional network of their size, and is it the routing? A sweep over seeds.

    python benchmarks/capsules.py FOLDER                       # five seeds: half an hour on one thread
    python benchmarks/capsules.py FOLDER --seeds 2 --count 1600

Four networks learn the shapes of `dataset=poses` at any place within 3 px: capsules with three iterations of routing,
with one (all couplings equal), with three and no decoder, and a convolutional network with max-pooling of nearly as
many parameters as the capsules have without their decoder. Each is asked for other images of the same range, and for
shapes that are turned, scaled, sheared or shifted further than it has seen. Printed are means over seeds with the
standard deviation, and the mean difference from the convolutional network of the same seed with its
95 % interval (Student's t). A run that is there already is not repeated.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy import stats

NETWORKS = {
    "capsules, 3 iterations": ["experiment=capsules"],
    "capsules, 1 iteration": ["experiment=capsules", "model.routing=1"],
    "capsules without decoder": ["experiment=capsules", "model.decoder=null"],
    "CNN with max-pooling": ["model=custom"],
}
LEARNING = ["batch_size=64", "lr=0.002", "optimizer=adam", "weight_decay=0", "augment=none"]
"""As `experiment=capsules` has it."""
RANGES = {
    "in range": [],
    "turn 30": ["dataset.turn=30"],
    "scale 0.35": ["dataset.scale=0.35"],
    "shear 0.4": ["dataset.shear=0.4"],
    "shift 6": ["dataset.shift=6"],
}
POOLING = """from torch import nn

import cnnprobe


def build():
    net = nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 8),
    )
    net.cnnprobe = cnnprobe.About(input_size=(3, 28, 28))
    return net
"""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folder", type=Path, help="where the runs go")
    words.add_argument("--seeds", type=int, default=5)
    words.add_argument("--count", type=int, default=3200, help="images that are learned from")
    words.add_argument("--epochs", type=int, default=6)
    asked = words.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    file = asked.folder / "pooling.py"
    file.write_text(POOLING)
    found = np.full((len(NETWORKS), asked.seeds, len(RANGES)), np.nan)
    learning = [f"dataset.count={asked.count}", f"method.epochs={asked.epochs}"]
    for seed in range(asked.seeds):
        for place, (name, options) in enumerate(NETWORKS.items()):
            own = options
            if name.startswith("CNN"):
                own = [*options, f"model.file={file}", "model.input_size=28", *LEARNING]
            run = asked.folder / f"{seed}-{place}"
            trained = done(run, "train", [*own, "dataset=poses", *learning, f"seed={seed}"])
            for column, (words_of, more) in enumerate(RANGES.items()):
                network = [word for word in own if word.startswith("model")]
                network = network if name.startswith("CNN") else ["model=capsnet", *network]
                given = [*network, "dataset=poses", *more, f"weights={trained}"]
                shown = done(run / words_of.replace(" ", "-"), "record", given)
                found[place, seed, column] = json.loads((shown / "run.json").read_text())["headline"]["top-1"]
        report(found[:, : seed + 1])


def done(out: Path, command: str, words: list[str]) -> Path:
    """Return the folder of a run, which is made unless it is there."""
    there = sorted(out.glob(f"{command}/*/v*/run.json"))
    if not there:
        call = [sys.executable, "-m", "cnnprobe", command, *words, f"out={out}"]
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
        there = sorted(out.glob(f"{command}/*/v*/run.json"))
    return there[-1].parent


def report(found: np.ndarray) -> None:
    """Print accuracies (network, seed, range)."""
    print(f"\n{found.shape[1]} seeds\n{'':<28}" + "".join(f"{name:>16}" for name in RANGES))
    for name, scores in zip(NETWORKS, found):
        spread = scores.std(0, ddof=1) if len(scores) > 1 else np.full(len(RANGES), np.nan)
        print(f"{name:<28}" + "".join(f"{mean:>9.3f} ± {one:.3f}" for mean, one in zip(scores.mean(0), spread)))
    for name, scores in list(zip(NETWORKS, found))[:-1]:
        away = scores - found[-1]
        half = np.full(len(RANGES), np.nan)
        if len(away) > 1:
            half = stats.t.ppf(0.975, len(away) - 1) * away.std(0, ddof=1) / np.sqrt(len(away))
        print(f"{name + ' - CNN':<32}" + "".join(f"{mean:>+8.3f} ± {one:.3f}" for mean, one in zip(away.mean(0), half)))


if __name__ == "__main__":
    main()
