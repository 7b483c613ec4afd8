"""The grasping circuit: its size, its equation, what is connected with what, and what it learns."""

import numpy as np
import pytest
import torch

import cnnprobe as package
from cnnprobe.datasets import grasps
from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find, main_layers
from cnnprobe.instruments.network.about import about
from cnnprobe.models import grasp
from cnnprobe.models.grasp import Recurrence
from tests.datasets.test_grasps import objects

OPTIONS = {
    "num_classes": 8, "input_size": 32, "channels": 3, "features": 20, "units": 50, "between": 0.1,
    "arrangement": "modular", "activation": "retanh", "tau": 0.1, "step": 0.02, "rates": 0.001, "weights": 1e-5,
}  # fmt: skip
PAPER = {"units": 100, "num_classes": 50, "step": 0.01}
TINY = {"units": 6, "features": 3, "between": 0.25, "input_size": 8, "step": 0.05}


def network(**options):
    torch.manual_seed(0)
    return grasp.build(**OPTIONS | options)


def images(count=4, side=8):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def free(model):
    """Return the number of free parameters without those of the eye."""
    own = {name: one.numel() for name, one in model.named_parameters()}
    return sum(count for name, count in own.items() if not name.startswith(("eye.", "features.")))


def blocks(model):
    """Return the connections between modules, by (to, from)."""
    size = model.AIP.units
    whole = model.connections().detach().unflatten(0, (3, size)).unflatten(2, (3, size))
    return {(to, source): whole[a, :, b] for a, to in enumerate(grasp.AREAS) for b, source in enumerate(grasp.AREAS)}


def test_the_recurrent_part_of_the_paper_has_41950_free_parameters():
    """34,000 connections, 2,000 of features, 300 each of hold signal, bias and first state, 5,050 of the readout."""
    model = network(**PAPER)
    assert free(model) == 41_950
    assert free(network()) == 10_358
    listed = {layer.name: layer.parameters for layer in main_layers(model, (3, 32, 32))}
    assert sum(listed[name] for name in (*grasp.AREAS, "readout")) == 41_950


def test_a_tenth_of_the_connections_between_neighbours_is_there_and_none_between_the_ends():
    found = blocks(network(**PAPER))
    for pair, block in found.items():
        ends = set(pair) == {"AIP", "M1"}
        assert int((block != 0).sum()) == (10_000 if len(set(pair)) == 1 else 0 if ends else 1_000), pair
    assert found["F5", "F5"].std() == pytest.approx(1.2 / 10, rel=0.03)
    between = torch.cat([block[block != 0] for pair, block in found.items() if len(set(pair)) == 2])
    assert between.std() == pytest.approx(1 / 10**0.5, rel=0.05)  # ten arrive at a unit


@pytest.mark.parametrize(
    ("arrangement", "pairs"),
    [("forward", {"AIP-F5", "F5-M1"}), ("modular", {"AIP-F5", "F5-M1", "F5-AIP", "M1-F5"}),
     ("homogeneous", {"AIP-F5", "F5-M1", "F5-AIP", "M1-F5", "AIP-M1", "M1-AIP"})],
)  # fmt: skip
def test_arrangements_differ_in_what_is_connected(arrangement, pairs):
    model = network(**TINY | {"arrangement": arrangement})
    there = {f"{source}-{to}" for (to, source), block in blocks(model).items() if to != source and block.any()}
    assert there == pairs == set(about(model).lesions) - set(grasp.AREAS)
    assert arrangement != "homogeneous" or all(bool((block != 0).all()) for block in blocks(model).values())


