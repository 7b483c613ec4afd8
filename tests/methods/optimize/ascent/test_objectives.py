"""Objectives against plain loops over rows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnnprobe.methods.optimize.ascent.objectives import Channel, Contrast, Direction, Dream, Group, Neuron, likeness


def activations(*sides, images=4, channels=5):
    generator = torch.Generator().manual_seed(len(sides))
    return {"a": torch.randn(images, channels, *sides, generator=generator)}


UNITS = np.array([3, 0, 3, 1])


@pytest.mark.parametrize("sides", [(), (7,), (4, 5)])
def test_each_image_is_read_by_the_row_of_its_number(sides):
    seen = activations(*sides)
    maps = seen["a"]
    middle = tuple(side // 2 for side in sides)
    group = Group.made("a", [[0, 1], [2], [3, 4], [1]], [[1, 2], [3], [-1, 1], [0.5]], "mean")
    weights = [(0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, -1), (2, 4, 1), (3, 1, 0.5)]
    vectors = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    means = [[float(maps[row, unit].mean()) for unit in range(5)] for row in range(4)]
    expected = [
        (Neuron("a", UNITS), [float(maps[(row, unit, *middle)]) for row, unit in enumerate(UNITS)]),
        (Channel("a", UNITS), [means[row][unit] for row, unit in enumerate(UNITS)]),
        (
            Contrast("a", UNITS),
            [
                means[row][unit] - sum(means[row][other] for other in range(5) if other != unit) / 4
                for row, unit in enumerate(UNITS)
            ],
        ),
        (group, [sum(share * means[row][unit] for own, unit, share in weights if own == row) for row in range(4)]),
        (Direction("a", vectors), [sum(v * m for v, m in zip(vectors[row], means[row])) for row in range(4)]),
        (Dream("a", 4), [float((maps[row] ** 2).mean()) for row in range(4)]),
    ]
    for objective, values in expected:
        assert objective.rows == 4
        assert objective.layers == ("a",)
        np.testing.assert_allclose(objective(seen), values, rtol=1e-5, atol=1e-6, err_msg=objective.name)
        every = objective.every(seen)
        assert every.shape == (4, 4)
        np.testing.assert_allclose(every.diagonal(), values, rtol=1e-5, atol=1e-6)


def test_a_neuron_may_stand_anywhere_on_its_map():
    seen = activations(4, 5)
    np.testing.assert_array_equal(
        Neuron("a", UNITS, (3, 0))(seen), [seen["a"][r, u, 3, 0] for r, u in enumerate(UNITS)]
    )


def test_images_of_a_unit_are_compared_by_the_largest_value_of_its_map():
    seen = activations(4, 5)
    for kind in (Neuron, Channel, Contrast):
        response = kind("a", UNITS).response(seen)
        for image, row in np.ndindex(4, 4):
            assert response[image, row] == seen["a"][image, UNITS[row]].max()
    direction = Direction("a", np.eye(5, dtype=np.float32)[:2])
    assert torch.equal(direction.response(seen), direction.every(seen))


def test_all_of_a_group_or_the_least_of_it():
    seen = activations(3, 3)
    means = seen["a"].mean((2, 3)).numpy()
    groups = [[0, 1, 4], [2, 3], [1], [4, 0]]
    least = Group.made("a", groups, None, "min")
    soft = Group.made("a", groups, None, "log-sum-exp")
    plain = Group.made("a", groups, None, "mean")
    for row, group in enumerate(groups):
        own = means[row, group]
        np.testing.assert_allclose(least(seen)[row], own.min(), rtol=1e-6)
        np.testing.assert_allclose(soft(seen)[row], np.log(np.exp(own).sum()), rtol=1e-5)
        np.testing.assert_allclose(plain(seen)[row], own.mean(), rtol=1e-5, atol=1e-7)


@given(st.lists(st.integers(0, 3), max_size=6))
def test_rows_can_be_taken_apart(rows):
    seen = activations(2, 2)
    for objective in (
        Neuron("a", UNITS),
        Group.made("a", [[0, 1], [2], [3, 4], [1]], None, "min"),
        Direction("a", np.eye(5, dtype=np.float32)[:4]),
        Dream("a", 4),
    ):
        some = objective.of(np.array(rows, int))
        assert some.rows == len(rows)
        assert torch.equal(some.every(seen), objective.every(seen)[:, rows])


@pytest.mark.parametrize("sides", [(), (3, 4)])
def test_likeness_is_the_sum_over_pairs_of_the_gram_matrices_product(sides):
    maps = activations(*sides, images=6)["a"].double()
    grams = []
    for one in maps.reshape(6, 5, -1):
        gram = torch.stack([torch.stack([(a * b).sum() for b in one]) for a in one])
        grams.append(gram / gram.square().sum().sqrt())
    found = likeness(maps, 3)
    for group in range(2):
        own = grams[3 * group : 3 * group + 3]
        expected = sum(float((own[i] * own[j]).sum()) for i in range(3) for j in range(3) if i != j) / 3
        assert float(found[group]) == pytest.approx(expected, rel=1e-9)
    assert float(likeness(maps[:1].expand(4, *maps.shape[1:]), 4)) == pytest.approx(3)
