"""MouseNet against the numbers of its authors and against a network built from the table in the plainest way."""

import pytest
import torch
import torch.nn.functional as F

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import layers_of
from cnnprobe.instruments.network.about import about
from cnnprobe.models import mousenet
from cnnprobe.models.parts import anatomy

OPTIONS = {"readout": "pool4", "mask": "per_channel", "mask_seed": 2021, "input_size": None, "upsample_to": None}
VARIANTS = ("mousenet64", "mousenet32", "mousenet64_may2020", "mousenet64_oct2020")
TRAINABLE = {  # with 10 classes: readout pool4, and fc2048 where the authors used it
    "mousenet64": 2_176_019,
    "mousenet32": 8_621_147,
    "mousenet64_may2020": 364_880_546,
    "mousenet64_oct2020": 3_016_950,
}


def network(variant="mousenet64", classes=10, **options):
    return mousenet.build(num_classes=classes, variant=variant, **OPTIONS | options)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return network()


@pytest.mark.parametrize("variant", VARIANTS)
def test_sizes_are_those_of_the_authors(variant):
    with torch.device("meta"):
        model = network(variant, readout="fc2048" if variant == "mousenet64_may2020" else "pool4")
    checks = anatomy.network(variant)["checks"]
    assert sum(conv.weight.numel() for conv in model.conv.values()) == checks["conv_weights"]
    assert sum(conv.bias.numel() for conv in model.conv.values()) == checks["conv_biases"]
    assert count(model.norm) == checks["bn_affine"]
    first = model.readout if variant != "mousenet64_may2020" else model.readout[0]
    assert first.in_features == checks["readout_features"]
    assert count(model) == TRAINABLE[variant]


def test_a_thousand_classes_and_the_pooled_readout_of_may_2020():
    with torch.device("meta"):
        assert count(network(classes=1000)) == 4_457_969
        assert network("mousenet64_may2020").readout.in_features == 2864


