"""Class activation maps of networks whose maps are known in closed form."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find, last_map
from cnnprobe.instruments.outputs.kinds import outputs_of
from cnnprobe.methods.cam.class_choice import Choice
from cnnprobe.methods.cam.grids import Grid, upsampled
from cnnprobe.methods.cam.maps import ClassMaps, per_class
from tests.support.networks.gap import Deep, Pooled, pictures
from tests.support.networks.rewriting import EVERY, Rewriting, shown

SIZE = (3, 12, 12)
NONE = torch.full((5,), -1)


def mapped(model, kind, images=None, choice=Choice(4), layer=None, labels=NONE, **options):  # noqa: B008
    images = pictures() if images is None else images
    size = tuple(images.shape[1:])
    read = last_map(model, size) if layer is None else find(model, layer, size)[0]
    with ClassMaps(model, read, size, kind, **options) as engine:
        return engine.maps(images, labels[: len(images)], choice)


def sorted_by_class(found):
    order = np.argsort(found.classes, 1)
    return np.take_along_axis(found.maps, order[..., None, None], 1), np.take_along_axis(found.evidence, order, 1)


def test_the_mean_of_a_cam_and_the_bias_are_the_logit():
    """5.T1, for all classes; and the map is the weighted sum of what is pooled."""
    model = Pooled().eval()
    found = mapped(model, "cam")
    maps, evidence = sorted_by_class(found)
    with torch.no_grad():
        expected = torch.einsum("cu,nuyx->ncyx", model.out.weight, model.maps(pictures()))
    assert np.abs(maps - expected.numpy()).max() < 1e-5
    assert np.abs(evidence - found.logits).max() < 1e-5
    assert np.abs(maps.mean((2, 3)) + model.out.bias.detach().numpy() - found.logits).max() < 1e-5


def test_gradcam_of_such_a_network_is_its_cam_over_the_number_of_positions():
    """5.T2: alpha = W / Z."""
    model = Pooled().eval()
    maps, _ = sorted_by_class(mapped(model, "gradcam"))
    with torch.no_grad():
        expected = torch.einsum("cu,nuyx->ncyx", model.out.weight / 144, model.maps(pictures()))
    assert np.abs(maps - expected.numpy()).max() < 1e-6
    assert (maps < 0).any()


def test_the_map_of_a_class_that_is_ignored_is_exactly_0():
    """5.T6."""
    model = Pooled().eval()
    model.out.weight.data[0] = 0
    for kind in ("cam", "gradcam", "layercam"):
        maps, _ = sorted_by_class(mapped(model, kind))
        assert not maps[:, 0].any() and maps[:, 1].any()


@pytest.mark.parametrize("kind", ["gradcam", "layercam"])
def test_any_head_is_a_loop_of_single_gradients(kind):
    """Image by image and class by class, with autograd alone."""
    model = Deep().eval()
    maps, _ = sorted_by_class(mapped(model, kind))
    for n, image in enumerate(pictures()):
        activation = model.maps(image[None]).detach().requires_grad_()
        logits = model.out(model.hidden(activation.mean((2, 3))).relu())
        for c in range(4):
            (slope,) = torch.autograd.grad(logits[0, c], activation, retain_graph=True)
            weights = slope.clamp(min=0) if kind == "layercam" else slope.mean((2, 3), keepdim=True)
            assert np.abs(maps[n, c] - (weights * activation.detach()).sum(1)[0].numpy()).max() < 1e-6


def test_guided_gradcam_is_guided_backpropagation_times_the_positive_map():
    """By a rectifier with the rule written into it."""

    class Guided(torch.autograd.Function):
        @staticmethod
        def forward(context, values):
            context.save_for_backward(values)
            return values.clamp(min=0)

        @staticmethod
        def backward(context, arriving):
            (values,) = context.saved_tensors
            return arriving.clamp(min=0) * (values > 0)

    model = Deep().eval()
    found = mapped(model, "guided-gradcam", choice=Choice(fixed=(2, 0)))
    plain = mapped(model, "gradcam", choice=Choice(fixed=(2, 0)))
    assert np.allclose(found.maps, plain.maps, atol=1e-7)
    for place, c in enumerate((2, 0)):
        pixels = pictures().requires_grad_()
        maps = nn.functional.max_pool2d(Guided.apply(model.conv(pixels)), 2)
        logits = model.out(Guided.apply(model.hidden(maps.mean((2, 3)))))
        (slope,) = torch.autograd.grad(logits[:, c].sum(), pixels)
        large = upsampled(torch.from_numpy(plain.maps[:, place : place + 1]).clamp(min=0), (12, 12))
        assert np.abs(found.guided[:, place] - (slope * large).numpy()).max() < 1e-7


@pytest.mark.parametrize("filling", ["zero", "mean"])
def test_scorecam_is_a_plain_loop_over_channels(filling):
    model = Deep().eval()
    model.conv.bias.data[3] = -100  # a silent channel
    maps, _ = sorted_by_class(mapped(model, "scorecam", filling=filling))
    with torch.no_grad():
        for n, image in enumerate(pictures()):
            own = model.maps(image[None])[0]
            base = image.mean((1, 2), keepdim=True) if filling == "mean" else torch.zeros(3, 1, 1)
            scores = []
            for channel in own:
                large = upsampled(channel[None, None], (12, 12))[0, 0]
                spread = large.max() - large.min()
                mask = (large - large.min()) / spread if spread > 0 else torch.zeros_like(large)
                scores.append(model((base + (image - base) * mask)[None])[0])
            weights = torch.stack(scores).softmax(0)
            assert np.abs(maps[n] - torch.einsum("uc,uyx->cyx", weights, own).numpy()).max() < 1e-5


@pytest.mark.parametrize("kind", ["cam", "gradcam", "guided-gradcam", "layercam", "scorecam"])
def test_maps_do_not_depend_on_the_batch(kind):
    model = Pooled().eval()
    together = mapped(model, kind)
    for n, image in enumerate(pictures()):
        alone = mapped(model, kind, image[None])
        assert np.array_equal(alone.classes[0], together.classes[n])
        assert np.abs(alone.maps[0] - together.maps[n]).max() < 1e-6


def test_one_forward_pass_for_all_classes_and_memory_in_pieces():
    model = Pooled().eval()
    with ClassMaps(model, last_map(model, SIZE), SIZE) as engine:
        engine.carried.most = 2
        ran = []
        handle = model.conv.register_forward_hook(lambda *_: ran.append(len(_[1][0])))
        found = engine.maps(pictures(), NONE, Choice(4))
        handle.remove()
    assert ran == [2, 2, 1]
    assert np.allclose(found.maps, mapped(model, "gradcam").maps, atol=1e-7)


def test_where_there_is_no_class_there_is_no_map():
    found = mapped(Pooled().eval(), "gradcam", choice=Choice(1, own=True), labels=torch.tensor([0, 1, 2, 3, -1]))
    assert np.isnan(found.maps[found.classes < 0]).all() and np.isnan(found.evidence[4, 1])


@pytest.mark.parametrize("inplace", [True, False])
def test_a_layer_before_an_in_place_rectifier_is_read_and_differentiated(inplace):
    """F20."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)
    ).eval()
    maps, _ = sorted_by_class(mapped(model, "gradcam", layer="0"))
    with torch.no_grad():
        own = model[0](pictures())
    alpha = torch.einsum("cu,nu->ncu", model[4].weight, (own > 0).float().sum((2, 3)) / 100) / 100
    expected = torch.einsum("ncu,nuyx->ncyx", alpha, own)
    assert np.abs(maps - expected.detach().numpy()).max() < 1e-6


