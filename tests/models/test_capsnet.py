"""Capsules: parameters as published, routing by hand, lengths and log-odds, what a capsule sees, and what it draws."""

from itertools import product

import pytest
import torch

from cnnprobe.datasets.base.targets import one_hot
from cnnprobe.errors import UserError
from cnnprobe.methods.train.losses import Loss
from cnnprobe.models import capsnet

PUBLISHED = {"input_size": 28, "channels": 1, "width": 256, "kernel": 9, "types": 32, "primary": 8, "pose": 16}
SMALL = {"input_size": 20, "channels": 3, "width": 6, "kernel": 5, "types": 3, "primary": 4, "pose": 6}
REST = {"routing": 3, "decoder": [12], "reconstruction": 0.392}


def build(classes=5, **changes):
    torch.manual_seed(0)
    return capsnet.build(num_classes=classes, **(SMALL | REST | changes))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def routed(model, votes):
    """Return couplings of the last iteration, and class capsules."""
    couplings, s = model._gathered(votes)
    return couplings.mT, capsnet.squash(s)


def test_parameters_are_those_of_the_paper():
    model = build(10, **PUBLISHED, decoder=[512, 1024])
    assert (count(model), count(model) - count(model.decoder)) == (8_215_568, 6_804_224)
    small = build(8, input_size=28, width=32, kernel=9, types=8, primary=8, pose=16, decoder=[256, 512])
    assert (count(small) - count(small.decoder), count(small.decoder)) == (468_672, 1_371_184)


@pytest.mark.parametrize(
    ("routing", "coupling", "length"),
    [(1, 0.25, 0.692308), (2, 0.320286, 0.786916), (3, 0.411202, 0.858899), (4, 0.517605, 0.906059)],
)
def test_twelve_children_that_agree_are_routed_to_their_parent(routing, coupling, length):
    votes = torch.zeros(1, 12, 4, 2, dtype=torch.float64)
    votes[..., 0, :] = torch.tensor([0.3, 0.4], dtype=torch.float64)
    couplings, v = routed(build(routing=routing), votes)
    assert couplings[..., 0].flatten().tolist() == pytest.approx([coupling] * 12, abs=1e-6)
    assert float(v[0, 0].norm()) == pytest.approx(length, abs=1e-6)
    assert torch.allclose(couplings.sum(2), torch.ones(1, 12, dtype=torch.float64), atol=1e-15)


def test_routing_has_no_order_of_children_and_turns_with_its_parents():
    votes = torch.randn(2, 12, 4, 6, dtype=torch.float64)
    model = build()
    _, v = routed(model, votes)
    assert torch.allclose(routed(model, votes[:, torch.randperm(12)])[1], v, atol=1e-14)
    turn, _ = torch.linalg.qr(torch.randn(4, 6, 6, dtype=torch.float64))
    turned = torch.einsum("jde,nije->nijd", turn, votes)
    assert torch.allclose(routed(model, turned)[1], torch.einsum("jde,nje->njd", turn, v), atol=1e-14)


def test_one_iteration_couples_all_alike():
    couplings, _ = routed(build(routing=1), torch.randn(2, 12, 4, 6))
    assert torch.equal(couplings, torch.full((2, 12, 4), 0.25))


def test_the_output_is_the_log_odds_of_the_length_which_is_twice_the_logarithm_of_what_is_gathered():
    model, images = build().double(), torch.rand(3, 3, 20, 20, dtype=torch.float64)
    gathered, lengths = [], []
    model._gathered, own = lambda votes: gathered.append(own(votes)[1]) or own(votes), model._gathered
    model.lengths.register_forward_hook(lambda module, inputs, output: lengths.append(output))
    outputs = model(images)
    assert torch.allclose(outputs, 2 * gathered[0].norm(dim=2).log(), atol=1e-6)
    assert torch.allclose(outputs.sigmoid(), lengths[0], rtol=1e-6, atol=0)
    assert torch.allclose(capsnet.squash(gathered[0]).norm(dim=2), lengths[0], rtol=1e-6, atol=0)
    assert float(capsnet.squash(torch.tensor([0.6, 0.8])).norm()) == pytest.approx(0.5)


