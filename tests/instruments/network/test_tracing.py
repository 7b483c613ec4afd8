"""The trace of a forward pass."""

import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import activations
from cnnprobe.instruments.network.replay import value_at
from cnnprobe.instruments.network.tracing import IMAGE, Value, leaves, replaced, trace
from tests.support.networks import planted


def names(traced):
    return [call.name for call in traced.calls]


def test_functions_methods_and_modules_are_seen_alike():
    assert names(trace(planted.Functional(), (3, 8, 8))) == ["conv2d", "relu", "conv2d", "relu", "mean", "linear"]
    assert [name.strip("_") for name in names(trace(planted.Inline(), (3, 8, 8)))] == names(
        trace(planted.Functional(), (3, 8, 8))
    )


def test_a_call_knows_its_module_and_which_call_of_it():
    traced = trace(planted.Twice(), (3, 8, 8))
    assert [(call.name, call.module, call.number, call.nth) for call in traced.calls] == [
        ("conv2d", "conv", 0, 0),
        ("relu", "", 0, 0),
        ("conv2d", "conv", 1, 0),
    ]
    assert [(module.path, module.number) for module in traced.modules] == [("conv", 0), ("conv", 1), ("", 0)]


def test_the_trace_is_the_same_inside_inference_mode():
    with torch.inference_mode():
        inside = trace(planted.Inline(), (3, 8, 8))
    assert inside.calls == trace(planted.Inline(), (3, 8, 8)).calls


def test_values_lead_from_the_image_to_the_output_through_in_place_functions():
    traced = trace(planted.Inline(), (3, 8, 8))
    assert traced.calls[0].inputs == (Value(IMAGE, 0, (1, 3, 8, 8)),)
    for before, call in zip(traced.calls, traced.calls[1:]):
        assert call.inputs == before.outputs
        assert traced.consumers[before.outputs[0]] == [call.index]
    assert traced.modules[-1].output == traced.calls[-1].outputs[0]


def test_writing_into_a_view_changes_its_owner():
    class Views(nn.Module):
        def forward(self, images):
            maps = images * 2
            maps[:, :1].relu_()
            maps[:, 1:] = 0.5
            return maps + 1

    traced = trace(Views(), (3, 4, 4))
    last = traced.calls[-1]
    assert last.name == "add" and traced.calls[last.inputs[0].call].name == "__setitem__"


def test_what_does_not_depend_on_the_image_is_left_out():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 3, 3, 3))

        def forward(self, images):
            return nn.functional.conv2d(images, self.weight * (self.weight > 0)) + torch.zeros(1)

    assert names(trace(Masked(), (3, 8, 8))) == ["conv2d", "add"]


def test_the_network_and_the_random_numbers_are_as_before():
    model = planted.Block().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    trace(model, (3, 8, 8))
    assert model.training and model.bn1.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not nn.modules.module._global_forward_hooks and not nn.modules.module._global_forward_pre_hooks


def test_an_image_that_does_not_fit_is_told_in_one_line():
    with pytest.raises(UserError, match=r"cannot take an image of 1x8x8.*channels") as told:
        trace(planted.Functional(), (1, 8, 8))
    assert "\n" not in str(told.value)
    assert not nn.modules.module._global_forward_hooks


def test_nested_structures():
    nested = {"a": [1, (2, "b")], "c": 3}
    assert leaves(nested, int) == [1, 2, 3]
    assert replaced(nested, int, str) == {"a": ["1", ("2", "b")], "c": "3"}


def test_what_depends_on_the_shape_only_is_a_constant():
    """F85."""

    class Made(nn.Module):
        def forward(self, images):
            ramp = torch.arange(4.0).expand_as(images).type_as(images)
            return (images - images.new_tensor(0.5)) * torch.ones_like(images) + ramp + images.new_zeros(4)

    assert {name.strip("_") for name in names(trace(Made(), (3, 4, 4)))} <= {"sub", "mul", "add"}


def test_calls_on_constants_are_counted_where_a_value_is_read_later():
    """F85: the second relu() is read, not the first, which rectifies a parameter."""

    class Gains(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.gain = nn.Conv2d(3, 4, 3), nn.Parameter(torch.ones(4, 1, 1))

        def forward(self, images):
            gain = torch.relu(self.gain)
            return torch.relu(self.conv(images)) * gain

    model, image = Gains().eval(), torch.rand(1, 3, 8, 8)
    (layer,) = find(model, "conv1", (3, 8, 8))
    assert layer.tap.function == "relu" and layer.tap.nth == 1
    assert torch.equal(activations(model, [layer], image)["conv1"], torch.relu(model.conv(image)))


def test_what_a_forward_hook_of_a_module_makes_is_what_the_module_returns():
    """F85: as whoever calls the module sees it, under every name of the layer; also of the network itself."""
    model, images = planted.Functional().eval(), torch.rand(2, 3, 8, 8)
    plain = activations(model, find(model, "logits", (3, 8, 8)), images)["logits"]
    convolutions = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    first = model.get_submodule(convolutions[0])
    for module in (first, model):
        module.register_forward_hook(lambda module, inputs, output: output * 2 + 1)
    traced = trace(model, (3, 8, 8))
    own, whole = (next(one for one in traced.modules if one.path == path) for path in (convolutions[0], ""))
    for one in (own, whole):
        call = traced.calls[one.output.call]
        assert (call.name, call.module, traced.calls[one.output.call - 1].name) == ("add", one.path, "mul")
    assert len(model._forward_hooks) == len(first._forward_hooks) == 1
    found = activations(model, find(model, ["logits", "conv1", convolutions[0]], (3, 8, 8)), images)
    torch.testing.assert_close(found["conv1"], first(images).detach().relu())
    torch.testing.assert_close(found[convolutions[0]], first(images).detach())
    torch.testing.assert_close(found["logits"], model(images).detach())
    assert not torch.allclose(found["logits"], plain)
    assert value_at(traced, find(model, convolutions[0], (3, 8, 8))[0].tap) == own.output
