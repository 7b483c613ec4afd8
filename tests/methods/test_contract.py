"""The contract of an experiment: what modules offer is what `Method` says, and what a run hands over is explained."""

import inspect
from dataclasses import fields

import numpy as np
import pytest
from torch import nn

import cnnprobe
from cnnprobe import methods
from cnnprobe.config import catalogue
from cnnprobe.errors import UserError
from cnnprobe.methods.contract import HANDED_OVER, Method, Provided, Resumed

FACTS = tuple(Method.__annotations__)
FUNCTIONS = [name for name, value in vars(Method).items() if inspect.isfunction(value) and not name.startswith("_")]


@pytest.mark.parametrize("command", catalogue.commands())
def test_every_experiment_keeps_the_contract(command):
    """Its functions take what the protocol says, by these names; what only learns has facts of its own."""
    module = methods.module(command)
    for name in FUNCTIONS:
        own = getattr(module, name, None)
        if own is None:
            assert name not in ("compute", "draw", "headline")
            continue
        said = [one for one in inspect.signature(getattr(Method, name)).parameters if one not in ("self", "options")]
        given = [one.name for one in inspect.signature(own).parameters.values() if one.kind is not one.KEYWORD_ONLY]
        assert given == said, name
    kinds = {"ORDER": int, "LEARNS": bool, "MOMENTS": bool, "BUILT_FROM": tuple}
    assert set(kinds) == set(FACTS)
    for name, kind in kinds.items():
        assert isinstance(getattr(module, name, kind()), kind)
        assert catalogue.fact(command, name, kind()) == getattr(module, name, kind())


def test_every_command_has_a_place_of_its_own_in_the_list():
    places = [catalogue.fact(command, "ORDER", None) for command in catalogue.commands()]
    assert places == sorted(places) and len(set(places)) == len(places)


def test_what_may_be_built_from_runs_says_from_which():
    for command in catalogue.commands():
        assert bool(catalogue.fact(command, "BUILT_FROM", ())) == ("source" in catalogue.options_of(command))


@pytest.mark.parametrize("kind", [Provided, Resumed])
def test_every_value_that_is_handed_over_is_explained(kind):
    for field in fields(kind):
        assert f"        {field.name}: " in kind.__doc__


def test_no_option_has_the_name_of_what_is_handed_over():
    for command in catalogue.commands():
        assert not set(catalogue.options_of(command)) & set(HANDED_OVER)


NET = nn.Sequential(nn.Conv2d(3, 2, 3))
IMAGES = np.zeros((2, 3, 8, 8), np.float32)


def test_what_is_missing_of_a_call_from_python_is_named():
    with pytest.raises(TypeError, match="topk needs a model and a dataset"):
        cnnprobe.measure("topk", dataset=IMAGES, layer="conv1")
    with pytest.raises(TypeError, match="topk needs layer"):
        cnnprobe.measure("topk", model=NET, dataset=IMAGES)
    with pytest.raises(TypeError, match="needs held_out"):
        cnnprobe.measure("train", model=NET, dataset=IMAGES)


def test_what_is_no_option_is_told():
    with pytest.raises(UserError, match="no option 'tops' in topk"):
        cnnprobe.measure("topk", model=NET, dataset=IMAGES, layer="conv1", tops=3)
    with pytest.raises(UserError, match="cam takes one network, not several moments"):
        cnnprobe.measure("cam", model=NET, dataset=IMAGES, layer="conv1", moments=[object()])


def test_one_size_stands_for_images_where_none_are_looked_at():
    found = cnnprobe.measure("layers", model=NET, size=(3, 8, 8))
    assert found.tables[0].attributes["input_size"] == [3, 8, 8]
