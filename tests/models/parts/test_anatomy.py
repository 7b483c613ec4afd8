"""MouseNet's tables against numbers published with them, and against the formulas written a second time."""

import math

import numpy as np
import pytest

from cnnprobe.models.parts import anatomy

VARIANTS = ("mousenet64", "mousenet32", "mousenet64_may2020", "mousenet64_oct2020")
NUMBERS = ("gsh", "gsw")


@pytest.mark.parametrize("variant", VARIANTS)
def test_seed_2021_gives_the_authors_masks(variant):
    table = anatomy.network(variant)
    counts = [int(mask.sum()) for mask in anatomy.masks(table, "per_channel", 2021)]
    assert counts == table["checks"]["on_taps_per_edge_numpy_seed_2021"]
    assert sum(counts) == table["checks"]["on_taps_total_numpy_seed_2021"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_expected_number_of_taps_is_the_sum_of_their_probabilities(variant):
    table = anatomy.network(variant)
    expected = sum(e["in_channels"] * e["out_channels"] * anatomy.probability(e).sum() for e in table["edges"])
    assert expected == pytest.approx(table["checks"]["expected_on_taps"], abs=0.06)


def test_masks_are_drawn_one_kernel_after_the_other_from_the_legacy_generator():
    """The draws must be those of a loop over output and input channels with one rand(k, k) each."""
    table = anatomy.network("mousenet64")
    random = np.random.RandomState(7)
    for edge, mask in zip(table["edges"][:4], anatomy.masks(table, "per_channel", 7)):
        reach = int(edge["gsw"])
        for out in range(edge["out_channels"]):
            for channel in range(edge["in_channels"]):
                drawn = random.rand(edge["kernel_size"], edge["kernel_size"])
                for y, x in ((0, 0), (reach, reach), (0, reach)):
                    squared = (y - reach) ** 2 + (x - reach) ** 2
                    exists = drawn[y, x] < edge["gsh"] * math.exp(-squared / (2 * edge["gsw"] ** 2))
                    assert mask[out, channel, y, x] == exists


def test_a_shared_mask_is_one_kernel_for_all_pairs_of_channels():
    for mask in anatomy.masks(anatomy.network("mousenet64"), "shared", 3):
        assert (mask == mask[0, 0]).all()


def test_without_masks_there_are_none():
    assert anatomy.masks(anatomy.network("mousenet64"), "none", 3) == [None] * 49


def test_probabilities_do_not_exceed_one_where_the_table_does():
    edge = next(e for e in anatomy.network("mousenet64")["edges"] if e["id"] == "conv43")
    assert edge["gsh"] > 4
    assert anatomy.probability(edge).tolist() == [[1.0]]


@pytest.mark.parametrize(("side", "variant"), [(64, "mousenet64"), (32, "mousenet32")])
def test_rebuilding_returns_the_tables(side, variant):
    """64 px give the published table back, 32 px the one derived by the authors' own code."""
    found, expected = anatomy.rebuilt(side), anatomy.network(variant)
    for one, other in zip(found["nodes"], expected["nodes"], strict=True):
        assert one == other
    for one, other in zip(found["edges"], expected["edges"], strict=True):
        assert {k: v for k, v in one.items() if k not in NUMBERS} == {
            k: v for k, v in other.items() if k not in NUMBERS
        }
        assert [one[k] for k in NUMBERS] == pytest.approx([other[k] for k in NUMBERS], rel=1e-7)


def test_the_in_degree_between_areas_is_a_thousand_at_any_side():
    """Each neuron of layer 4 of a higher area receives 1000 connections from other areas, by construction."""
    for side in (32, 64, 96):
        edges = [e for e in anatomy.rebuilt(side)["edges"] if e["kind"] == "interareal"]
        for target in {e["target"] for e in edges}:
            total = 0.0
            for edge in (e for e in edges if e["target"] == target):
                reach = range(-int(edge["gsw"]), int(edge["gsw"]) + 1)
                mass = sum(math.exp(-(x * x + y * y) / (2 * edge["gsw"] ** 2)) for x in reach for y in reach)
                total += edge["gsh"] * edge["in_channels"] * mass
            assert total == pytest.approx(1000, rel=1e-6)


def test_channels_times_pixels_is_the_number_of_neurons():
    for node in anatomy.rebuilt(48)["nodes"][1:]:
        assert node["channels"] == node["n_neurons"] // node["out_size"] ** 2


@pytest.mark.parametrize(
    ("variant", "billions"),
    [("mousenet64", 2.52), ("mousenet32", 2.56), ("mousenet64_may2020", 2.40), ("mousenet64_oct2020", 3.36)],
)
def test_multiply_adds_per_image(variant, billions):
    table = anatomy.network(variant)
    side = {node["name"]: node["out_size"] for node in table["nodes"]}
    total = sum(
        e["in_channels"] * e["out_channels"] * e["kernel_size"] ** 2 * side[e["target"]] ** 2 for e in table["edges"]
    )
    assert total / 1e9 == pytest.approx(billions, abs=0.005)


def test_tables_are_in_topological_order_and_their_own_copies():
    table = anatomy.network("mousenet64_may2020")
    place = {node["name"]: i for i, node in enumerate(table["nodes"])}
    assert all(place[edge["source"]] < place[edge["target"]] for edge in table["edges"])
    table["edges"].clear()
    assert len(anatomy.network("mousenet64_may2020")["edges"]) == 36
