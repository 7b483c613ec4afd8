"""Passes with units silenced are those with hooks that a reader would write."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import cnnprobe as package
from cnnprobe.methods.lesion.lesioning import Lesioning
from cnnprobe.methods.lesion.lesions import derangement
from cnnprobe.store.tables import Advance
from tests.support.calling import Labelled, images
from tests.support.networks.detectors import Detectors, by_hooks, coloured, measured
from tests.support.networks.rewriting import EVERY, Rewriting, shown


def test_a_unit_before_a_linear_readout_moves_the_logits_by_its_weights():
    """Set to 0, unit u changes logit c by -W_cu a_u."""
    torch.manual_seed(0)
    model, dataset = Detectors().eval(), coloured()
    nn.init.normal_(model.out.weight)
    rows = measured(model, dataset, layer="conv1", units="each", how="zero")
    with torch.no_grad():
        pixels = dataset.load(range(len(dataset)))[0]
        response, logits = model.find(pixels).relu().mean((2, 3)), model(pixels)
    moved = response.square().mean(0) * model.out.weight.square().sum(0)
    expected = moved / logits.var(0, correction=0).sum()
    np.testing.assert_allclose(rows["lesions", "unexplained"], expected.detach().numpy(), rtol=1e-5, atol=1e-9)


def test_images_that_are_all_the_same_lose_nothing_by_being_swapped():
    pixels = torch.rand(1, 4, 5, 5, generator=torch.Generator().manual_seed(1)).repeat(8, 1, 1, 1)
    rows = measured(Detectors().eval(), Labelled(pixels, [0] * 8, 4), layer="conv1", how="swap")
    assert rows["lesions", "changed"] == [0] and rows["lesions", "unexplained"] == [0]


def test_a_whole_layer_of_another_image_is_that_image():
    """Nothing passes beside it, so the network decides as for the partner; every image is the partner of one."""
    rows = measured(Detectors().eval(), coloured(), layer="conv1", how="swap", batch_size=16)
    intact, decided = rows["images", "intact"], rows["images", "decided"][:, 0]
    assert (decided != intact).any() and sorted(decided) == sorted(intact)
    np.testing.assert_allclose(rows["lesions", "unexplained"], 2, rtol=0.5)  # E|y - y'|² of unlike images is 2 Var(y)


@pytest.mark.parametrize("how", ["swap", "mean", "zero"])
def test_deep_networks_with_parts_that_pass_beside_are_those_with_hooks(how):
    """A ResNet: what a residual connection carries past a lesion arrives."""
    torch.manual_seed(0)
    model, dataset = torchvision.models.resnet18(weights=None, num_classes=8).eval(), images(8)
    module, units = model.layer2[1].conv1, [3, 5]  # followed by BatchNorm and a rectifier of the block
    behind = model.layer2[1].bn1
    rows = measured(model, dataset, layer="layer2.1.bn1", units=units, how=how, batch_size=3)
    kept = []
    handle = behind.register_forward_hook(lambda _, __, output: kept.append(output[:, units].clone()))
    with torch.no_grad():
        whole = model(dataset.load(range(8))[0])
    handle.remove()
    assert module is model.layer2[1].conv1
    partner = derangement(8, 0)
    value = {"swap": lambda place: kept[0][partner[place]], "mean": lambda _: kept[0].mean(0), "zero": lambda _: 0}
    changed = by_hooks(model, behind, dataset, units, value[how])
    assert rows["images", "decided"][:, 0].tolist() == changed.argmax(1).tolist()
    expected = (changed - whole).square().sum(1).mean() / whole.var(0, correction=0).sum()
    assert expected > 0
    np.testing.assert_allclose(rows["lesions", "unexplained"], float(expected), rtol=1e-3)


def test_several_layers_in_one_pass_are_each_by_itself():
    torch.manual_seed(0)
    model, dataset = torchvision.models.squeezenet1_0(weights=None, num_classes=8).eval(), images(6)
    options = {"how": ["swap", "mean", "zero"], "units": [0, 2], "batch_size": 4}
    both = measured(model, dataset, layer=["conv2", "conv9"], **options)
    assert both["lesions", "how"].tolist() == ["swap", "mean", "zero"] * 2
    for place, layer in enumerate(("conv2", "conv9")):
        alone = measured(model, dataset, layer=layer, **options)
        for column in ("unexplained", "changed", "after"):
            expected = alone["lesions", column]
            np.testing.assert_array_equal(both["lesions", column][3 * place : 3 * place + 3], expected)


@pytest.mark.parametrize("where", ["first", "later"])
def test_images_that_are_shown_once_more_count_once(monkeypatch, where):
    """F54: memory runs out in a lesion, where the intact scores of the first layer are known."""
    torch.manual_seed(0)
    model, dataset = torchvision.models.squeezenet1_0(weights=None, num_classes=8).eval(), images(10)
    options = {"layer": ["conv2", "conv9"], "how": ["zero", "mean"], "units": [0, 2], "batch_size": 5}
    whole = measured(model, dataset, **options)
    real, refused = Lesioning._lesioned, []

    def short(self, place, held):
        if place == {"first": 1, "later": 3}[where] and len(held.scores) > 2:
            refused.append(len(held.scores))
            raise MemoryError
        return real(self, place, held)

    monkeypatch.setattr(Lesioning, "_lesioned", short)
    events = list(package.measure("lesion", model=model, dataset=dataset, **options).events)
    rows = measured(model, dataset, **options)
    assert refused[:1] == [5]
    for column in ("images", "before", "after", "changed", "unexplained"):
        np.testing.assert_allclose(rows["lesions", column], whole["lesions", column], rtol=1e-4)
    # counted are images with the means of two layers, and with lesions
    assert sum(event.count for event in events if isinstance(event, Advance)) == 10 + 10 * 4


class Branching(Detectors):
    """Python decides by what it sees, image by image."""

    def forward(self, given):
        maps = self.find(given).relu()
        return self.out(maps.mean((2, 3)) if float(maps.max()) > 0.65 else 2 * maps.mean((2, 3)))


def test_a_network_that_decides_in_python_is_passed_whole():
    """F85: Repeated calls would follow the branch of another image."""
    torch.manual_seed(0)
    model, dataset = Branching().eval(), coloured()
    rows = measured(model, dataset, layer="conv1", units=[1], how="zero")
    hooked = by_hooks(model, model.find, dataset, [1], lambda _: 0)
    with torch.no_grad():
        whole = torch.cat([model(dataset.load([place])[0]) for place in range(len(dataset))])
    expected = (hooked - whole).square().sum(1).mean() / whole.var(0, correction=0).sum()
    np.testing.assert_allclose(rows["lesions", "unexplained"], float(expected), rtol=1e-5)


def test_images_that_cannot_be_read_and_their_partners_count_for_nothing():
    """F32."""
    dataset = coloured()
    whole = measured(Detectors().eval(), dataset, layer="conv1", units=[0], how=["swap", "zero"])
    dataset.images[7] = float("nan")
    rows = measured(Detectors().eval(), dataset, layer="conv1", units=[0], how=["swap", "zero"])
    assert whole["lesions", "images"].tolist() == [40, 40] and rows["lesions", "images"].tolist() == [38, 39]
    assert rows["stimuli", "skipped"].nonzero()[0].tolist() == [7]
    assert rows["images", "intact"][7] == -1
    left = np.arange(40) != 7
    zero = whole["images", "decided"][left, 1]
    np.testing.assert_array_equal(rows["images", "decided"][left, 1], zero)
    assert rows["lesions", "after"][1] == pytest.approx((zero == whole["images", "label"][left]).mean())


@pytest.mark.parametrize(("does", "ends"), EVERY)
def test_what_stands_in_is_what_is_put_there_however_the_network_goes_on(does, ends):
    """F20, F85: it writes into activation or scores, reads its images, changes what a layer returns by a hook."""
    model, pixels = Rewriting(does, ends), shown()
    dataset = Labelled(pixels, [0, 1, 2, 3, 0, 1, 2], 4)
    rows = measured(model, dataset, layer="b", units=[[0, 3]], how=["swap", "mean", "zero"], batch_size=4)
    with torch.no_grad():
        whole, maps = model.by_hand(pixels)
        others = {"swap": maps[derangement(7, 0)], "mean": maps.mean(0), "zero": maps * 0}
        for place, how in enumerate(("swap", "mean", "zero")):
            instead = maps.clone()
            instead[:, [0, 3]] = (others[how] if how != "mean" else others[how].expand_as(maps))[:, [0, 3]]
            changed = model.by_hand(pixels, instead)[0]
            expected = (changed - whole).square().sum(1).mean() / whole.var(0, correction=0).sum()
            assert rows["images", "decided"][:, place].tolist() == changed.argmax(1).tolist() or ends == "sigmoid"
            np.testing.assert_allclose(rows["lesions", "unexplained"][place], float(expected), rtol=1e-3)
