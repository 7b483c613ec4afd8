"""The list of what is in a network."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import cnnprobe
from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods import layers
from cnnprobe.models import unet
from cnnprobe.plots.style import png
from cnnprobe.store.reader import Recording
from cnnprobe.store.tables import Rows
from cnnprobe.store.writer import Writer
from tests.support.calling import Told
from tests.support.networks import planted


def table_of(measurement):
    """Return the columns by name: those known from the start and those that came as rows."""
    (rows,) = (event for event in measurement.events if isinstance(event, Rows))
    table, _ = measurement.tables
    known = {name: column.values for name, column in table.columns.items() if column.values is not None}
    assert len(rows) == table.rows and set(known) | set(rows.columns) == set(table.columns)
    return known | rows.columns


def test_the_table_holds_the_columns_of_the_contract_in_depth_order():
    model = torchvision.models.alexnet(weights=None).eval()
    measurement = cnnprobe.measure("layers", model=model, size=(3, 224, 224), kind="main")
    columns = table_of(measurement)
    convolutions = [f"conv{n}" for n in range(1, 6)]
    assert columns["name"].tolist() == [*convolutions, "classifier.1", "classifier.4", "classifier.6"]
    assert columns["module"].tolist()[:2] == ["features.0", "features.3"]
    assert columns["reads"].tolist()[:2] == ["features.1", "features.4"]
    assert columns["kind"].tolist() == ["convolution"] * 5 + ["linear"] * 3
    assert columns["channels"].tolist() == [64, 192, 384, 256, 256, 4096, 4096, 1000]
    assert columns["map_size"].tolist()[0] == [55, 55] and columns["map_size"].tolist()[-1] == [-1, -1]
    assert columns["field_size"][:5, 0].tolist() == [11, 51, 99, 131, 163]
    assert columns["field_start"][4].tolist() == [-66, -66] and columns["field_stride"][4].tolist() == [16, 16]
    assert columns["parameters"].sum() == 61_100_840 == measurement.tables[0].attributes["parameters"]
    assert columns["macs"].sum() == 714_188_480
    assert columns["aligned"].all() and columns["aligned"].dtype == bool


def test_all_lists_every_module_and_only_once():
    columns = table_of(cnnprobe.measure("layers", model=planted.Block(), size=(3, 8, 8), kind="all"))
    names = columns["name"].tolist()
    assert names == ["conv1#1", "bn1", "conv1", "relu#1", "conv2", "conv2#1", "bn2", "relu#2"]
    assert columns["kind"].tolist()[1::2] == ["norm", "nonlinearity", "convolution", "nonlinearity"]
    assert len(set(names)) == len(names)


def unet_of(side, **options):
    given = {"num_classes": 2, "channels": 3, "width": 1, "depth": 2, "padding": "valid", "rise": "transposed"}
    return unet.build(input_size=side, **given | options)


def test_one_position_stands_beside_the_hull_and_maps_that_grow_again_are_drawn_as_levels(tmp_path):
    """A pixel of the output of depth 2 sees 44 px, the hull of all is 47; a plain network has no such figure."""
    recording = stored(cnnprobe.measure("layers", model=unet_of(60), size=(3, 60, 60), kind="main"), tmp_path)
    table = recording["layers"]
    assert table["position_size"][-1].tolist() == [[44, 44], [44, 44]] and table["field_size"][-1].tolist() == [47, 47]
    shown = layers.summary(recording)
    assert (shown["field"][-1], shown["one position"][-1], shown["one position"][0]) == ("47", "44", "")
    at = shown["name"].index("conv11")  # what comes up and what comes across differ in reach
    assert shown["one position"][at] == "40 to 44"
    figures = dict(layers.draw(recording))
    assert list(figures) == ["layers", "architecture"]
    (ax,) = figures["architecture"].axes
    names = [text.get_text() for text in ax.texts if "\n" not in text.get_text()]
    assert names[:3] == ["image", "conv1", "contract1"] and names.index("skip1") < names.index("rise1")
    assert "2\n20\n44" in {text.get_text() for text in ax.texts}


def test_a_gate_from_one_number_is_no_map_that_grows(tmp_path):
    class Gated(planted.Functional):
        def __init__(self):
            super().__init__()
            self.squeeze, self.after = nn.Linear(3, 3), nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, images):
            gate = self.squeeze(images.mean((2, 3)))
            return super().forward(self.after(images * gate[..., None, None]))

    recording = stored(cnnprobe.measure("layers", model=Gated(), size=(3, 8, 8), kind="main"), tmp_path)
    assert [name for name, _ in layers.draw(recording)] == ["layers"]


def test_maps_grow_again_only_where_they_have_shrunk():
    assert layers.grows_again([0, 1, 0], [(0, 1), (1, 2)])
    assert not layers.grows_again([0, 1, 2], [(0, 1), (1, 2)]) and not layers.grows_again([0, 1, 0], [(0, 1), (0, 2)])


def test_signals_have_one_axis():
    columns = table_of(cnnprobe.measure("layers", model=planted.signals(), size=(2, 64), kind="main"))
    assert columns["map_size"].tolist() == [[30], [11]] and columns["field_size"].tolist() == [[5], [23]]


class Volume(nn.Module):
    """The channels of the image are slices of a volume; views of it are folded into the batch behind that."""

    def __init__(self):
        super().__init__()
        self.conv, self.views = nn.Conv3d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 3)

    def forward(self, x):
        maps = self.conv(x[:, None]).relu()
        folded = self.views(maps.movedim(2, 1).flatten(0, 1))
        return folded.unflatten(0, (len(x), -1)).mean((1, 3, 4))


def test_every_axis_of_a_map_is_stored_shown_and_drawn_and_what_is_left_out_is_told(tmp_path):
    """F84."""
    model = Volume().eval()
    with Told() as told:
        measurement = cnnprobe.measure("layers", model=model, size=(5, 8, 9), kind="main")
    assert table_of(measurement)["map_size"].tolist() == [[5, 8, 9]]
    assert len(told) == 1 and told[0].startswith("left out: conv2: it has no axis for images (5x2x6x7 for one image")
    recording = stored(cnnprobe.measure("layers", model=model, size=(5, 8, 9), kind="all"), tmp_path)
    assert layers.summary(recording)["map"] == ["5x8x9", "5x8x9"]
    ((_, made),) = layers.draw(recording)
    _, maps = made.axes
    assert [line.get_ydata()[0] for line in maps.lines] == [5, 8, 9]
    assert [text.get_text() for text in maps.get_legend().get_texts()] == ["axis 1", "axis 2", "axis 3"]
    assert png(made)


def test_images_that_do_not_fit_are_refused_before_anything_is_laid_out():
    with pytest.raises(UserError, match="cannot take an image of 1x8x8"):
        cnnprobe.measure("layers", model=planted.Functional(), size=(1, 8, 8), kind="main")


def stored(measurement, tmp_path):
    """Write a store and open it."""
    writer = Writer.create(tmp_path / "store.h5", measurement.tables, {"command": "layers", "model": "planted $x_1"})
    for event in (event for event in measurement.events if isinstance(event, Rows)):
        writer.write(event)
    writer.finish()
    writer.close()
    return Recording(tmp_path / "store.h5")


def test_what_is_stored_comes_back_and_is_drawn_without_the_network(tmp_path):
    recording = stored(cnnprobe.measure("layers", model=planted.Functional(), size=(3, 8, 8), kind="all"), tmp_path)
    table = recording["layers"]
    assert list(table["name"])[:2] == ["first", "conv1"] and table["field_size"].dtype == np.float32
    ((name, made),) = layers.draw(recording)
    fields, maps = made.axes
    assert name == "layers" and fields.lines[1].get_ydata().tolist() == table["field_size"][:, 0].tolist()
    assert len(maps.get_xticklabels()) == len(table["name"])
    assert png(made)


def test_what_a_field_owes_to_more_than_formulas_is_said(tmp_path):
    """F85: a gate makes every unit see the whole image, and the table names it; of dense layers it goes without."""

    class Gated(planted.Functional):
        def forward(self, images):
            return super().forward(images * images.mean((2, 3), keepdim=True))

    for place, model in enumerate((planted.Functional(), Gated())):
        measurement = cnnprobe.measure("layers", model=model, size=(3, 8, 8), kind="main")
        writer = Writer.create(tmp_path / f"{place}.h5", measurement.tables, {"command": "layers", "model": "planted"})
        for event in (event for event in measurement.events if isinstance(event, Rows)):
            writer.write(event)
        writer.finish()
        writer.close()
        recording = Recording(tmp_path / f"{place}.h5")
        shown, notes = layers.summary(recording), recording["layers"]["field_note"].tolist()
        assert (recording["layers"]["field_stride"][:2] == 0).all() == bool(place)
        if not place:
            assert "note on the field" not in shown and notes[:2] == ["", ""]
        else:
            words = "mean() sees the whole image"
            assert shown["note on the field"] == [words, words, ""] and notes == [words] * 3


class ThroughNumpy(nn.Module):
    """A network whose second layer reads what NumPy has made of the first; a third makes weights of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.scales = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(1, 4)

    def forward(self, x):
        made = self.first(x) * self.scales(torch.ones(1)).reshape(4, 1, 1)
        return self.second(torch.from_numpy(np.sort(made.detach().numpy(), -1))).mean((2, 3))