@pytest.mark.parametrize("variant", VARIANTS)
def test_nodes_have_the_shapes_of_the_table(variant):
    model, shapes = network(variant), {}
    for name, module in model.area.items():
        module.register_forward_hook(lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    with torch.no_grad():
        assert model(torch.rand(2, *about(model).input_size)).shape == (2, 10)
    nodes = anatomy.network(variant)["nodes"][1:]
    assert shapes == {mousenet.key(n["name"]): (n["channels"], n["out_size"], n["out_size"]) for n in nodes}


def plain(model, table, images):
    """Compute the logits as the definition reads: pad each source, convolve, add, normalise, rectify."""
    mean, deviation = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
    maps = {"input": ((images.permute(0, 2, 3, 1) - mean) / deviation).permute(0, 3, 1, 2).double()}

    def norm(x, of):
        average = x.mean((0, 2, 3), keepdim=True)
        variance = x.var((0, 2, 3), unbiased=False, keepdim=True)
        return (x - average) / (variance + 1e-5).sqrt() * of.weight[:, None, None] + of.bias[:, None, None]

    for node in table["nodes"][1:]:
        total = 0
        for edge in (e for e in table["edges"] if e["target"] == node["name"]):
            conv = model.conv[edge["id"]]
            padded = F.pad(maps[edge["source"]], edge["padding"])
            arriving = F.conv2d(padded, conv.weight * conv.mask, conv.bias, edge["stride"])
            if table["merge"] == "sum_of_relu_bn_conv":
                arriving = norm(arriving, model.norm[edge["id"]]).clamp(min=0)
            total = total + arriving
        if table["merge"] != "sum_of_relu_bn_conv" and node["name"] not in table.get("linear_nodes", []):
            total = norm(total, model.norm[mousenet.key(node["name"])]).clamp(min=0)
        maps[node["name"]] = total
    pooled = [F.adaptive_avg_pool2d(maps[name], 4).flatten(1) for name in table["readout"]["concat_order"]]
    return F.linear(torch.cat(pooled, 1), model.readout.weight, model.readout.bias)


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_pass_equals_the_definition(variant):
    """In double precision, in training mode, so that the BatchNorms are computed a second way too."""
    model = network(variant).double().train()
    images = torch.rand(2, 3, 24, 24)
    with torch.no_grad():
        expected = plain(model, anatomy.network(variant), images)
        assert torch.allclose(model(images.double()), expected, atol=1e-6)


@pytest.mark.parametrize("variant", ["mousenet64", "mousenet32"])
def test_edges_of_stride_two_equal_padded_convolutions_alone_and_together(variant):
    """All edges that leave an area are convolved together while the network learns."""
    model = network(variant).double()
    for source_name, names in model.halving.items():
        edges = [model.conv[name] for name in names]
        source = torch.rand(1, edges[0].in_channels, 24, 24, dtype=torch.double)
        for edge, together in zip(edges, mousenet.halved(source, edges), strict=True):
            left, right = edge.padding[0], edge.padding[0] + 1
            expected = F.conv2d(F.pad(source, (left, right) * 2), edge.weight, edge.bias, 2)
            assert torch.allclose(edge(source), expected, atol=1e-12), source_name
            assert torch.allclose(together, expected, atol=1e-12), source_name


def test_taps_that_do_not_exist_stay_zero_through_training_with_weight_decay(model):
    trained = network().train()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        trained(torch.rand(4, 3, 16, 16)).square().sum().backward()
        assert all((conv.weight.grad[~conv.mask] == 0).all() for conv in trained.conv.values())
        assert any((conv.weight.grad[conv.mask] != 0).any() for conv in trained.conv.values())
        optimizer.step()
    saved = trained.state_dict()
    assert all((saved[f"conv.{name}.weight"][~conv.mask] == 0).all() for name, conv in trained.conv.items())


def test_a_masked_weight_changed_by_hand_leaves_the_output_unchanged():
    model, images = network(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model(images)
        for conv in model.conv.values():
            conv.weight[~conv.mask] = 9.0
        assert torch.equal(model(images), before)


def test_new_weights_drawn_later_leave_the_taps_that_do_not_exist_at_zero():
    conv = network().conv["conv4"]
    before = conv.weight.clone()
    conv.reset_parameters()
    assert not torch.equal(conv.weight, before)
    assert (conv.weight[~conv.mask] == 0).all()


def test_weights_start_uniform_within_one_over_root_of_the_dense_fan_in(model):
    conv = model.conv["conv3"]
    bound = (26 * 81) ** -0.5
    values = conv.weight[conv.mask]
    assert values.abs().max() <= bound
    assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_node_reaches_the_logits(variant):
    """In the authors' code of May 2020 four edges did not."""
    model = network(variant).train()
    model(torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert all(conv.weight.grad.abs().sum() > 0 for conv in model.conv.values())


def test_mask_seed_and_weight_seed_are_apart():
    torch.manual_seed(1)
    one = network()
    torch.manual_seed(2)
    same_masks, other_masks = network(), network(mask_seed=5)
    assert torch.equal(one.conv["conv4"].mask, same_masks.conv["conv4"].mask)
    assert not torch.equal(one.conv["conv4"].weight, same_masks.conv["conv4"].weight)
    assert not torch.equal(one.conv["conv4"].mask, other_masks.conv["conv4"].mask)


def test_masks_are_saved_with_the_weights(model):
    other = network(mask_seed=5)
    other.load_state_dict(model.state_dict())
    assert all(torch.equal(other.conv[name].mask, conv.mask) for name, conv in model.conv.items())


def test_masks_cost_nothing_where_there_are_none():
    assert not any(name.endswith("mask") for name in network(mask="none").state_dict())
    assert all(conv.weight.count_nonzero() == conv.weight.numel() for conv in network(mask="none").conv.values())


FIELDS = {  # px: theoretical receptive fields of the nodes, 64 and 32 px networks, derived by hand from the tables
    "mousenet64": "9 11 19 21 39 39 39 37 35 55 59 71 73 59 63 67 83 81 67 111 135 139",
    "mousenet32": "9 11 15 15 23 23 23 23 21 31 31 35 39 33 35 35 39 43 37 51 63 63",
    "mousenet64_may2020": "9 11 19 21 39 39 39 37 35 55 59 71 69 59 63 67 83 77 67 111 135 139",
}


@pytest.mark.parametrize("variant", FIELDS)
def test_fields_of_the_nodes(variant):
    """Edges of stride 2 are padded by one more at the right: a unit of a higher area looks at 2 i + 1."""
    model = network(variant)
    found = {layer.name: layer for layer in layers_of(model, about(model).input_size) if layer.kind == "area"}
    names = [node["name"] for node in anatomy.network(variant)["nodes"][1:]]
    assert [found[name].field.size[0] for name in names] == [int(size) for size in FIELDS[variant].split()]
    for name in names:
        field = found[name].field
        higher = not name.startswith(("VISp2", "VISp4", "VISp5", "LGN"))
        assert field.stride == ((2, 2) if higher else (1, 1))
        assert field.start[0] + (field.size[0] - 1) / 2 == (1 if higher else 0)


def test_areas_go_by_the_names_of_anatomists(model):
    for name in ("VISp2/3", "VISp23", "VISpor5", "LGN", "LGNd", "LGNv"):
        assert isinstance(model.get_submodule(about(model).aliases[name]), torch.nn.ReLU)
    assert {about(model).aliases[name] for name in ("VISp2/3", "VISp23", "conv3")} == {"area.VISp23"}
    assert about(model).aliases["conv49"] == "conv.conv49"
    assert len({name for name in about(model).aliases if name.startswith("conv")}) == 49


def test_the_lgn_of_october_2020_is_linear():
    model, seen = network("mousenet64_oct2020"), []
    model.area["LGNv"].register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        model(torch.rand(1, 3, 16, 16))
    assert (seen[0] < 0).any()


def test_images_are_enlarged_inside_when_asked():
    """The authors showed images of 32 px at 64: enlarged inside or before is the same."""
    torch.manual_seed(3)
    inside = network(input_size=32, upsample_to=64)
    before = network()
    before.load_state_dict(inside.state_dict())
    images = torch.rand(2, 3, 32, 32)
    enlarged = F.interpolate(images, size=64, mode="bilinear", align_corners=False)
    assert about(inside).input_size == (3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(inside(images), before(enlarged), atol=1e-5)


def test_a_smaller_image_runs_directly_and_a_rebuilt_network_has_channels_of_its_own():
    small, rebuilt = network(input_size=32), network("rebuilt", input_size=48)
    with torch.no_grad():
        assert small(torch.rand(1, 3, 32, 32)).shape == rebuilt(torch.rand(1, 3, 48, 48)).shape == (1, 10)
    assert rebuilt.conv["conv3"].out_channels == 173_253 // 48**2


def test_odd_sides_are_refused():
    with pytest.raises(UserError, match=r"input_size must be even for mousenet .* got 33"):
        network(input_size=33)
    with pytest.raises(UserError, match=r"upsample_to must be even for mousenet .* got 65"):
        network(input_size=33, upsample_to=65)


def test_needs_says_which_images_without_building():
    assert mousenet.needs(variant="mousenet64", **OPTIONS).size == 64
    assert mousenet.needs(variant="mousenet32", **OPTIONS).size == 32
    assert mousenet.needs(variant="mousenet64", **OPTIONS | {"input_size": 48}).size == 48
