"""The examples run, and find what was built in."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe as package
from cnnprobe.datasets.base.given import given_images
from cnnprobe.errors import UserError

EXAMPLES = Path(__file__).parents[2] / "examples"


def loaded(name):
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_each_unit_prefers_the_orientation_that_was_built_into_it(capsys):
    example = loaded("probe_from_python")
    assert example.main() == dict(enumerate(example.BUILT_IN))
    assert len(capsys.readouterr().out.splitlines()) == len(example.BUILT_IN)


def test_a_figure_of_ones_own_shows_every_unit_and_every_layer(cnnprobe, tmp_path):
    words = ["model=convnet", "dataset=shapes", "limit=12", "layer=[conv1,conv2]", "draws=1", "top_images=2"]
    assert cnnprobe("rf-map", *words, "weights=random", "effective=false").status == 0
    example = loaded("own_figure")
    run = tmp_path / "outputs/rf-map/convnet-shapes/v001"
    (axes,) = example.figure_of(str(run)).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["conv1", "conv2"]
    assert axes.get_ylabel() == "side of the receptive field (px)"
    shown = [len(line.get_xdata()) for line in axes.lines]
    assert shown[1::2] == [2, 2] and all(count > 2 for count in shown[::2])
    words = [sys.executable, str(EXAMPLES / "own_figure.py"), str(run), "fields.png"]
    subprocess.run(words, cwd=tmp_path, check=True)
    assert (tmp_path / "fields.png").stat().st_size > 5000


class Colours(nn.Module):
    """Two units: the mean of the first channel, and of the second."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1, bias=False)
        self.conv.weight.data = torch.eye(2).reshape(2, 2, 1, 1)

    def forward(self, images):
        return self.conv(images).mean((2, 3))


def test_a_unit_of_one_class_is_selective_and_one_of_all_is_not():
    images = np.zeros((9, 2, 4, 4), np.float32)
    labels = np.arange(9) % 3
    images[labels == 1, 0] = 0.8  # the first unit: one class alone
    images[:, 1] = np.array([0.2, 0.2, 0.6])[labels][:, None, None]  # the second: (0.6 - 0.2) / (0.6 + 0.2)
    dataset = given_images(images)
    with pytest.raises(UserError, match="needs images of two or more classes; given has 0"):
        package.measure(str(EXAMPLES / "class_selectivity.py"), model=Colours(), dataset=dataset, layer="conv")
    dataset.labels, dataset.classes = labels, ("a", "b", "c")
    rows = list(package.measure(str(EXAMPLES / "class_selectivity.py"), model=Colours(), dataset=dataset, layer="conv",
                                batch_size=4))  # fmt: skip
    assert np.allclose([row.selectivity for row in rows], [1, 0.5])
    assert [int(row.preferred) for row in rows] == [1, 2]
    assert np.allclose([row.response for row in rows], [[0, 0.8, 0], [0.2, 0.2, 0.6]])


def test_an_experiment_in_a_file_is_a_command(cnnprobe):
    file = f"method.file={EXAMPLES / 'class_selectivity.py'}"
    shown = ["model=convnet", "dataset=shapes", "dataset.count=12", "weights=random", "layer=[conv1,conv3]"]
    answer = cnnprobe("class-selectivity", file, *shown)
    assert answer.status == 0 and "class-selectivity: conv1 0." in answer.out
    recording = package.open("outputs/class-selectivity/convnet-shapes/v001")
    for table in recording.in_order():
        index = table["selectivity"][np.isfinite(table["selectivity"])]
        assert len(index) and (index >= 0).all() and (index <= 1).all()
    (png,) = Path("outputs/class-selectivity/convnet-shapes/v001/figures").iterdir()
    assert png.name == "selectivity.png"
