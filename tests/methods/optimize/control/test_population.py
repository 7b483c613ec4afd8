"""Population control in planted pairs of networks, where the mapping and the best directions are known."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.datasets.base.given import given_images
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import activations, tap
from cnnprobe.instruments.statistics.ridge import Mapping
from cnnprobe.methods.optimize.control.population import Brain, OneHot, Population, Stretch, features, fitted, learn
from cnnprobe.store.tables import Advance

SIZE = (1, 12, 12)


def finished(generator):
    """Return what a generator gave, and what it returned."""
    given = []
    while True:
        try:
            given.append(next(generator))
        except StopIteration as end:
            return given, end.value


def smooth(images, size=SIZE, seed=0):
    """Return noise whose neighbours are alike, (image, channel, y, x), 0.2 to 0.8."""
    noise = torch.rand(images, size[0], size[1] // 3, size[2] // 3, generator=torch.Generator().manual_seed(seed))
    return 0.2 + 0.6 * nn.functional.interpolate(noise, size[1:], mode="bilinear")


def pair(heads=(0, 1)):
    """Return two networks with the same first layer, of kernels without a mean, and heads of their own."""
    made = []
    for seed in heads:
        torch.manual_seed(7)
        shared = nn.Conv2d(1, 8, 5)
        shared.weight.data -= shared.weight.data.mean((1, 2, 3), keepdim=True)
        nn.init.constant_(shared.bias, 0.05)
        torch.manual_seed(100 + seed)
        head = nn.Conv2d(8, 6, 3)
        nn.init.constant_(head.bias, 0.02)
        made.append(nn.Sequential(shared, nn.ReLU(), head, nn.ReLU()).eval())
    return made


def ascend(model, layer, objective, steps=150, rate=0.02, seed=0):
    """Climb an objective from noise, pixels kept from 0 to 1, every row with its image; return the images."""
    start = torch.rand(objective.rows, *SIZE, generator=torch.Generator().manual_seed(seed))
    images, read = (0.4 + 0.2 * start).requires_grad_(), {}
    with tap(model, [layer], lambda layer, activation: read.update({layer.name: activation})) as run:
        for _ in range(steps):
            run(images)
            (gradient,) = torch.autograd.grad(objective(read).sum(), images)
            step = gradient / gradient.flatten(1).std(1).clamp(min=1e-12)[:, None, None, None]
            images = (images.detach() + rate * step).clamp(0, 1).requires_grad_()
    return images.detach()


@pytest.fixture(scope="module")
def controlled():
    first, second = pair()
    layer = find(first, "conv1", SIZE)[0]
    brain = Brain(second, find(second, "conv2", SIZE)[0], np.arange(6), SIZE)
    _, population = finished(learn(first, layer, brain, batches(given_images(smooth(300)), batch_size=64)))
    targets = np.flatnonzero(~population.constant)
    return first, layer, brain, population, targets


def test_stretch_through_the_first_network_drives_the_second_beyond_every_natural_image(controlled):
    first, layer, brain, population, targets = controlled
    assert len(targets) >= 4
    images = ascend(first, layer, Stretch(population, targets))
    found = population.judge(brain.responses(images), targets)
    with torch.no_grad():  # nothing of the mapping: the second network itself
        made = brain.model(images).mean((2, 3)).numpy()[np.arange(len(targets)), targets]
        natural = brain.model(smooth(300)).mean((2, 3)).numpy()[:, targets].max(0)
    assert (made > natural).all()
    np.testing.assert_allclose(found.response, made, rtol=1e-5)
    np.testing.assert_allclose(found.best_natural, natural, rtol=1e-5)
    np.testing.assert_allclose(found.stretch_gain, 100 * (made - natural) / natural, rtol=1e-3)


def linear_head(seed=3):
    """Return the second network with a head that is linear in the means of the shared layer, and what it is."""
    second = pair()[1]
    torch.manual_seed(seed)
    readout = nn.Conv2d(8, 6, 1)
    return nn.Sequential(second[0], nn.ReLU(), readout).eval(), readout


def test_one_hot_isolates_its_target_better_than_stretch_and_than_any_natural_image():
    """Where the mapping is exact, so that it is the objective that is judged."""
    first, second = pair()[0], linear_head()[0]
    layer = find(first, "conv1", SIZE)[0]
    brain = Brain(second, find(second, "conv2", SIZE)[0], np.arange(6), SIZE)
    _, population = finished(learn(first, layer, brain, batches(given_images(smooth(200)), batch_size=100)))
    targets = np.arange(6)
    alone, strong = (
        population.judge(brain.responses(ascend(first, layer, kind(population, targets))), targets)
        for kind in (OneHot, Stretch)
    )
    assert (alone.one_hot > alone.best_natural_one_hot).all()
    assert (alone.one_hot >= strong.one_hot - 1e-6).all()
    assert (strong.response >= alone.response - 1e-6).all()


def test_the_mapping_of_a_readout_that_is_linear_in_the_layer_is_exact():
    """The brain's unit is the mean over its map of a 1x1 readout of the shared layer: the weights are the kernel's."""
    first, (second, readout) = pair()[0], linear_head()
    brain = Brain(second, find(second, "conv2", SIZE)[0], np.array([4, 1]), SIZE)
    loaded = batches(given_images(smooth(80)), batch_size=32)
    layer = find(first, "conv1", SIZE)[0]
    events, population = finished(learn(first, layer, brain, loaded))
    assert events == [Advance(32), Advance(32), Advance(16)]
    kernel = readout.weight[[4, 1], :, 0, 0].detach().numpy().T
    np.testing.assert_allclose(population.mapping.weights, kernel, atol=2e-3)
    assert (population.mapping.r2 > 0.9999).all()
    images = smooth(5, seed=9)
    predicted = Stretch(population, np.array([0, 1])).every(activations(first, [layer], images))
    np.testing.assert_allclose(predicted, brain.responses(images), atol=1e-4)


def linear_population(weights, deviation=1.0):
    """Return a population that reads a layer of vectors by given weights (unit, f); responses to white noise."""
    weights = np.asarray(weights, float)
    seen = np.random.default_rng(3).normal(size=(4000, weights.shape[1]))
    seen = np.linalg.qr(seen - seen.mean(0))[0] * np.sqrt(4000)  # white to the last digit
    mapping = Mapping(weights.T, np.zeros(len(weights)), *[np.zeros(len(weights))] * 2, np.zeros(len(weights), bool))
    return Population(mapping, deviation * (seen @ weights.T), "layer", "mean")


def two_neurons(cosine, f=10):
    rng = np.random.default_rng(5)
    basis = np.linalg.qr(rng.normal(size=(f, 2)))[0].T
    return basis[0], cosine * basis[0] + np.sqrt(1 - cosine**2) * basis[1]


def cosine(a, b):
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("alike", [-0.5, 0.0, 0.8, 0.95])
@pytest.mark.parametrize(("objective", "target"), [(Stretch, 0), (OneHot, 0), (OneHot, 1)])
def test_of_two_neurons_one_hot_climbs_the_difference_and_stretch_the_weights(alike, objective, target):
    """The optimum of all images of the same norm, reached from anywhere."""
    own, other = two_neurons(alike)[:: -1 if target else 1]
    climbed = objective(linear_population(two_neurons(alike)), np.array([target]))
    image = torch.randn(1, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for _ in range(500):
        image = (image / image.norm()).requires_grad_()
        (gradient,) = torch.autograd.grad(climbed({"layer": image}).sum(), image)
        image = image.detach() + 0.5 * gradient / gradient.norm()
    expected = own if objective is Stretch else own - other
    assert cosine(image[0].numpy(), expected) > 0.999
    assert cosine(gradient[0].numpy(), expected) > 0.999


def test_one_hot_is_the_softmax_of_z_scores_and_its_gradient_that_of_the_formula():
    """Differently scaled responses: finite differences of exp(z_t) / sum exp(z_n) written out."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, 6)) * np.array([[1], [10], [0.1], [3]])
    population = linear_population(weights)
    deviation, mean = population.natural.std(0), population.natural.mean(0)

    def score(vector, target):
        z = (weights @ vector - mean) / deviation
        return np.exp(z[target]) / np.exp(z).sum()

    image = torch.tensor(rng.normal(size=(1, 6)), requires_grad=True)
    for target in range(4):
        value = OneHot(population, np.array([target]))({"layer": image}).exp()
        answer = OneHot(population, np.array([target])).response({"layer": image})
        np.testing.assert_allclose([value.item(), answer.item()], score(image.detach().numpy()[0], target), rtol=1e-10)
        (gradient,) = torch.autograd.grad(value, image)
        for axis in range(6):
            nudge = np.eye(6)[axis] * 1e-6
            base = image.detach().numpy()[0]
            slope = (score(base + nudge, target) - score(base - nudge, target)) / 2e-6
            np.testing.assert_allclose(gradient[0, axis].item(), slope, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(
        population.one_hot(weights @ base), [score(base, target) for target in range(4)], rtol=1e-10
    )


def test_the_log_of_the_score_has_a_gradient_where_another_unit_wins_by_far():
    population = linear_population(np.eye(2) * 1e-3)
    image = torch.tensor([[0.0, 500.0]], dtype=torch.float32, requires_grad=True)  # z = 0 and 500
    (gradient,) = torch.autograd.grad(OneHot(population, np.array([0]))({"layer": image}), image)
    assert gradient[0, 0] > 0.9
    assert population.one_hot(np.array([0.0, 0.5]))[0] < 1e-100


@pytest.mark.parametrize("kind", [Stretch, OneHot])
def test_rows_are_independent_and_can_be_taken_apart(kind):
    population = linear_population(np.random.default_rng(2).normal(size=(5, 6)))
    objective = kind(population, np.array([3, 0, 4]))
    images = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    whole = objective({"layer": images})
    assert objective.layers == ("layer",)
    assert (objective.rows, objective.of([2, 0]).rows) == (3, 2)
    np.testing.assert_allclose(objective.of([2, 0])({"layer": images[[2, 0]]}).detach(), whole[[2, 0]].detach())
    alone = [kind(population, np.array([t]))({"layer": images[[row]]}).item() for row, t in enumerate((3, 0, 4))]
    np.testing.assert_allclose(whole.detach(), alone)
    (gradient,) = torch.autograd.grad(whole[1], images)
    assert not gradient[[0, 2]].any()
    assert gradient[1].any()


def test_units_that_answer_all_natural_images_alike_are_flagged_left_out_and_give_no_gradient():
    first, second = pair()
    nn.init.constant_(second[2].weight[2], 0.0)  # answers 0.1 to everything
    second[2].bias.data[4] = -1e3  # dead
    brain = Brain(second, find(second, "conv2", SIZE)[0], np.arange(6), SIZE)
    layer = find(first, "conv1", SIZE)[0]
    _, population = finished(learn(first, layer, brain, batches(given_images(smooth(60)), batch_size=60)))
    assert population.constant[[2, 4]].all()
    varying = np.flatnonzero(~population.constant)
    maps = activations(first, [layer], smooth(3))["conv1"].requires_grad_()
    for kind in (Stretch, OneHot):
        (gradient,) = torch.autograd.grad(kind(population, np.array([varying[0], 2, 4]))({"conv1": maps}).sum(), maps)
        assert gradient[0].any()
        assert not gradient[1:].any()
    shares = population.one_hot(population.natural)
    assert np.isnan(shares[:, [2, 4]]).all()
    np.testing.assert_allclose(np.nansum(shares, 1), 1)
    z = population.natural[:, varying]
    z = np.exp((z - z.mean(0)) / z.std(0))
    np.testing.assert_allclose(shares[:, varying], z / z.sum(1, keepdims=True), rtol=1e-9)
    predicted = OneHot(population, varying).every(activations(first, [layer], smooth(3))).exp()
    np.testing.assert_allclose(predicted.sum(1), 1, rtol=1e-5)
    made = population.judge(brain.responses(smooth(6, seed=4)), np.arange(6))
    np.testing.assert_allclose(made.best_natural_one_hot, shares.max(0))
    assert np.isnan(made.stretch_gain[[2, 4]]).all()
    assert np.isnan(made.one_hot[[2, 4]]).all()


def test_one_hot_of_a_single_unit_is_refused():
    with pytest.raises(UserError, match="it needs two units that vary, got 1"):
        OneHot(linear_population(np.eye(3)[:1]), np.array([0]))


def test_a_gain_over_a_best_natural_response_that_is_not_positive_is_no_number():
    population = linear_population(np.eye(3))
    shifted = Population(population.mapping, population.natural - 100, "layer", "mean")
    found = shifted.judge(np.zeros((2, 3)), [0, 2])
    assert np.isnan(found.stretch_gain).all()
    assert (found.response == 0).all()
    assert np.isfinite(found.one_hot).all()


def test_a_brain_answers_by_maximum_or_mean_whatever_the_size_of_the_images_and_stays_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 5))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer = find(model, "conv1", (3, 10, 10))[0]
    images = torch.rand(7, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    model.eval()
    with torch.no_grad():
        maps, logits = model[:3](images).numpy(), model(images).numpy()
    model.train()
    for criterion, expected in (("max", maps.max((2, 3))), ("mean", maps.mean((2, 3)))):
        brain = Brain(model, layer, np.array([2, 0]), (3, 10, 10), criterion)
        np.testing.assert_allclose(brain.responses(images, batch_size=3), expected[:, [2, 0]], rtol=1e-5)
    dense = Brain(model, find(model, "4", (3, 10, 10))[0], np.array([3]), (3, 10, 10))
    np.testing.assert_allclose(dense.responses(images), logits[:, [3]], rtol=1e-4, atol=1e-6)
    larger = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert dense.responses(larger).shape == (7, 1)
    assert dense.responses(images[:0]).shape == (0, 1)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_images_are_fitted_to_the_brain():
    flat = torch.full((2, 3, 16, 16), 0.25)
    assert fitted(flat, (3, 16, 16)) is flat
    assert torch.allclose(fitted(flat, (3, 7, 9)), torch.full((2, 3, 7, 9), 0.25))
    assert torch.equal(fitted(torch.rand(2, 1, 8, 8), (3, 8, 8)).std(1), torch.zeros(2, 8, 8))
    colours = torch.rand(2, 3, 8, 8)
    assert torch.allclose(fitted(colours, (1, 8, 8))[:, 0], colours.mean(1))
    assert fitted(torch.rand(2, 2, 50), (2, 25)).shape == (2, 2, 25)
    stripes = torch.isin(torch.arange(32) % 4, torch.tensor([1, 2])).float().expand(1, 1, 32, 32)
    inside = fitted(stripes, (1, 8, 8))[..., 1:-1]
    assert torch.allclose(inside, torch.full_like(inside, 0.5))  # antialiased; two neighbours alone would give 1
    with pytest.raises(UserError, match="the brain takes inputs of 2 x 8 x 8, the images made are 3 x 8 x 8"):
        fitted(colours, (2, 8, 8))
    with pytest.raises(UserError, match="takes inputs of 1 x 50"):
        fitted(colours, (1, 50))


def test_features_are_means_of_maps_or_every_position():
    activation = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert features(activation, "mean").tolist() == [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]]
    assert features(activation, "map").tolist() == [list(range(12)), list(range(12, 24))]
    dense = torch.rand(2, 5)
    assert torch.equal(features(dense, "mean"), dense)
    assert torch.equal(features(dense, "map"), dense)