def test_layers_that_cannot_be_followed_are_told_and_those_that_read_no_image(caplog):
    """F85: conv2 depends on the image, though not in a way that is seen; the scales do not."""
    rows = list(cnnprobe.measure("layers", model=ThroughNumpy().eval(), size=(3, 16, 16)))
    assert [row.name for row in rows] == ["conv1"]
    assert "left out: second: what it is made from leaves torch (numpy()), and is lost there" in caplog.text
    assert caplog.messages[-1].startswith("scales: made without the image or out of sight, not among the layers; ")


def test_a_number_that_is_the_name_of_another_module_gives_a_warning():
    """F88: conv1 is the convolution that is computed first, whatever its module is called."""
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(conv2=nn.Conv2d(3, 4, 3), conv1=nn.Conv2d(4, 5, 3))).eval()
    with Told() as lines:
        (first,) = find(model, "conv1", (3, 8, 8))
        assert first.channels == 4 and find(model, "conv1#1", (3, 8, 8))[0].channels == 5
        find(nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 4, 3))).eval(), "conv1", (3, 8, 8))
    assert lines == [
        "conv1 is conv2, by the order in which convolutions are computed; the output of its module of that name is "
        "conv1#1"
    ]


def test_the_cost_of_a_network_is_that_of_all_it_computes_once(caplog):
    """F95: attention, products in a forward and recurrent layers were left out of the sum."""
    vit = torchvision.models.VisionTransformer(32, 8, 2, 2, 12, 24, num_classes=5).eval()
    patches, tokens = 16 * 12 * 3 * 8 * 8, 17
    each = 4 * tokens * 12**2 + 2 * tokens**2 * 12 + 2 * tokens * 12 * 24
    for kind in ("main", "all"):
        measurement = cnnprobe.measure("layers", model=vit, size=(3, 32, 32), kind=kind)
        assert measurement.tables[0].attributes["macs"] == patches + 2 * each + 12 * 5
    assert "multiply-adds" not in caplog.text


