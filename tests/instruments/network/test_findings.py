"""What was found out about a network is kept for as long as the network stays as it is."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cnnprobe import measure
from cnnprobe.instruments.network import findings
from cnnprobe.instruments.network.findings import kept


def network():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.1)).eval()
    model.options, model.settings = {"deep": {"probabilities": False}}, SimpleNamespace(dilation=1)
    model.act, model.slope = torch.relu, torch.zeros(1)
    return model


def weights(model):
    with torch.no_grad():
        model[0].weight.mul_(2)


def setting(model):
    model[2].negative_slope = 0.2


def size(model):
    model[0].stride = (2, 2)


def replaced(model):
    model[2] = nn.ReLU()


def statistics(model):
    model.train()(torch.rand(2, 3, 8, 8))
    model.eval()


def precision(model):
    model.half()


def option(model):
    model.options["deep"]["probabilities"] = True


def namespace(model):
    model.settings.dilation = 4


def function(model):
    model.act = torch.tanh


def tensor(model):
    model.slope.fill_(0.3)


def data(model):
    model[0].weight.data.fill_(0.6)


def hook(model):
    model.register_forward_hook(lambda _, __, output: output.softmax(1))


CHANGES = [weights, setting, size, replaced, statistics, precision, option, namespace, function, tensor, data, hook]


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_found_anew_where_the_network_changed(change):
    """F84."""
    model, found = network(), []
    kept(model, "a", lambda: found.append(1))
    model.train()
    model.eval()(torch.rand(1, 3, 8, 8).requires_grad_())
    kept(model, "a", lambda: found.append(2))
    assert found == [1]
    change(model)
    kept(model, "a", lambda: found.append(3))
    assert found == [1, 3]


def test_each_is_found_for_itself_and_for_each_network():
    one, other = network(), network()
    assert kept(one, "a", lambda: 1) == 1
    assert kept(one, "b", lambda: 2) == 2
    assert kept(other, "a", lambda: 3) == 3
    assert kept(one, "a", lambda: 4) == 1


OPTIONS = {
    "topk": {}, "rf-map": {"units": [0], "draws": 1, "top_images": 1}, "gbp": {"units": [0], "sanity": False},
    "optimize": {"units": [0], "steps": 2}, "cam": {}, "record": {},
}  # fmt: skip


@pytest.mark.parametrize("command", OPTIONS)
def test_a_measurement_changes_nothing_by_which_it_would_be_found_anew(command):
    """F84: what is tried writes nothing into a network, not even what was there."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                          nn.Linear(4, 2))  # fmt: skip
    images, found = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)), []
    for _ in range(2):
        list(measure(command, model=model, dataset=images, layer="0", **OPTIONS[command]).events)
        found.append(findings._KEPT[id(model)][2])
    assert found[0] is found[1]


def test_a_mistake_is_not_kept():
    model = network()

    def fails():
        raise ValueError

    with pytest.raises(ValueError):
        kept(model, "a", fails)
    assert kept(model, "a", lambda: 1) == 1


def test_the_network_is_freed():
    model = network()
    kept(model, "a", lambda: 1)
    known = weakref.ref(model)
    del model
    gc.collect()
    assert known() is None
