"""Every p value and every interval of every command keeps its promise: a thousand data sets whose truth is known.

An interval of 95 % holds the truth in 95 % of data sets or more, a p below 0.05 comes of nothing in 5 % or fewer, each
within what chance allows of so many data sets; of many values intervals are not needlessly wide. The statistics are
called as the commands call them.
"""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.distance import pdist
from torch import nn

import cnnprobe
from cnnprobe.datasets.base.given import given_images
from cnnprobe.instruments.statistics.mean_interval import mean_interval, share_interval
from cnnprobe.methods.cam.cue_combination import ClassMeans
from cnnprobe.methods.cam.localisation import Tally, averaged
from cnnprobe.methods.rsa.brain.peak_latency import latencies, peak_times
from cnnprobe.methods.rsa.brain.sign_flips import sign_flips
from cnnprobe.methods.rsa.comparing.comparison import compare
from cnnprobe.methods.rsa.comparing.inference import false_discovery, permutation_p
from cnnprobe.methods.rsa.comparing.noise_ceiling import noise_ceiling
from cnnprobe.methods.rsa.comparing.uncertainty import Uncertainty
from cnnprobe.store.tables import Rows

pytestmark = pytest.mark.slow
SETS = 1000
"""Data sets behind each number."""
CHANCE = 1e-3
"""How often chance alone may fail an assertion."""


def holds(hits, count=SETS, share=0.95):
    """Say whether so many hits go with a probability of `share` or more."""
    return hits >= stats.binom.ppf(CHANCE, count, share)


def at_most(hits, count=SETS, share=0.05):
    """Say whether so many hits go with a probability of `share` or less."""
    return hits <= stats.binom.ppf(1 - CHANCE, count, share)


# ---- train, transfer: accuracy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5, 20, 100, 1000])
def test_accuracy(count):
    """F99: the exact probability that the interval holds the accuracy, for a thousand accuracies."""
    ends = np.array([share_interval(right, count) for right in range(count + 1)])
    truths = np.linspace(0.0005, 0.9995, SETS)
    inside = (ends[:, 0] <= truths[:, None]) & (truths[:, None] <= ends[:, 1])
    held = (stats.binom.pmf(np.arange(count + 1), count, truths[:, None]) * inside).sum(1)
    assert held.min() >= 0.95 - 1e-9
    assert count < 1000 or np.median(held) < 0.96


# ---- cam: localisation -----------------------------------------------------------------------------------------------

