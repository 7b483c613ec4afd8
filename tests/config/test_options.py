from dataclasses import fields

import pytest

from cnnprobe.config.options import Option, Range, declared, option_name, parameter_name, parameters
from cnnprobe.errors import UserError
from cnnprobe.methods.optimize.ascent.presets import Changes

SOURCE = """
from typing import Annotated, Literal
import torch
Criterion = Literal["max", "mean", "area"]
def compute(*, model: torch.nn.Module, dataset, k: Annotated[int, Range(1)], share: Annotated[float, Range(0, below=1)],
            seed: Annotated[int, Range(0, 2**32 - 1)], criterion: Criterion | list[Criterion], source: Run | None):
    raise RuntimeError("never run")
"""


@pytest.fixture
def found(tmp_path):
    path = tmp_path / "method.py"
    path.write_text(SOURCE)
    return declared(path, "compute"), parameters(path, "compute")


def test_annotations_are_read_without_running_the_file(found):
    options, names = found
    assert set(options) == {"k", "share", "seed", "criterion", "source"}
    assert names == ["model", "dataset", "k", "share", "seed", "criterion", "source"]


def test_an_alias_and_a_list_of_it_give_the_same_choices(found):
    assert found[0]["criterion"].choices == ["max", "mean", "area"]
    assert found[0]["criterion"].check(["max", "area"], "criterion") == ["max", "area"]


def test_a_written_out_bound_is_worked_out(found):
    assert found[0]["seed"].check(2**32 - 1, "seed") == 2**32 - 1
    with pytest.raises(UserError, match="seed must be a whole number, from 0 to 4294967295, got 4294967296"):
        found[0]["seed"].check(2**32, "seed")


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        ("Annotated[int, Range(1)]", 0, "k must be a whole number, 1 or more, got 0"),
        ("Annotated[int, Range(1)]", "abc", "k must be a whole number, 1 or more, got 'abc'"),
        ("int", 3.7, "k must be a whole number, got 3.7"),
        ("int", None, "k must be a whole number, got null"),
        ("int", True, "k must be a whole number, got true"),
        ("int", 10**23, "k must be a whole number, got 1000"),
        ("Annotated[float, Range(above=0)]", float("nan"), "k must be a finite number, above 0, got nan"),
        ("Annotated[float, Range(above=0)]", float("inf"), "k must be a finite number, above 0, got inf"),
        ('Literal["max", "mean", "area"]', "maxx", "k must be max, mean or area, got 'maxx'; did you mean 'max'"),
        ("list[int]", [1, "x"], r"k must be a list of \[a whole number\], got \[1, 'x'\]"),
        ("list[int]", [], "k must be a list"),
        ("bool", 1, "k must be true or false, got 1"),
        ("str", "a\0b", r"k must be a text, got 'a\\x00b'"),
        ("str", "\udcff", r"k must be a text, got '\\udcff'"),
        ("bool", "yes", "k must be true or false, got 'yes'"),
    ],
)
def test_a_wrong_value_is_told_with_what_it_must_be(annotation, value, words):
    """F02, F04."""
    with pytest.raises(UserError, match=words):
        Option.of(annotation).check(value, "k")


def test_a_number_in_a_list_of_texts_is_one_of_them():
    """Layers of a Sequential are called 0, 1, …, and beside 0 alone there is [0,conv2]."""
    assert Option.of("str | list[str] | None").check([0, "conv2"], "layer") == ["0", "conv2"]
    assert Option.of("list[int | str]").check([0, "cat"], "class") == [0, "cat"]
    with pytest.raises(UserError, match="a list of"):
        Option.of("list[str]").check([0.5], "layer")


def test_a_whole_number_serves_as_a_float():
    assert Option.of("float").check(1, "lr") == 1.0
    assert isinstance(Option.of("float").check(1, "lr"), float)


@pytest.mark.parametrize(
    ("limits", "inside", "outside"),
    [
        (Range(1), [1, 2], [0.99]),
        (Range(above=0), [1e-9], [0]),
        (Range(0, 1), [0, 1], [-1, 1.01]),
        (Range(0, below=1), [0, 0.99], [1]),
    ],
)
def test_bounds_are_kept_at_their_very_edges(limits, inside, outside):
    """F03."""
    assert all(value in limits for value in inside)
    assert not any(value in limits for value in outside)


def test_an_option_may_have_a_name_that_python_keeps_for_itself(tmp_path):
    path = tmp_path / "method.py"
    path.write_text("def compute(*, model, class_: int | None, end_: str): ...")
    assert list(declared(path, "compute")) == ["class", "end_"]
    assert parameters(path, "compute") == ["model", "class", "end_"]
    assert [option_name("class_"), option_name("end_"), parameter_name("class"), parameter_name("end_")] == [
        "class", "end_", "class_", "end_",
    ]  # fmt: skip


def test_a_group_of_options_stands_for_its_fields(tmp_path):
    """In the place of the parameter, in the order of the dataclass, with the ranges that stand there."""
    path = tmp_path / "grouped.py"
    path.write_text(
        "from cnnprobe.methods.optimize.ascent.presets import Changes\n"
        "def compute(provided, *, k: int, changes: Changes, last: bool): ...\n"
    )
    names = [field.name for field in fields(Changes)]
    assert parameters(path, "compute") == ["k", *names, "last"]
    assert list(declared(path, "compute")) == ["k", *names, "last"]
    with pytest.raises(UserError, match="steps must be a whole number, from 1 to 100000 or null, got 0"):
        declared(path, "compute")["steps"].check(0, "steps")
