"""What holds of every command, whatever it measures: the same again, or told; never a silent wrong number."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from cnnprobe.config import catalogue
from cnnprobe.errors import UserError
from tests.support.calling import (
    SIZE,
    Labelled,
    Told,
    Undefined,
    agree,
    called,
    columns_of,
    images,
    joined,
    near,
    network,
    pixels,
    plain,
    same_rows,
    shown,
    with_dead_units,
)
from tests.support.described import COMMANDS, taking

ROOT = Path(__file__).parents[2]
OVER_ALL = (Path(__file__), Path(__file__).with_name("test_untouched.py"))
"""Files with tests over all commands."""
WAITING = ("transfer", "optimize", "perturb", "rf-map", "gbp")
"""Commands of many short operations: where other tests use the cores too, two threads wait for each other long."""
CHANCE = ("low", "high", "p", "p_corrected", "embedding", "stress", "likeness", "area", "threshold", "undefined")
"""Ends of the names of columns that one image more changes by being there: it is counted, or others are drawn."""


def test_images_change_places_only_where_their_responses_are_as_near_as_rounding():
    images, responses = np.array([[3, 1], [2, 0], [5, 4]]), np.array([[2, 1], [1, 0.5], [0.7, 0.7]], np.float32)
    rows = {("units/a", "image"): images, ("units/a", "response"): responses}
    moved = rows | {("units/a", "image"): np.array([[3, 1], [2, 0], [4, 5]])}
    agree(rows, moved, 1e-5)
    agree(rows, moved | {("units/a", "response"): responses + np.array([[0], [0], [1e-6]])}, 1e-5)
    for place in ([0, 0], [2, 0]):
        wrong = responses.copy()
        wrong[tuple(place)] += 1e-3
        with pytest.raises(AssertionError):
            agree(rows, moved | {("units/a", "response"): wrong}, 1e-5)
    with pytest.raises(AssertionError):
        agree(rows, rows | {("units/a", "image"): images[:, ::-1]}, 1e-5)


# ---- the table itself ------------------------------------------------------------------------------------------------


def test_every_command_has_a_description():
    assert set(COMMANDS) == set(catalogue.commands())


def names_in(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_description_is_whole(command):
    """Planted answers that there are, errors, and reasons for every test that does not apply."""
    one = COMMANDS[command]
    assert one.answers and len(one.refused) >= 2
    for test in one.answers:
        path, _, name = test.partition("::")
        assert name in names_in(ROOT / path), test
    known = set().union(*map(names_in, OVER_ALL))
    for test, reason in one.spared.items():
        assert test in known, test
        assert len(reason.split()) >= 4, f"{test}: why?"
    assert (one.many is None) == ("test_more_places_than_images_stay_empty" in one.spared)
    assert bool(one.stimuli) == (catalogue.defaults(command)["dataset"] != catalogue.defaults("record")["dataset"])


def test_only_a_named_test_can_be_spared():
    """Every test over all commands takes them from the table under its own name."""
    for path in OVER_ALL:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                asked = [call.args[0].value for mark in node.decorator_list for call in ast.walk(mark)
                         if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "taking"]  # fmt: skip
                assert asked in ([], [node.name]), node.name


# ---- the same again --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", taking("test_the_same_call_gives_the_same_bits"))
def test_the_same_call_gives_the_same_bits(command):
    """Also after other random numbers were drawn."""
    assert plain(command)
    model = network()
    torch.rand(5), np.random.random(3)
    same_rows(plain(command), joined(called(command, model)))


@pytest.mark.parametrize("command", taking("test_the_batch_size_changes_nothing_beyond_rounding"))
@pytest.mark.parametrize("batch", [3, *(pytest.param(batch, marks=pytest.mark.slow) for batch in (1, 64))])
def test_the_batch_size_changes_nothing_beyond_rounding(command, batch):
    """F98: batches of 8 are as good as one by one, as batches that the images do not fill, and as all at once."""
    agree(plain(command), joined(called(command, batch_size=batch)), COMMANDS[command].exact)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=pytest.mark.slow) if command in WAITING else command
        for command in taking("test_the_number_of_threads_changes_nothing_beyond_rounding")
    ],
)
def test_the_number_of_threads_changes_nothing_beyond_rounding(command):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        found = joined(called(command))
    finally:
        torch.set_num_threads(before)
    agree(plain(command), found, COMMANDS[command].exact)


# ---- hard networks and images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", taking("test_a_dead_unit_has_rows_that_say_so"))
def test_a_dead_unit_has_rows_that_say_so(command):
    """F49: no infinity anywhere; where units have rows, these are the dead ones."""
    found = joined(called(command, with_dead_units()))
    assert found
    for key, values in found.items():
        assert values.dtype.kind != "f" or not np.isinf(values).any(), key
    for layer, expected in (("conv1", [1]), ("conv2", [0])):
        for name in ("dead", "dead_before"):
            for (table, column), values in found.items():
                if column == name and table.endswith(f"/{layer}"):
                    assert set(expected) <= set(np.flatnonzero(values)), table
                    others = columns_of(found, table) & {"image", "image_before"}
                    assert all((found[table, other][expected] == -1).all() for other in others), table


@pytest.mark.parametrize("command", taking("test_a_network_that_answers_nan_is_told"))
def test_a_network_that_answers_nan_is_told(command):
    """F48: One line that ends it, or a warning; and no class is decided."""
    with Told() as lines:
        try:
            plainly = {"rule": "gradient"} if command == "gbp" else {}  # its torch.where is no rectifier
            found = joined(called(command, network(Undefined, -1.0), **plainly))
        except UserError as error:
            assert "diverged" in str(error)
            return
    assert any("not finite" in line or "NaN" in line for line in lines), lines
    for (table, name), values in found.items():
        if name in ("prediction", "rank", "class") and table == "images":
            assert (values == -1).all(), name


@pytest.mark.parametrize("command", taking("test_an_image_that_the_network_answers_with_nan_never_ranks"))
def test_an_image_that_the_network_answers_with_nan_never_ranks(command):
    """F48: layer or image are told; it is among nobody's images, and nothing is decided of it."""
    means = pixels(shown(command)).mean((1, 2, 3))
    limit, worst = means.sort().values[-2:].mean().item(), int(means.argmax())
    with Told() as lines:
        try:
            found = joined(called(command, network(Undefined, limit)))
        except UserError as error:
            assert "diverged" in str(error)
            return
    assert any("not finite" in line or "NaN" in line for line in lines), lines
    for (table, name), values in found.items():
        if name.startswith(("image", "natural_image")) and values.ndim == 2 and values.dtype.kind == "i":
            assert not (values == worst).any(), (table, name)
    if command == "record":
        assert found["images", "prediction"][worst] == found["images", "rank"][worst] == -1
        assert (np.delete(found["images", "prediction"], worst) >= 0).all()