def test_what_is_not_connected_stays_so_under_training_with_decay_and_momentum():
    model, before = network(**TINY), {pair: block != 0 for pair, block in blocks(network(**TINY)).items()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        model.train()(images()).square().mean().backward()
        optimiser.step()
    after = blocks(model)
    assert all(torch.equal(after[pair] != 0, there) for pair, there in before.items())
    assert not torch.equal(after["AIP", "AIP"], blocks(network(**TINY))["AIP", "AIP"])


def test_without_connections_and_input_states_decay_to_the_bias():
    """x_t = b + (x_0 - b) (1 - dt / tau)^t."""
    recurrence, generator = Recurrence(0.1, 0.02, "retanh"), torch.Generator().manual_seed(0)
    start, bias = torch.randn(2, 5, dtype=torch.float64, generator=generator)
    none = torch.zeros(5, 5, dtype=torch.float64)
    states, rates = recurrence.evolve(start, none, [bias.expand(3, -1)] * 40, torch.ones_like(start))
    expected = bias + (start - bias) * 0.8 ** torch.arange(1, 41, dtype=torch.float64)[:, None]
    torch.testing.assert_close(states, expected.T.expand(3, -1, -1), rtol=0, atol=1e-12)
    torch.testing.assert_close(rates, states.clamp(min=0).tanh())


def test_the_network_is_the_equation_step_by_step():
    """Written down for one image and one unit after the other."""
    model, image = network(**TINY).eval(), images(1)
    seen, dark = (model.features(model.eye(one))[0] for one in (image, torch.from_numpy(model.dark.numpy())[None]))
    connections, (first, *_) = model.connections(), model.areas
    hold, bias, x = (torch.cat([getattr(area, name) for area in model.areas]) for name in ("hold", "bias", "start"))
    kept = []
    for step in range(4 + 8 + 6 + 18):
        r, given = torch.tanh(x.clamp(min=0)), seen if 4 <= step < 12 else dark
        new = x.clone()
        for unit in range(18):
            drive = connections[unit] @ r + bias[unit] + hold[unit] * (step < 18)
            drive = drive + (first.seen[unit] @ given if unit < 6 else 0)
            new[unit] = x[unit] + 0.5 * (drive - x[unit])
        x = new
        kept.append(model.readout(torch.tanh(x[12:].clamp(min=0))))
    torch.testing.assert_close(model(image)[0], torch.stack(kept, 1)[:, 14:], rtol=1e-4, atol=1e-5)


def test_the_eye_in_the_dark_is_the_eye_that_sees_the_fixation_point():
    model = network()
    torch.testing.assert_close(model._in_the_dark(), model.features(model.eye(model.dark[None])))
    assert about(model).output == "course" and model(torch.zeros(1, 3, 32, 32)).shape == (1, 8, 55)


def test_gradients_are_those_of_finite_differences():
    recurrence, generator = Recurrence(0.1, 0.02, "retanh"), torch.Generator().manual_seed(3)
    start, drive = torch.randn(2, 4, dtype=torch.float64, generator=generator).requires_grad_()
    matrix = torch.randn(4, 4, dtype=torch.float64, generator=generator).requires_grad_()
    ones = torch.ones(4, dtype=torch.float64)

    def through(start, matrix, drive):
        return recurrence.evolve(start, matrix, [drive.expand(2, -1)] * 5, ones)[1]

    assert torch.autograd.gradcheck(through, (start, matrix, drive))


def test_an_image_alone_is_answered_as_among_others():
    model = network(**TINY)
    many = images(64)
    torch.testing.assert_close(model(many)[7:8], model(many[7:8]), rtol=1e-5, atol=1e-6)


def test_the_delay_is_drawn_in_training_alone_and_courses_begin_before_the_go_signal_whatever_it_is():
    model, one = network(**TINY), images(1)
    assert torch.equal(model(one), model(one))
    model.train()
    torch.manual_seed(0)
    delays = {model._delay() for _ in range(200)}
    assert delays == set(range(2, 9))  # of 50 ms
    assert model(one).shape == model.eval()(one).shape


def test_means_of_epochs_are_those_of_the_rates():
    model, seen = network(**TINY), {}
    layers = find(model, ["AIP", "AIP.visual", "AIP.memory", "AIP.movement"], (3, 8, 8))
    from cnnprobe.instruments.network.activations import tap

    with tap(model, layers, lambda layer, values: seen.update({layer.name: values.clone()})) as run:
        run(images())
    assert seen["AIP"].shape == (4, 6, 4 + 8 + 6 + 18)
    for name, part in {"visual": slice(4, 12), "memory": slice(12, 18), "movement": slice(18, 36)}.items():
        torch.testing.assert_close(seen[f"AIP.{name}"], seen["AIP"][:, :, part].mean(2))


def test_penalties_are_squared_rates_and_weights():
    model = network(**TINY | {"rates": 0.5, "weights": 0.25})
    with torch.no_grad():
        model(images())
        found = model.penalties(images(), torch.zeros(1), torch.zeros(1))
    assert float(found["rates"]) == pytest.approx(0.5 * float(model.shown.square().mean()))
    squares = model.AIP.seen.detach().square().sum() + model.readout.weight.detach().square().sum()
    assert float(found["weights"]) == pytest.approx(0.25 * float(squares))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"step": 0.1}, r"model.step must be below model.tau \(0.1 s\), got 0.1"),
     ({"step": 0.03}, "model.step must divide 0.1 s, as 0.01, 0.02 and 0.05 do, got 0.03")],
)  # fmt: skip
def test_steps_that_do_not_fit_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        network(**options)


class Shuffled(grasps.Grasps):
    """Objects with the courses of others: the i-th has that of one drawn by chance."""

    def targets(self, indices):
        other = np.random.default_rng([7, len(self)]).permutation(len(self))
        return super().targets(other[np.asarray(indices)])


@pytest.mark.slow
def test_shuffled_outputs_are_not_generalised():
    """The control of the paper: of what has nothing to do with an object, nothing is known beyond the mean course."""
    beyond = {}
    for kind in (grasps.Grasps, Shuffled):
        learned, asked = (kind(objects(split=split, count=count, size=32, channels=3).options)
                          for split, count in (("train", 1200), ("val", 120)))  # fmt: skip
        model = network()
        options = {
            "epochs": 25,
            "lr": 0.01,
            "optimizer": "adam",
            "augment": "none",
            "weight_decay": 0.0,
            "clip": 1.0,
            "batch_size": 32,
        }
        list(package.measure("train", model=model, dataset=learned, held_out=asked, precision="float32", **options))
        with torch.no_grad():
            made = model.eval()(asked.load(range(120))[0])[:, 2:]
        true = asked.targets(range(120))[0][:, 2:]
        spread = (true - true.mean(0, keepdim=True)).square().sum()
        beyond[kind] = 1 - float((made - true).square().sum() / spread)
    assert beyond[grasps.Grasps] > 0.4 and beyond[Shuffled] < 0.02


def test_trajectories_have_its_step():
    assert about(network(step=0.05)).time_step == 0.05