def test_tokens_lie_as_their_patches_and_the_class_token_is_left_out():
    vit = torchvision.models.VisionTransformer(
        image_size=24, patch_size=8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=20, num_classes=4
    ).eval()
    torch.manual_seed(0)
    nn.init.normal_(vit.heads.head.weight)
    size, images = (3, 24, 24), pictures(2, 24)
    layer = last_map(vit, size)
    assert layer.name == "encoder.layers.encoder_layer_1.ln_1"
    grid = Grid(vit, layer, size)
    assert grid.shape == (3, 3)
    tokens = torch.arange(10.0).expand(1, 2, 10)
    assert grid.of(tokens)[0, 0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    found = mapped(vit, "gradcam", images, Choice(fixed=(1,)))
    kept = []
    handle = vit.encoder.layers[1].ln_1.register_forward_hook(lambda m, i, output: kept.append(output))
    logits = vit(images)
    handle.remove()
    (slope,) = torch.autograd.grad(logits[:, 1].sum(), kept[0])
    alpha = slope[:, 1:].mean(1)
    expected = (kept[0][:, 1:] * alpha[:, None]).sum(2).reshape(2, 3, 3)
    assert np.abs(found.maps[:, 0] - expected.detach().numpy()).max() < 1e-6


def test_the_gradients_of_all_classes_come_from_one_pass_or_a_loop():
    leaf = torch.rand(2, 3, requires_grad=True)
    rows = (leaf**2) @ torch.arange(12.0).reshape(3, 4)
    expected = torch.stack([2 * leaf * torch.arange(12.0).reshape(3, 4)[:, c] for c in range(4)])
    assert torch.allclose(per_class(rows, leaf), expected)


@pytest.mark.parametrize(
    ("model", "kind", "layer", "said"),
    [
        (Deep(), "cam", None, "there is more behind max_pool2d(); take kind=gradcam, or give"),
        (Pooled(), "cam", "conv", "there is more behind conv"),
        (Pooled(), "gradcam", "out", "cam needs a layer with a map (y, x); out has positions: none"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "gradcam", "0", "this network returns 4 x 10 x 10 per image"),
    ],
)
def test_what_has_no_meaning_is_refused(model, kind, layer, said):
    with pytest.raises(UserError) as error:
        mapped(model.eval(), kind, layer=layer)
    assert said in str(error.value)


class Weighed(nn.Module):
    """Attention pooling: what says how much a place counts may be shifted without any change of the logits."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.maps, self.weights, self.out = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 1, 1), nn.Linear(6, 4)

    def forward(self, images):
        maps = self.maps(images).relu()
        return self.out((maps.flatten(2) * self.weights(maps).flatten(2).softmax(-1)).sum(-1))


def test_a_mean_gradient_of_rounding_is_none():
    """F87: maps of 1e-10 were drawn as evidence."""
    model = Weighed().eval()
    assert not mapped(model, "gradcam", layer="weights").maps.any()
    assert mapped(model, "layercam", layer="weights").maps.any()


@pytest.mark.parametrize(("does", "ends"), EVERY)
def test_maps_do_not_depend_on_how_the_network_goes_on(does, ends):
    """F20: by hand, of networks that write into activations and scores, read their images or have hooks."""
    model, images = Rewriting(does, ends), shown(3)
    known = outputs_of(model, SIZE, tuple("abcd"))
    scores, maps = model.by_hand(images)
    for kind in ("gradcam", "layercam", "guided-gradcam", "scorecam"):
        found = mapped(model, kind, images, Choice(4), "b", known=known)
        assert np.abs(found.logits - scores.detach().numpy()).max() < 1e-4
        if kind == "scorecam":
            continue
        by_class, _ = sorted_by_class(found)
        for n, image in enumerate(images):
            activation = maps[n : n + 1].detach().requires_grad_()
            own = model.by_hand(image[None], activation)[0]
            for c in range(4):
                (slope,) = torch.autograd.grad(own[0, c], activation, retain_graph=True)
                weights = slope.clamp(min=0) if kind == "layercam" else slope.mean((2, 3), keepdim=True)
                expected = (weights * activation.detach()).sum(1)[0].numpy()
                assert np.abs(by_class[n, c] - expected).max() < 1e-5