def test_a_mapping_that_sees_positions_predicts_a_unit_that_looks_at_one_place():
    """A dense unit of the brain that reads one corner: means of maps cannot tell, positions can."""
    first, second = pair()
    dense = nn.Linear(8 * 64, 2)
    nn.init.zeros_(dense.weight)
    dense.weight.data[0, :: 8 * 8] = torch.randn(8, generator=torch.Generator().manual_seed(0))
    dense.weight.data[1, 7 :: 8 * 8] = 1.0
    second = nn.Sequential(second[0], nn.ReLU(), nn.Flatten(), dense)
    brain = Brain(second, find(second, "3", SIZE)[0], np.arange(2), SIZE)
    layer = find(first, "conv1", SIZE)[0]
    r2 = {}
    for reading in ("mean", "map"):
        loaded = batches(given_images(smooth(400)), batch_size=100)
        r2[reading] = finished(learn(first, layer, brain, loaded, reading))[1].mapping.r2
    assert (r2["map"] > 0.9).all()
    assert (r2["mean"] < 0.7).all()


def test_images_that_cannot_be_read_are_left_out_and_too_few_are_refused():
    first, second = pair()
    layer = find(first, "conv1", SIZE)[0]
    brain = Brain(second, find(second, "conv2", SIZE)[0], np.arange(3), SIZE)
    loaded = list(batches(given_images(smooth(20)), batch_size=10))
    loaded[1].readable[3:5] = False
    _, population = finished(learn(first, layer, brain, loaded))
    assert len(population.natural) == 18
    np.testing.assert_allclose(population.natural, np.delete(brain.responses(smooth(20)), [13, 14], 0), rtol=1e-5)
    with pytest.raises(UserError, match="needs at least 10 readable images, got 9"):
        finished(learn(first, layer, brain, batches(given_images(smooth(9)), batch_size=10)))
    with pytest.raises(UserError, match="needs natural images"):
        finished(learn(first, layer, brain, []))


def test_features_that_do_not_fit_in_memory_are_refused(monkeypatch):
    monkeypatch.setattr("cnnprobe.methods.optimize.control.population.LARGEST", 2**14)
    first, second = pair()
    layer = find(first, "conv1", SIZE)[0]
    brain = Brain(second, find(second, "conv2", SIZE)[0], np.arange(3), SIZE)
    loaded = batches(given_images(smooth(20)), batch_size=20)
    with pytest.raises(UserError, match=r"512 features of 20 images .* take fewer images .* or the mean of each map"):
        finished(learn(first, layer, brain, loaded, "map"))
