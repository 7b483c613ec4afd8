"""What rsa costs: the searchlight beside rsatoolbox's, and the recording of all layers beside the bare network.

    python benchmarks/rsa.py                     # about three minutes on two cores
    python benchmarks/rsa.py --every 1           # rsatoolbox at every voxel: most of an hour, 3 GB

Searchlight: 40 x 48 x 40 voxels, 92 conditions, 8 layers, each planted in a ball of its own; open sphere of radius 3
voxels (93 in it), 1 - Pearson's r, Spearman. Ours searches the whole volume. *rsatoolbox* finds the spheres of the
whole volume, and makes and compares the matrices of every n-th voxel, as its documentation does it (util.searchlight:
get_volume_searchlight, get_searchlight_RDMs, evaluate_models_searchlight with eval_fixed, in one process). *compare*
does the last step with one call of its rdm.compare instead, which leaves out the noise ceilings. All are given in
seconds for the whole volume; theirs is scaled from the voxels it worked on.

Recording: dissimilarities of all main layers of SqueezeNet and of its logits to 92 noise images, beside the network on
the same images; how often the network is called is counted. Shortest of interleaved repetitions.
"""

import argparse
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO

import numpy as np
import torch
import torchvision
from clock import shortest
from scipy.spatial.distance import pdist
from torch import nn

from cnnprobe.datasets.base.given import given_images
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.statistics.dissimilarity import dissimilarity
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.rsa.brain.searchlight import searchlight
from cnnprobe.methods.rsa.patterns import Patterns

SHAPE, CONDITIONS, LAYERS, RADIUS = (40, 48, 40), 92, 8, 3
LIMIT = 5
"""Times as fast as rsatoolbox the searchlight has to be."""
EQUAL = 1e-6
"""Largest difference from it."""


def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return patterns (x, y, z, condition), the layers' dissimilarities (layer, pair), and the middles of their balls.

    Voxels of a ball of radius 4 answer as features of its layer do, twice as strongly as the noise.
    """
    random = np.random.default_rng(0)
    patterns = random.standard_normal((*SHAPE, CONDITIONS)).astype(np.float32)
    features = random.standard_normal((LAYERS, CONDITIONS, 50))
    middles = np.array([[10 + 20 * (k & 1), 12 + 24 * (k >> 1 & 1), 10 + 20 * (k >> 2)] for k in range(LAYERS)])
    for middle, own in zip(middles, features):
        ball = ((np.indices(SHAPE) - middle[:, None, None, None]) ** 2).sum(0) <= 16
        patterns[ball] += 2 * own[:, random.integers(0, 50, ball.sum())].T
    return patterns, np.stack([pdist(own, "correlation") for own in features]), middles


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what others print out of the figures."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        yield


def searching(every: int, times: int) -> None:
    patterns, models, middles = planted()
    mask = np.ones(SHAPE, bool)
    flat = patterns.reshape(-1, CONDITIONS).T.astype(np.float64)
    with quiet():
        from rsatoolbox.inference import eval_fixed
        from rsatoolbox.model import ModelFixed
        from rsatoolbox.rdm import RDMs, compare
        from rsatoolbox.util.searchlight import (
            evaluate_models_searchlight,
            get_searchlight_RDMs,
            get_volume_searchlight,
        )

        start = time.perf_counter()
        every_centre, every_sphere = get_volume_searchlight(mask, radius=RADIUS, threshold=1.0)
        finding = time.perf_counter() - start
    centres, spheres = every_centre[::every], every_sphere[::every]
    fixed = [ModelFixed(str(place), one) for place, one in enumerate(models)]
    made, found = {}, {}

    def ours() -> None:
        found["ours"] = searchlight(patterns, mask, models, radius=RADIUS, least="all")

    def matrices() -> None:
        with quiet():
            made["rdms"] = get_searchlight_RDMs(flat, centres, spheres, np.arange(CONDITIONS), verbose=False)

    def documented() -> None:
        with quiet():
            results = evaluate_models_searchlight(made["rdms"], fixed, eval_fixed, method="spearman")
            found["theirs"] = np.array([result.evaluations.ravel() for result in results]).T

    def compared() -> None:
        with quiet():
            found["compare"] = compare(RDMs(models), made["rdms"], method="spearman")

    spent = shortest(ours, matrices, documented, compared, times=times)
    scale = len(every_centre) / len(centres)
    theirs, quick = (finding + scale * (spent[1] + last) for last in spent[2:])
    values = found["ours"].reshape(LAYERS, -1)[:, centres]
    difference = max(np.abs(values - found[one]).max() for one in ("theirs", "compare"))
    peaks = [np.unravel_index(np.nanargmax(one), SHAPE) for one in found["ours"]]
    print(f"searchlight of {mask.sum()} voxels, {CONDITIONS} conditions, {LAYERS} layers; rsatoolbox at {len(centres)}")
    print(f"{'':22}{'s':>9}{'ours is':>11}")
    print(f"{'ours':22}{spent[0]:9.1f}")
    for word, one in (("rsatoolbox", theirs), ("rsatoolbox, compare", quick)):
        print(f"{word:22}{one:9.1f}{one / spent[0]:9.1f} x")
    print(f"largest difference {difference:.1e} (at most {EQUAL:.0e}); peaks at most "
          f"{max(np.linalg.norm(np.subtract(*pair)) for pair in zip(peaks, middles)):.1f} voxels from where they were "
          "planted")  # fmt: skip
    holds = min(theirs, quick) >= LIMIT * spent[0] and difference <= EQUAL
    print(f"at least {LIMIT} x as fast and equal: {'holds' if holds else 'does not hold'}\n")


def recording(count: int, times: int, batch: int = 32) -> None:
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.squeezenet1_0(weights=None).eval()
    images = torch.rand(count, 3, 227, 227)
    dataset = given_images(images)
    layers = find(model, ["all", "logits"], (3, 227, 227))
    calls = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))

    def bare() -> None:
        with torch.inference_mode():
            for chunk in images.split(batch):
                model(chunk)

    def ours() -> None:
        calls.clear()
        options = {"ranked": False, "pixels": False, "computation": Computation(batch_size=batch)}
        work = Patterns(model, layers, dataset, **options).record()
        try:
            while True:
                next(work)
        except StopIteration as end:
            for products in end.value.values():
                dissimilarity(products, "correlation")

    spent = shortest(bare, ours, times=times)
    ours()
    passes = len(calls) / len(images.split(batch))
    print(f"recording of {len(layers)} layers of SqueezeNet, {count} images, and their matrices: {spent[1]:.2f} s, "
          f"bare network {spent[0]:.2f} s: {spent[1] / spent[0]:.2f} times that; {passes:g} pass(es)")  # fmt: skip


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--every", type=int, default=192, help="rsatoolbox works on every n-th voxel")
    words.add_argument("--images", type=int, default=92, help="of the recording")
    words.add_argument("--repetitions", type=int, default=2)
    words.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = words.parse_args()
    torch.set_num_threads(asked.threads)
    searching(asked.every, asked.repetitions)
    recording(asked.images, asked.repetitions)


if __name__ == "__main__":
    main()
