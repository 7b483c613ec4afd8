"""The examples run, and find what was built in."""

import importlib.util
import subprocess
import sys
from pathlib import Path

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
