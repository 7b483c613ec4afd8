"""How networks treat the images they are handed, of planted networks: the right values are plain torch's."""

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find, layers_of, left_out, main_layers
from cnnprobe.instruments.network import conduct
from cnnprobe.instruments.network.activations import activations, tap
from cnnprobe.instruments.network.conduct import conduct_of, handed
from cnnprobe.instruments.network.split_network import cut
from cnnprobe.instruments.outputs.kinds import outputs_of
from cnnprobe.instruments.windows.centred_maps import canvas_of
from cnnprobe.methods.gbp.gradients import Gradients, Recipe
from tests.support.calling import Told

SIZE = (3, 8, 8)


class Net(nn.Module):
    """Two convolutions and a readout; what happens to the image before is given by name."""

    def __init__(self, before="copy"):
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, padding=1)
        self.head = nn.Linear(5, 6)
        self.before = Written(before)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(self.before(x)))))
        return self.head(x.mean((2, 3)))


class Written(nn.Module):
    """x - 0.4 in ways that write into x, and in one that does not."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "copy":
            return x - 0.4
        if self.how == "sub_":
            return x.sub_(0.4)
        if self.how == "out":
            torch.sub(x, 0.4, out=x) if not x.requires_grad else x.sub_(0.4)
        elif self.how == "item":
            x[:, 0] -= 0.4
            x[:, 1:] = x[:, 1:] - 0.4
        elif self.how == "data":
            x.data.sub_(0.4)
        elif self.how == "numpy":
            x.detach().numpy()[:] -= np.float32(0.4)
        elif self.how == "if bright":
            if x.max() > 1.5:  # never, of the images it is tried with
                x.div_(255)
            x = x - 0.4
        return x


WAYS = ["sub_", "out", "item", "data", "numpy"]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_handed_over_stays_as_it_is_and_counts_as_it_was(way):
    """F84."""
    model, plain, images = Net(way), Net(), torch.rand(3, *SIZE)
    before = images.clone()
    layers = find(model, ["conv1", "conv2", "logits"], SIZE)
    with torch.inference_mode():
        read, again = activations(model, layers, images), activations(model, layers, images)
        expected = activations(plain, find(plain, ["conv1", "conv2", "logits"], SIZE), before)
        assert torch.equal(images, before)
        within = {"rtol": 0, "atol": 1e-6 if way == "numpy" else 0}  # one by one other bits
        torch.testing.assert_close(handed(model, images), plain(before), **within)
    for name, value in expected.items():
        torch.testing.assert_close(read[name], value, **within)
        torch.testing.assert_close(again[name], value, **within)


def test_a_network_that_asks_for_values_gets_a_copy_though_it_did_not_write_when_it_was_tried():
    """F84."""
    model, images = Net("if bright"), torch.full((2, *SIZE), 128.0)
    with torch.inference_mode():
        activations(model, find(model, "conv1", SIZE), images)
    assert bool((images == 128).all())
    assert not conduct_of(Net(), SIZE).copies


def test_a_leaf_that_is_climbed_can_be_handed_to_a_network_that_writes():
    """F84: the gradient is that of the network that copies."""
    images = [torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(2)).requires_grad_() for _ in "ab"]
    for model, leaf in zip((Net("sub_"), Net()), images):
        with tap(model, find(model, "conv2", SIZE), lambda _, a: a.square().sum().backward()) as run:
            run(leaf)
    assert images[0].grad.abs().sum() > 0 and torch.equal(images[0].grad, images[1].grad)


def test_a_network_that_writes_is_tried_in_inference_mode():
    """F84: where nothing but what it returns is asked for, nobody has tried it before."""
    images = torch.rand(2, *SIZE)
    with torch.inference_mode(), tap(Net("sub_"), [], lambda *_: None, complete=True) as run:
        assert torch.equal(run(images), Net()(images))


def test_a_network_with_another_setting_is_tried_anew():
    """F84."""
    model = Net()
    find(model, "conv1", SIZE)
    model.before.how = "sub_"
    find(model, "conv1", SIZE)
    assert conduct_of(model, SIZE).copies


# ---- where the images are --------------------------------------------------------------------------------------------


class Squeezed(Net):
    """Drops the axis of a batch of one."""

    def forward(self, x):
        return self.head(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3), keepdim=True).squeeze())


class Kernels(Net):
    """Kernels of its own for every image: one grouped convolution for the whole batch."""

    def forward(self, x):
        n, c, h, w = x.shape
        share = x.mean((2, 3)).softmax(1)  # (image, 3)
        own = torch.einsum("nk,ocyx->nocyx", share, self.first.weight).reshape(n * 4, c, 3, 3)
        x = F.conv2d(x.reshape(1, n * c, h, w), own, padding=1, groups=n).relu().view(n, 4, h, w)
        return self.head(F.relu(self.second(x)).mean((2, 3)))


class Statistics(Net):
    """Normalised by the batch, in eval mode too."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)
        self.eval()

    def forward(self, x):
        return self.head(F.relu(self.second(self.norm(self.first(x)))).mean((2, 3)))