@pytest.mark.parametrize("routing", [1, 3])
def test_votes_add_up_to_the_length_of_what_is_gathered_and_of_it_to_the_output(routing):
    model, images = build(routing=routing).double(), torch.rand(3, 3, 20, 20, dtype=torch.float64)
    model.requires_grad_(False)
    outputs, maps = model.votes(images)
    assert maps.shape == (3, 5, 6, 6)
    assert torch.allclose(2 * maps.sum((2, 3)).log(), outputs, atol=1e-9)
    assert torch.equal(outputs, model(images))
    primary, couplings = [], []
    model.primary.register_forward_hook(lambda module, inputs, output: primary.append(output))
    model.couplings.register_forward_hook(lambda module, inputs, output: couplings.append(output))
    model(images)
    u, c = primary[0].unflatten(1, (3, 4)), couplings[0].unflatten(2, (3, 6, 6))  # (image, type, dimension, y, x)
    w = model.predictions.unflatten(1, (3, 6, 6))
    here = sum(w[4, k, 2, 5] @ u[1, k, :, 2, 5] * c[1, 4, k, 2, 5] for k in range(3))
    places = product(range(3), range(6), range(6))
    whole = sum(w[4, k, y, x] @ u[1, k, :, y, x] * c[1, 4, k, y, x] for k, y, x in places)
    assert float(maps[1, 4, 2, 5]) == pytest.approx(float(here @ whole / whole.norm()), rel=1e-9)


def test_gradients_through_three_iterations_are_those_of_differences():
    votes = torch.randn(1, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    model = build()
    assert torch.autograd.gradcheck(lambda one: capsnet.squash(model._gathered(one)[1]), votes)


def test_a_black_image_has_finite_gradients():
    model = build()
    for parameter in model.parameters():
        parameter.requires_grad_()
    outputs = model(torch.zeros(2, 3, 20, 20))
    targets = torch.tensor([0, 3])
    loss = Loss("margin", ("existence", "class")).terms(outputs, targets).mean()
    (loss + model.penalties(torch.zeros(2, 3, 20, 20), outputs, targets)["reconstruction"]).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_primary_capsule_sees_17_px_that_move_by_two():
    model = build(10, **PUBLISHED | {"width": 8, "types": 2}, decoder=None).double()
    images = torch.rand(1, 1, 28, 28, dtype=torch.float64, requires_grad=True)
    seen = []
    model.primary.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(images)
    assert seen[0].shape == (1, 16, 6, 6)
    for y, x in ((0, 0), (2, 5)):
        (gradient,) = torch.autograd.grad(seen[0][0, :, y, x].square().sum(), images, retain_graph=True)
        rows, columns = (gradient[0, 0] != 0).nonzero(as_tuple=True)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2 * y, 2 * y + 16, 2 * x, 2 * x + 16)


def test_an_answer_does_not_depend_on_other_images():
    model, images = build(), torch.rand(8, 3, 20, 20)
    with torch.no_grad():
        assert torch.allclose(torch.cat([model(one[None]) for one in images]), model(images), atol=1e-6)


def test_layers_that_are_looked_at_lie_on_the_way():
    """A capsule that is silenced, or a dimension, changes what is decided: none of them hangs beside the network."""
    model, images = build(), torch.rand(2, 3, 20, 20)
    with torch.no_grad():
        before = model(images)
        for name in ("types", "primary", "couplings", "lengths", "pose"):
            handle = model.get_submodule(name).register_forward_hook(lambda module, inputs, output: output * 0.5)
            assert not torch.allclose(model(images), before), name
            handle.remove()


def test_the_decoder_draws_the_capsules_that_are_there():
    model, images = build(), torch.rand(2, 3, 20, 20)
    outputs, targets = model(images), torch.tensor([1, 4])
    term = model.penalties(images, outputs, targets)["reconstruction"]
    pose = model.shown * one_hot(targets, 5)[..., None]
    made = model.decoder(pose.flatten(1)).view(2, 3, 20, 20)
    assert term.item() == pytest.approx(0.392 * (made - images).square().mean().item(), rel=1e-6)
    assert torch.equal(model.penalties(images, outputs, one_hot(targets, 5))["reconstruction"], term)
    with pytest.raises(UserError, match=r"no decoder \(model.decoder\)"):
        build(decoder=None).drawn(pose, one_hot(targets, 5))
    assert build(decoder=None).penalties(images, outputs, targets) == {}


def test_images_that_are_too_small_are_refused():
    with pytest.raises(UserError, match="input_size must be 9 or more for capsnet with kernel=5, got 8"):
        build(input_size=8)
    assert build(input_size=9)(torch.rand(1, 3, 9, 9)).shape == (1, 5)