VALUES = {
    "skewed": (lambda random, count: random.beta(2, 5, count), 2 / 7),
    "near 0": (lambda random, count: random.beta(0.5, 3, count), 1 / 7),
    "near 1": (lambda random, count: random.beta(8, 1, count), 8 / 9),
    "mostly 0": (lambda random, count: random.random(count) * (random.random(count) < 0.1), 0.05),
    "rare hits": (lambda random, count: (random.random(count) < 0.05) * 1.0, 0.05),
    "hits": (lambda random, count: (random.random(count) < 0.7) * 1.0, 0.7),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("count", [2, 3, 5, 30, 300])
def test_localisation_of_a_class(kind, count):
    """F99: pointing, overlap and energy of a class of so many images."""
    draw, truth = VALUES[kind]
    random = np.random.default_rng(count)
    ends = np.array([mean_interval([draw(random, count)]) for _ in range(SETS)])
    assert holds(((ends[:, 0] <= truth + 1e-9) & (truth <= ends[:, 1] + 1e-9)).sum())
    normal = 3.92 * np.std([draw(random, count).mean() for _ in range(SETS)])
    assert count < 300 or np.mean(ends[:, 1] - ends[:, 0]) < 1.25 * normal


@pytest.mark.parametrize("sizes", [(2, 2), (2, 3, 5, 2, 3, 5, 2, 3), (1,) * 10, (2, 30), (40, 60, 80)])
def test_localisation_over_classes(sizes):
    """F99: classes of different kinds and numbers of images."""
    random = np.random.default_rng(len(sizes))
    kinds = [tuple(VALUES.values())[place % len(VALUES)] for place in range(len(sizes))]
    truth, held = np.mean([mean for _, mean in kinds]), 0
    for _ in range(SETS):
        tallies = [Tally(values=draw(random, count).tolist()) for (draw, _), count in zip(kinds, sizes)]
        _, low, high, _ = averaged(tallies)
        held += low <= truth <= high
    assert holds(held)


# ---- cam: class means of cccam ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [30, 200])
def test_the_bootstrap_ratio_of_class_means(images):
    """F99: the mean over its standard error, and the contrast over its, are normal where there is nothing."""
    random, beyond = np.random.default_rng(0), np.zeros(2)
    for start in range(0, SETS, 100):  # a hundred independent px are a hundred data sets
        means = ClassMeans(draws=300, seed=start)
        for image in range(2 * images):
            means.add(image % 2, image, random.normal(size=(10, 10)))
        found = means.of([0, 1], (10, 10))
        beyond += [(np.abs(found[name][0]) > 1.96).sum() for name in ("mean_ratio", "contrast_ratio")]
    expected = 2 * stats.t.sf(1.96, images - 1)
    assert all(at_most(count, SETS, expected + 0.005) and holds(count, SETS, 0.035) for count in beyond)


# ---- rsa -------------------------------------------------------------------------------------------------------------


def world(random, conditions, share, subjects=1, between=0.0, models=2):
    """Return matrices of models and subjects whose patterns have a part in common, and so a similarity."""
    common = random.normal(size=(conditions, 20))

    def matrix(own):
        return pdist(own * common + np.sqrt(1 - own**2) * random.normal(size=(conditions, 20)), "correlation")

    each = np.clip(share + between * random.normal(size=subjects), 0, 0.99)
    return np.stack([matrix(share) for _ in range(models)]), np.stack([matrix(one) for one in each])


def truth_of(share, between=0.0):
    """Return the similarity in the whole population, from very many conditions and subjects."""
    if not share:
        return 0.0
    random = np.random.default_rng(9)
    return np.mean([compare(*world(random, 300, share, 40, between, 10), "spearman").mean() for _ in range(5)])


RSA = [
    ("conditions", 5, 1, 0.0, 0.0), ("conditions", 8, 1, 0.8, 0.0), ("conditions", 12, 1, 0.0, 0.0),
    ("conditions", 30, 1, 0.0, 0.0), ("conditions", 30, 4, 0.8, 0.0), ("conditions", 60, 1, 0.9, 0.0),
    ("subjects", 20, 3, 0.8, 0.1), ("subjects", 20, 4, 0.0, 0.0), ("subjects", 20, 12, 0.8, 0.1),
    ("subjects", 12, 40, 0.8, 0.1), ("both", 12, 4, 0.8, 0.1), ("both", 20, 8, 0.8, 0.15), ("both", 30, 3, 0.0, 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("over", "conditions", "subjects", "share", "between"), RSA)
def test_similarity_and_differences(over, conditions, subjects, share, between):
    """F99: intervals of similarity and of the difference of two layers, and its p, where the layers are equally alike.

    Over subjects the conditions are the same in every data set, and the truth is that of very many subjects.
    """
    random, held, apart, rare, widths, values = np.random.default_rng(1), 0, 0, 0, [], []
    truth = truth_of(share, between)
    fixed = None
    for seed in range(SETS):
        if over == "subjects":
            if seed % 50 == 0:  # other conditions
                models, many = world(random, conditions, share, 1500, between)
                alike = compare(models, many, "spearman")
                fixed = alike.mean(1)
            truth = fixed[0]
            references = many[random.choice(len(many), subjects, replace=False)]
        else:
            models, references = world(random, conditions, share, subjects, between)
        found = Uncertainty(models, [references], "spearman", draws=150, over=over, seed=seed)
        list(found.work())
        low, high = found.intervals()
        ends = found.differences(np.array([0]), np.array([1]))
        difference = fixed[0] - fixed[1] if over == "subjects" else 0.0
        held += low[0, 0] <= truth <= high[0, 0]
        apart += ends[0][0, 0] <= difference <= ends[1][0, 0]
        rare += ends[2][0, 0] <= 0.05
        widths.append(high[0, 0] - low[0, 0])
        values.append(found.each[0].mean())
    assert holds(held) and holds(apart), (held, apart)
    assert over == "subjects" or at_most(rare), rare
    if over == "conditions" and conditions >= 30:  # near a similarity of 0 too
        assert np.mean(widths) < 1.35 * 3.92 * np.std(values)
    if over == "conditions" and conditions >= 12:
        assert rare > 0.01 * SETS, rare


@pytest.mark.parametrize(("conditions", "comparison"), [(6, "spearman"), (20, "pearson"), (60, "spearman")])
def test_p_of_permuted_conditions(conditions, comparison):
    """F99: uniform where the matrices have nothing in common."""
    random = np.random.default_rng(2)
    p = np.array([
        permutation_p(*world(random, conditions, 0.0, 2, models=1), comparison, draws=99, seed=seed)[0]
        for seed in range(SETS)
    ])  # fmt: skip
    assert (
        at_most((p <= 0.05).sum()) and at_most((p <= 0.01).sum(), share=0.01) and at_most((p <= 0.5).sum(), share=0.5)
    )
    assert conditions < 20 or (holds((p <= 0.05).sum(), share=0.04) and stats.kstest(p, "uniform").pvalue > CHANCE)


def test_false_discovery_rate_over_layers():
    """F99: where there is nothing in any of 26 layers, one is found in 5 % of runs at most."""
    random = np.random.default_rng(3)
    p = (1 + random.integers(0, 2001, (26, SETS))) / 2001
    assert at_most((false_discovery(p) <= 0.05).any(0).sum())


@pytest.mark.parametrize(("subjects", "comparison"), [(2, "spearman"), (4, "pearson"), (12, "spearman")])
def test_the_noise_ceiling_holds_the_true_model(subjects, comparison):
    """F99: on average over data sets; a model without noise lies between its ends."""
    random, found = np.random.default_rng(4), []
    for _ in range(SETS):
        common = pdist(random.normal(size=(10, 20)))
        people = common + 0.7 * random.normal(size=(subjects, len(common)))
        found.append((*noise_ceiling(people, comparison), compare(common[None], people, comparison).mean()))
    low, high, own = np.mean(found, 0)
    assert low < own < high and high - low < 0.45 / subjects**0.5


@pytest.mark.parametrize(("subjects", "skewed"), [(5, False), (8, True), (12, False)])
def test_familywise_error_of_the_searchlight(subjects, skewed):
    """F99: of smooth maps of nothing a place of any layer is found in 5 % of groups at most."""
    random, p = np.random.default_rng(subjects), []
    for seed in range(SETS):
        maps = random.standard_t(4, (subjects, 2, 6, 6, 6)) * (0.2 + skewed * random.random((1, 1, 6, 6, 6)))
        p.append(sign_flips(maps, draws=127, seed=seed)[1].min())
    p = np.array(p)
    assert at_most((p <= 0.05).sum()) and at_most((p <= 0.2).sum(), share=0.2)
    assert subjects < 8 or holds((p <= 0.2).sum(), share=0.17)


@pytest.mark.parametrize(("subjects", "noise", "jitter"), [(3, 0.1, 10), (4, 0.3, 0), (4, 0.05, 20), (12, 0.1, 15)])
def test_latencies_and_their_order(subjects, noise, jitter):
    """F99: peaks of the mean curve of few subjects, each of whom peaks earlier or later, in smooth noise."""
    random, times, layers = np.random.default_rng(subjects), np.arange(60) * 10.0, 4
    centres = 150 + 50.0 * np.arange(layers)
    held, ordered = np.zeros(layers), 0
    for _ in range(SETS):
        shift = random.normal(0, jitter, (subjects, 1, 1))
        curves = 0.3 * np.exp(-(((times - centres[:, None] - shift) / 60) ** 2) / 2)
        rough = gaussian_filter1d(random.normal(size=curves.shape), 2, axis=-1)
        curves = curves + noise * rough / rough.std()
        weights = random.multinomial(subjects, np.full(subjects, 1 / subjects), 200) / subjects
        drawn = peak_times(np.tensordot(weights, curves, 1), times)
        found = latencies(curves.mean(0), drawn, times, subjects)
        held += (found.low <= centres) & (centres <= found.high)
        ordered += found.order_low <= 1 <= found.order_high
    assert all(holds(one) for one in held) and holds(ordered), (held, ordered)


# ---- perturb ---------------------------------------------------------------------------------------------------------


class Energy(nn.Module):
    """Units that read the amplitude of one frequency each, of the first channel alone."""

    def __init__(self, length, units):
        super().__init__()
        turns = 2 * torch.pi * torch.arange(1, units + 1)[:, None] * torch.arange(length) / length
        self.waves = nn.Parameter(torch.stack([turns.cos(), turns.sin()]))
        self.after = nn.Identity()

    def forward(self, signals):
        parts = torch.einsum("put,nt->pnu", self.waves, signals[:, 0])
        return self.after(parts.square().sum(0).sqrt()[..., None])


@pytest.mark.parametrize("loudness", [0.0, 1.0])
@pytest.mark.parametrize("noise", ["additive", "gain"])
def test_null_levels_of_bands(noise, loudness):
    """F99: of recordings as loud as each other or not, what a unit does not read passes its null level as asked.

    8 units read one channel of 3; any band of the two others is above the level of all in 2 of 3 of 5 % at most.
    """
    random, passed, count = np.random.default_rng(5), 0, 0
    model, units, length = nn.Sequential(Energy(32, 8)).eval(), 8, 32
    for seed in range(SETS // units):
        signals = random.standard_normal((60, 3, length)) * np.exp(loudness * random.standard_normal((60, 1, 1)))
        given = {"model": model, "dataset": given_images(signals.astype(np.float32)), "layer": "0.after", "seed": seed}
        options = {
            "bands": 6,
            "noise": noise,
            "draws": 2,
            "permutations": 99,
            "gradient_images": 0,
            "kind": "amplitude",
        }
        found = {}
        for event in cnnprobe.measure("perturb", **given, **options).events:
            if isinstance(event, Rows) and event.table.startswith("units/"):
                found |= event.columns
        foreign = np.abs(found["amplitude"][:, :, 1:]).max((1, 2))
        passed += (foreign > found["amplitude_null"]).sum()
        count += units
    # units of one set of recordings are not independent
    assert at_most(passed / 2, count // 2, share=2 / 3 * 0.05), passed