class Tokens(Net):
    """Encoder and recurrent layer that take (token, image, feature)."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2, enable_nested_tensor=False)
        self.rnn = nn.LSTM(4, 5)
        self.eval()

    def forward(self, x):
        x = F.relu(self.first(x)).flatten(2).permute(2, 0, 1)
        return self.head(self.rnn(self.encoder(x))[0][-1])


class Single(Net):
    """Takes one image only."""

    def forward(self, x):
        return self.head(F.relu(self.second(F.relu(self.first(x.view(1, 3, 8, 8))))).mean((2, 3)))


class Views(Net):
    """Folds two views of each image into the batch, and takes the mean of their answers."""

    def forward(self, x):
        x = F.relu(self.second(F.relu(self.first(torch.cat([x, x.flip(3)])))))
        one, other = self.head(x.mean((2, 3))).chunk(2)
        return (one + other) / 2


def by_hand(model: nn.Module, images: Tensor, names: dict[str, str]) -> dict[str, Tensor]:
    """Return what modules give to each image alone, by a hook and plain torch; "" for what the network returns."""
    found = {name: [] for name in names}
    modules = dict(model.named_modules())
    for image in images:
        seen = {}
        handles = [
            modules[path].register_forward_hook(lambda _, __, out, path=path, seen=seen: seen.update({path: out}))
            for path in names.values()
        ]
        with torch.no_grad():
            model(image[None].clone())
        for handle in handles:
            handle.remove()
        for name, path in names.items():
            found[name].append(seen[path][0] if isinstance(seen[path], tuple) else seen[path])
    return found


OWN = {
    "squeezed": (Squeezed, {"second": "second", "head": "head", "logits": ""}),
    "kernels": (Kernels, {"second": "second", "head": "head"}),
    "statistics": (Statistics, {"first": "first", "norm": "norm", "head": "head", "logits": ""}),
    "tokens": (Tokens, {"encoder.layers.0": "encoder.layers.0", "rnn[0]": "rnn", "logits": ""}),
    "single": (Single, {"second": "second", "head": "head"}),
}


class Exposed(nn.Module):
    """Subtracts what a statistic of all images has above (below) a threshold, which ordinary images do not reach."""

    def __init__(self, excess):
        super().__init__()
        self.excess, self.conv = excess, nn.Conv2d(3, 6, 3)

    def forward(self, images):
        return self.conv(images - self.excess(images)).relu().mean((2, 3))


EXCESS = {
    "bright": lambda x: (x.mean() - 0.7).clamp(min=0),
    "dark": lambda x: (0.2 - x.mean((0, 2, 3), keepdim=True)).clamp(min=0),
    "contrast": lambda x: nn.functional.relu(x.std() - 0.4),
    "largest": lambda x: (x.amax() - x.amin() - 0.95).clamp(min=0) * x.std(),
}


@pytest.mark.parametrize("kind", EXCESS)
def test_statistics_that_count_from_a_threshold_on_are_found(kind):
    """F84: images of one kind in the first batches, of another later."""
    torch.manual_seed(0)
    model = Exposed(EXCESS[kind]).eval()
    assert not EXCESS[kind](0.4 + 0.2 * torch.rand(4, *SIZE)).any()
    for images in (0.4 + 0.2 * torch.rand(4, *SIZE), torch.rand(4, *SIZE).round(), torch.ones(4, *SIZE)):
        images[1] *= 0.05
        expected = torch.cat([model(one[None]) for one in images])
        found = activations(model, find(model, "logits", SIZE), images)["logits"]
        assert torch.allclose(found, expected, atol=1e-6)


class Capacity(nn.Module):
    """An expert takes the tokens of the brightest three quarters of a batch; those of the others stay as they are."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.expert = nn.Conv2d(3, 6, 3), nn.Linear(6, 6)

    def forward(self, images):
        maps = self.conv(images)
        tokens = maps.flatten(2).transpose(1, 2).reshape(-1, 6)
        gates = images.mean((1, 2, 3)).repeat_interleave(len(tokens) // len(images))
        taken = gates.topk(max(1, len(gates) * 3 // 4)).indices if len(images) > 4 else torch.arange(len(gates))
        out = tokens.clone()
        out[taken] = self.expert(tokens[taken])
        return out.reshape(len(images), -1, 6).mean(1)


def test_of_a_network_that_folds_images_many_are_shown_alone():
    """F84: images of one kind push out others; three of them need not be among these."""
    model, images = Capacity().eval(), torch.rand(40, *SIZE)
    with torch.no_grad():
        alone = torch.cat([model(one[None]) for one in images])
        other = ((model(images) - alone).abs().amax(1) > 0.01).nonzero()[:, 0].tolist()
        kept = [place for place in range(40) if place not in other]
        order = [kept[0], *other, *kept[1:]]
        order.insert(20, order.pop(order.index(kept[1])))
        with pytest.raises(UserError, match="responds to an image alone otherwise than in a batch of 40"):
            activations(model, find(model, "logits", SIZE), images[order])


def test_images_of_later_batches_are_shown_alone_too(monkeypatch):
    """F84: what the trial does not find is found in the 1st, 2nd, 4th, 8th … batch."""
    monkeypatch.setattr(conduct, "_extremes", lambda _: [])
    model = Exposed(EXCESS["bright"]).eval()
    layers = find(model, "logits", SIZE)
    bright = torch.tensor([1, 1, 0.2, 1, 1])[:, None, None, None].expand(5, *SIZE)
    with torch.no_grad():
        for images in (torch.rand(5, *SIZE), torch.rand(5, *SIZE), bright):
            activations(model, layers, images)
        with pytest.raises(UserError, match="responds to an image alone otherwise than in a batch of 5"):
            activations(model, layers, bright)


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("together", [1, 2, 3, 5])
def test_each_image_is_answered_as_if_it_were_alone(kind, together):
    """F84: whatever the network does with its batch; axes are (image, channel, *map)."""
    build, names = OWN[kind]
    model, images = build(), torch.rand(5, *SIZE, generator=torch.Generator().manual_seed(3))
    layers = find(model, list(names), SIZE)
    expected = by_hand(model, images, names)
    with torch.inference_mode():
        parts = [activations(model, layers, some) for some in images.split(together)]
    for layer in layers:
        found = torch.cat([part[layer.name] for part in parts])
        assert found.shape == (5, layer.channels, *layer.map_size)
        for own, value in zip(found, expected[layer.name]):
            value = value.squeeze(layer.image_axis) if value.dim() > own.dim() else value
            value = value.T if value.dim() == 2 else value  # tokens: the channels are last
            assert torch.allclose(own, value, atol=1e-6), layer.name


@pytest.mark.parametrize("kind", OWN)
def test_what_the_network_returns_is_whole_for_any_batch(kind):
    """F84: of nine images in batches of four the last is alone, and counts like the others."""
    model, images = OWN[kind][0](), torch.rand(9, *SIZE, generator=torch.Generator().manual_seed(4))
    expected = torch.stack([one.view(6) for one in by_hand(model, images, {"": ""})[""]])
    with torch.inference_mode(), tap(model, [], lambda *_: None, complete=True) as run:
        found = torch.cat([run(some) for some in images.split(4)])
    assert torch.allclose(found, expected, atol=1e-6) and torch.allclose(handed(model, images), expected, atol=1e-6)
    assert handed(model, images[:1]).shape == (1, 6)


def test_the_kernels_of_each_image_are_read_for_each_image():
    """F84: the layer is the function's output, in which images and channels share an axis."""
    model, images = Kernels(), torch.rand(4, *SIZE)
    layers = find(model, "conv1", SIZE)
    with torch.inference_mode(), Told() as told:
        found = activations(model, layers, images)["conv1"]
        share = images.mean((2, 3)).softmax(1)
        for own, image, mine in zip(found, images, share):
            weight = torch.einsum("k,ocyx->ocyx", mine, model.first.weight)
            assert torch.allclose(own, F.conv2d(image, weight, padding=1).relu(), atol=1e-6)
    assert (layers[0].channels, layers[0].map_size) == (4, (8, 8)) and not told


def test_views_that_are_folded_into_the_batch_are_refused_and_told():
    """F84: by the layer's name, with the shapes; what the network returns is right."""
    model, images = Views(), torch.rand(3, *SIZE)
    with pytest.raises(UserError, match=r"layer 'conv1' .*\(2x4x8x8 for one image, 6x4x8x8 for 3\)"):
        find(model, "conv1", SIZE)
    assert list(left_out(model, SIZE).values()) == [["conv1", "conv2", "head"]]
    with Told() as told:
        assert find(model, ["all", "logits"], SIZE)[0].name == "logits" and main_layers(model, SIZE) == []
    assert any("left out" in line and "conv1" in line for line in told)
    layer = find(model, "logits", SIZE)
    with torch.inference_mode():
        assert torch.allclose(activations(model, layer, images)["logits"], model(images), atol=1e-6)


def test_what_passes_one_by_one_and_why_is_told_once(caplog):
    """F84."""
    model = Statistics()
    with caplog.at_level(logging.WARNING, "cnnprobe"):
        for _ in range(2):
            layers = find(model, ["first", "norm"], SIZE)
    assert [layer.handing for layer in layers] == ["together", "one by one"]
    assert len(caplog.messages) == 1 and "layer 'norm'" in caplog.messages[0] and "one by one" in caplog.messages[0]


def test_randomness_is_not_taken_for_an_answer_to_the_other_images():
    """F84: dropout that is always on."""

    class Always(Net):
        def forward(self, x):
            return super().forward(F.dropout(x, 0.5, training=True))

    class Both(Squeezed):
        def forward(self, x):
            return super().forward(F.dropout(x, 0.5, training=True))

    state = torch.get_rng_state()
    with Told() as told:
        layers = find(Always(), "conv2", SIZE) + find(Both(), "logits", SIZE)
    assert [layer.handing for layer in layers] == ["together", "restored"]
    assert len(told) == 2 and all("differ from pass to pass" in line for line in told)
    assert torch.equal(torch.get_rng_state(), state)


# ---- gradients and stand-ins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kernels", "statistics", "squeezed", "tokens"])
def test_gradients_are_those_of_each_image_alone(kind):
    """F84."""
    model = OWN[kind][0]()
    images = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(5))
    (layer,) = find(model, "logits", SIZE)
    units = np.array([0, 2, 5])
    with Gradients(model, layer, SIZE, Recipe("gradient")) as gradients:
        maps = gradients.maps(images, np.arange(3), units, np.zeros((3, 0), np.int64))
    for image, unit, found in zip(images, units, maps.values):
        leaf = image[None].clone().requires_grad_()
        (expected,) = torch.autograd.grad(model(leaf).view(-1)[unit], leaf)
        assert np.allclose(found, expected[0], atol=1e-7)


@pytest.mark.parametrize("kind", ["kernels", "statistics", "squeezed"])
def test_what_stands_in_for_an_activation_stands_in_for_each_image(kind):
    """F84: the head is that of each image alone."""
    model, images = OWN[kind][0](), torch.rand(3, *SIZE)
    (layer,) = find(model, "conv2", SIZE)
    head = cut(model, layer, SIZE)
    with torch.no_grad():
        activation, sides = head.base(images)
        whole = torch.stack([model(one[None]).view(6) for one in images])
        assert torch.allclose(head.ends(activation, sides)[0], whole, atol=1e-6)
        half = torch.stack([model.head(one.mean((1, 2)) / 2) for one in activation.relu()])
        assert torch.allclose(head.ends(activation / 2, sides)[0], half, atol=1e-6)


# ---- names and axes --------------------------------------------------------------------------------------------------


def test_a_function_that_ran_on_weights_before_is_not_read_in_its_place():
    """F84."""

    class Rectified(Net):
        def forward(self, x):
            x = F.relu(F.conv2d(x, F.relu(self.first.weight)))
            return x.mean((2, 3))

    model, images = Rectified(), torch.rand(2, *SIZE)
    with torch.no_grad():
        found = activations(model, find(model, "conv1", SIZE), images)["conv1"]
        assert torch.equal(found, F.relu(F.conv2d(images, F.relu(model.first.weight))))


class Volume(nn.Module):
    """The channels of the image are slices of a volume."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, stride=(1, 2, 2), padding=1)

    def forward(self, x):
        return self.conv(x[:, None]).mean((2, 3, 4))


def test_a_position_on_any_map_has_its_field_where_the_gradient_is():
    """F84: the map has more axes than the image."""
    size = (5, 12, 8)
    torch.manual_seed(0)
    model = Volume().eval()
    (layer,) = find(model, "conv1", size)
    canvas = canvas_of(layer.field, size[1:], None)
    generator = np.random.default_rng(0)
    for _ in range(6):
        position = tuple(int(generator.integers(1, side - 1)) for side in layer.map_size)
        image = torch.rand(1, *size, requires_grad=True)
        with tap(model, [layer], lambda _, a, at=position: a[(0, 0, *at)].backward()) as run:
            run(image)
        seen = image.grad[0].abs().sum(0).nonzero()
        first, last = seen.amin(0).tolist(), seen.amax(0).tolist()
        assert layer.field.region(position) == tuple(zip(first, last))
        middle = [corner + (a + b) // 2 for corner, a, b in zip(canvas.corner(position), first, last)]
        assert middle == [side // 2 for side in canvas.sides]


def test_of_a_map_with_the_axes_of_the_image_nothing_is_said():
    assert all(not layer.field.along for layer in layers_of(Net(), SIZE))


class Several(Kernels):
    """Returns logits and a number of the batch, by name or in order; takes one image only."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.eval()

    def forward(self, x):
        assert len(x) == 1
        x = super().forward(x)
        return {"logits": x, "loss": x.mean()} if self.kind == "dict" else (x, x.mean())


@pytest.mark.parametrize("kind", ["dict", "tuple"])
def test_of_several_things_returned_each_is_put_together(kind):
    """F84."""
    model, images = Several(kind), torch.rand(3, *SIZE)
    with torch.no_grad():
        found = handed(model, images)
        found = found if kind == "tuple" else tuple(found.values())
        expected = torch.cat([Kernels.forward(model, one) for one in images.split(1)])
    assert torch.allclose(found[0], expected, atol=1e-6) and torch.allclose(found[1], expected.mean(1), atol=1e-6)


class Leaving(nn.Module):
    """Leaves early where every image of its batch is bright, as networks with several exits do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 6)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        maps = F.relu(self.first(x))
        if x.mean((1, 2, 3)).min() > 0.1:
            return self.head(maps.mean((2, 3)))
        return self.head(self.second(maps).mean((2, 3)))


def test_no_image_decides_for_another(caplog):
    """F84: images pass one by one where Python reads values of them, in whatever batch the odd one stands."""
    logging.getLogger("cnnprobe").propagate = True
    model, images = Leaving(), torch.rand(12, *SIZE)
    images[9] *= 0.1
    expected = torch.cat([model(one) for one in images.split(1)])
    logits = find(model, "logits", SIZE)
    with torch.inference_mode():
        found = torch.cat([activations(model, logits, some)["logits"] for some in images.split(4)])
        torch.testing.assert_close(found.flatten(1), expected)
        torch.testing.assert_close(handed(model, images), expected)
    assert "reads values of its images (__bool__()), by which one image may decide for others" in caplog.text


def test_what_passing_one_by_one_costs_is_said(caplog):
    """F84: as many passes as there are images."""
    logging.getLogger("cnnprobe").propagate = True
    model, passes = Leaving(), []
    model.register_forward_hook(lambda *_: passes.append(1))
    conduct_of(model, SIZE)
    assert "images pass one by one (a batch of n takes n passes)" in caplog.text
    passes.clear()
    handed(model, torch.rand(12, *SIZE))
    assert len(passes) == 12


class Reusing(nn.Module):
    """Takes one image at a time, and returns a buffer that it writes into."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("made", torch.zeros(1, 4), persistent=False)

    def forward(self, images):
        return self.made.copy_(self.conv(images).mean((2, 3)))


def test_what_is_returned_is_not_written_over_by_the_next_pass():
    """F20."""
    torch.manual_seed(0)
    model, images = Reusing().eval(), torch.rand(3, *SIZE)
    with torch.no_grad():
        expected = model.conv(images).mean((2, 3))
        assert torch.allclose(handed(model, images), expected, atol=1e-6)
        with tap(model, [], lambda *_: None, complete=True) as run:
            assert torch.allclose(run(images), expected, atol=1e-6)
            first = run(images[:1])
            run(images[1:2])
            assert torch.allclose(first, expected[:1], atol=1e-6)
    assert outputs_of(model, SIZE, tuple("abcd")).kind == "logits"