@pytest.mark.parametrize("command", taking("test_an_image_that_is_not_a_number_changes_nothing_of_the_others"))
def test_an_image_that_is_not_a_number_changes_nothing_of_the_others(command):
    """F48: The last of 25 images is NaN: it is told and skipped, and every other number is that of 24 images."""
    good = pixels(images())
    wrong = torch.cat([good, torch.full((1, *SIZE), torch.nan)])
    labels = [place % 8 for place in range(25)]
    with Told() as lines:
        found = joined(called(command, dataset=Labelled(wrong, labels, 8)))
    assert sum("skipped (3072 values are not finite)" in line for line in lines) == 1
    expected = joined(called(command, dataset=Labelled(good, labels[:24], 8)))
    assert found.keys() == expected.keys()
    assert found.pop(("stimuli", "skipped")).tolist() == [False] * 24 + [True]
    for (table, name), values in expected.items():
        if table == "differences" or name.endswith(CHANCE) or (table, name) == ("stimuli", "skipped"):
            continue
        part = found[table, name][tuple(map(slice, values.shape))]
        if values.dtype.kind == "f":
            near(values, part, COMMANDS[command].exact, (table, name))
        else:
            assert np.array_equal(values, part), (table, name)


@pytest.mark.parametrize("command", taking("test_one_image_is_measured_or_refused"))
def test_one_image_is_measured_or_refused(command):
    """F42."""
    try:
        found = joined(called(command, dataset=images(1)))
    except UserError as error:
        assert any(word in str(error) for word in ("2 or more", "3 or more")), error
        return
    assert found["stimuli", "skipped"].tolist() == [False]
    for key, values in found.items():
        assert values.dtype.kind != "f" or not np.isinf(values).any(), key


@pytest.mark.parametrize("command", taking("test_images_of_one_class_are_measured_or_refused"))
def test_images_of_one_class_are_measured_or_refused(command):
    """F42: what teaches needs two; what probes gives the numbers that do not depend on classes."""
    one = Labelled(pixels(images()), [0] * 24, 1)
    if COMMANDS[command].learns:
        with pytest.raises(UserError, match="training needs 2 or more classes, given has 1"):
            called(command, dataset=one)
        return
    found = joined(called(command, dataset=one))
    for key, values in plain(command).items():
        if key[0].startswith(("units/", "activations/")):
            assert np.array_equal(values, found[key], equal_nan=values.dtype.kind == "f"), key


@pytest.mark.parametrize("command", taking("test_more_places_than_images_stay_empty"))
def test_more_places_than_images_stay_empty(command):
    """F43: with three images (transfer: as few as there are) the places that are left over are -1, and it is told."""
    count = 24 if COMMANDS[command].learns else 3
    with Told() as lines:
        found = joined(called(command, dataset=images(count), **COMMANDS[command].many))
    ranked = {
        (table, name): one
        for (table, name), one in found.items()
        if table.startswith(("units/", "forgetting/")) and name.startswith(("image", "natural_image")) and one.ndim == 2
    }
    for key, chosen in ranked.items():
        for row in chosen:
            real = row[row >= 0]
            assert len(set(real.tolist())) == len(real) <= count, key
            assert (row[len(real) :] == -1).all(), key
    wide = any(chosen.shape[1] > count for chosen in ranked.values())
    assert any("top_images is" in line or "k is" in line for line in lines) or not (wide or COMMANDS[command].learns)


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [(command, *case) for command, one in COMMANDS.items() for case in one.refused],
    ids=lambda value: value if isinstance(value, str) and value in COMMANDS else "",
)
def test_what_cannot_be_is_refused_in_one_line(command, options, said):
    with pytest.raises(UserError) as error:
        called(command, **options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
