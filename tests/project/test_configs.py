"""The YAML files: every one composes, is explained, and agrees with the function it feeds."""

import inspect
import re
from pathlib import Path

import pytest

from cnnprobe import methods
from cnnprobe.config import catalogue, compose
from cnnprobe.config.options import Option
from cnnprobe.config.words import parse
from cnnprobe.methods.contract import Provided

ROOT = Path(__file__).parents[2]
MOST = 20
"""Parameters of a command beside what a run hands over."""
PAIRS = [(group, name) for group in ("model", "dataset", "method", "device") for name in catalogue.choices(group)]


def test_every_yaml_is_found():
    found = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    assert len(found) == len(PAIRS) + len(catalogue.choices("experiment")) + 1


@pytest.mark.parametrize(("group", "name"), PAIRS)
def test_every_choice_composes_and_every_default_has_its_type(group, name):
    command = name if group == "method" else "record"
    words = [command] + ([] if group == "method" else [f"{group}={name}"])
    words += ["model.file=net.py"] if name == "custom" else []
    config = compose.compose(parse(words))
    assert config[group]["name"] == name


@pytest.mark.parametrize(("group", "name"), PAIRS)
def test_every_option_is_explained(group, name):
    page = catalogue.page(catalogue.yaml_path(group, name))
    assert page.summary.endswith((".", ")"))
    unexplained = [key for key, entry in (page.entries | page.root).items() if not entry.help]
    assert unexplained == []


@pytest.mark.parametrize("name", catalogue.choices("method"))
def test_the_yaml_and_compute_name_the_same_options(name):
    page = catalogue.page(catalogue.yaml_path("method", name))
    first, *others = inspect.signature(methods.module(name).compute).parameters.values()
    assert first.annotation is Provided
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in others)
    assert set(page.entries) == set(catalogue.options_of(name)) - {"layer", "units"}
    assert len(others) <= MOST


@pytest.mark.parametrize(("group", "name"), [pair for pair in PAIRS if pair[0] in ("model", "dataset")])
def test_the_yaml_and_build_name_the_same_options(group, name):
    page = catalogue.page(catalogue.yaml_path(group, name))
    options = catalogue.options(group, name)
    assert set(page.entries) - {"num_classes"} == set(options) - {"num_classes"}
    assert all(isinstance(option, Option) for option in options.values())


@pytest.mark.parametrize("name", catalogue.choices("method"))
def test_every_command_has_examples_that_compose(name):
    examples = catalogue.page(catalogue.yaml_path("method", name)).examples
    assert len(examples) >= 3
    for example in examples:
        words = re.sub(r"(?<==)~/\S+", "x", example).split()[1:]
        request = parse([word for word in words if word != "-m"])
        assert request.command == name
        (compose.first_job if "-m" in words else compose.compose)(request)


@pytest.mark.parametrize("name", catalogue.choices("experiment"))
def test_every_experiment_composes_both_ways_of_writing(name):
    examples = catalogue.page(ROOT / "configs" / "experiment" / f"{name}.yaml").examples
    command = examples[0].split()[1]
    one, other = (compose.compose(parse([command, f"{sign}experiment={name}"])) for sign in ("", "+"))
    assert one == other
    assert all(f"experiment={name}" in example for example in examples if example.split()[1] == command)


def test_a_short_option_and_its_long_form_are_the_same():
    short = compose.compose(parse(["topk", "layer=conv1", "k=4"]))
    long = compose.compose(parse(["topk", "layer=conv1", "method.k=4"]))
    assert short == long
    assert short["method"]["k"] == 4


def test_the_users_own_folder_of_yaml_is_searched_first(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "experiment").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("# Mine.\nname: convnet\nwritten: sequential\ninput_size: 64\n")
    text = "# @package _global_\ndefaults:\n  - override /model: mine\nseed: 7\n"
    (tmp_path / "experiment" / "e1.yaml").write_text(text)
    config = compose.compose(parse(["record", "experiment=e1", "--config-dir", str(tmp_path)]))
    assert config["model"] == {"name": "convnet", "written": "sequential", "input_size": 64}
    assert config["seed"] == 7