class Fed(nn.Module):
    """Three steps from a state of zeros, by modules and by a product, and a kernel made once for all images."""

    def __init__(self, squeezes: bool):
        super().__init__()
        self.forth, self.back, self.made = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(2, 4, bias=False)
        self.mixing, self.squeezes = nn.Parameter(torch.rand(4, 4)), squeezes

    def forward(self, images):
        kernel = self.made(torch.eye(2))  # (2, 4): 2 rows of 4 sums over 2
        state, mean = images.new_zeros(len(images), 4, 6, 6), images.new_zeros(len(images), 4)
        for _ in range(3):
            state = (self.forth(images) + self.back(state)).relu()
            mean = mean @ self.mixing + state.mean((2, 3))
        answer = mean @ kernel.T
        return answer / answer.norm() if self.squeezes else answer  # images decide for each other: one by one


@pytest.mark.parametrize("one_by_one", [False, True])
def test_steps_from_a_state_of_zeros_cost_as_much_as_others(one_by_one):
    """F95: the first call of the connections back read no image yet; a kernel made once a batch is not for each."""
    torch.manual_seed(0)
    attributes = (
        cnnprobe.measure("layers", model=Fed(one_by_one).eval(), size=(3, 8, 8), kind="main").tables[0].attributes
    )
    each = 3 * (36 * 4 * 27 + 36 * 4 * 4 + 4 * 4) + 4 * 2
    assert attributes["macs"] == each + (2 * 4 * 2 if one_by_one else 0)


class Distances(nn.Module):
    """The distances of the rows of every channel to the first row, twice."""

    def forward(self, images):
        return (torch.cdist(images, images[:, :, :1]) + torch.cdist(images, images[:, :, :1])).flatten(1)


def test_operations_without_a_count_are_told_once(caplog):
    """F95: their cost was 0."""
    cnnprobe.measure("layers", model=Distances(), size=(3, 8, 8), kind="all")
    assert caplog.text.count("multiply-adds of cdist are not counted") == 1
