"""Planted responses: each number of a unit is the one its responses were made with."""

import numpy as np
import pytest

from cnnprobe.datasets import manufactured
from cnnprobe.methods.tuning.contrast_response import naka_rushton
from cnnprobe.methods.tuning.mapping import FAMILIES, Design, columns, numbers


@pytest.fixture(scope="module")
def factors():
    return manufactured.build(
        size=32, channels=3, families="all", orientations=24, frequencies=12, lowest=0.03, highest=0.4, phases=8,
        contrasts=[0.0625, 0.125, 0.25, 0.5], extent=0.5,
    ).factors  # fmt: skip


def planted(factors):
    """Return responses (unit, stimulus) of a simple unit, a complex one, one of colour and words, and a dead one."""
    f, family = factors, factors["family"].astype(str)
    gratings = np.isin(family, ("gratings", "contrast"))
    away = (f["orientation"] - 45 + 90) % 180 - 90
    size = np.exp(-(away**2) / 2 / 20**2 - np.log2(f["frequency"] / 0.1) ** 2 / 2 / 0.6**2)
    gain = naka_rushton(np.where(gratings, f["contrast"], 1.0), 0, 10, 0.3, 2)
    wave = np.cos(np.radians(f["phase"] - 60))
    simple = np.where(gratings, size * gain * np.maximum(wave, 0), 0)
    complex_ = np.where(gratings, size * gain * (1 + 0.1 * wave), 0) + 2
    hue = np.exp(np.cos(np.radians(f["hue"] - 130)))
    pointing = np.exp(2 * np.cos(np.radians(f["direction"] - 215)))
    words = np.isin(f["word"].astype(str), ("K", "ring")) * 5.0
    third = np.select([family == "colours", family == "corners"], [hue, pointing], words)
    return np.nan_to_num(np.stack([simple, complex_, third, np.full(len(family), -1.0)]))


def test_numbers_are_those_planted(factors):
    found = numbers(Design(factors, "mean", False), planted(factors), True)
    assert set(found) == set(columns())
    assert all(values.dtype == np.dtype(columns()[name].dtype) for name, values in found.items())
    assert found["dead"].tolist() == [False, False, False, True]
    assert found["preferred"][:2] == pytest.approx([45, 45], abs=0.1)
    assert found["bandwidth"][0] == pytest.approx(20 * np.sqrt(2 * np.log(2)), abs=0.6)
    assert found["preferred_frequency"][0] == pytest.approx(0.1, rel=0.02)
    assert found["frequency_bandwidth"][0] == pytest.approx(2 * 0.6 * np.sqrt(2 * np.log(2)), rel=0.05)
    assert found["f1_f0"][0] > 1.5
    assert found["f1_f0"][1] < 0.2
    assert found["preferred_phase"][0] == pytest.approx(60, abs=0.1)
    assert found["contrast_half"][0] == pytest.approx(0.3, rel=0.01)
    assert found["contrast_exponent"][:2] == pytest.approx([2, 2], rel=0.01)
    assert found["preferred_hue"][2] == pytest.approx(130, abs=1)
    assert found["preferred_direction"][2] == pytest.approx(215, abs=1)
    assert chr(65 + found["preferred_letter"][2]) == "K"
    assert manufactured.shapes.CLASSES[found["preferred_shape"][2]] == "ring"
    assert found["letters_sparseness"][2] == pytest.approx(1)
    assert found["family_peak"][2, FAMILIES.index("letters")] == 5
    assert np.isnan(found["direction_index"]).all()
    for name in ("preferred", "bandwidth", "circular_variance", "f1_f0", "contrast_exponent"):
        assert np.isnan(found[name][2:]).all(), name


def test_a_blank_that_is_answered_can_be_taken_off(factors):
    responses = planted(factors)[:2]
    plain = numbers(Design(factors, "mean", False), responses, True)
    less = numbers(Design(factors, "mean", True), responses, True)
    assert plain["rest"].tolist() == less["rest"].tolist() == [0, 2]
    assert less["circular_variance"][1] == pytest.approx(plain["circular_variance"][0], abs=0.02)
    assert plain["circular_variance"][1] > less["circular_variance"][1] + 0.1


@pytest.mark.parametrize("kind", ["mean", "max", "f1"])
def test_a_rectified_wave_is_tuned_alike_however_its_phases_are_taken_together(factors, kind):
    found = numbers(Design(factors, kind, False), planted(factors)[:1], True)
    assert found["preferred"][0] == pytest.approx(45, abs=0.1)
    assert found["bandwidth"][0] == pytest.approx(20 * np.sqrt(2 * np.log(2)), abs=0.6)


def test_without_phases_there_is_no_modulation(factors):
    found = numbers(Design(factors, "mean", False), planted(factors), False)
    assert np.isnan(found["f1_f0"]).all()
    assert np.isnan(found["preferred_phase"]).all()


def test_families_that_were_not_shown_have_no_numbers():
    dataset = manufactured.build(
        size=16, channels=3, families=["letters"], orientations=4, frequencies=2, lowest=0.1, highest=0.2, phases=4,
        contrasts=[0.5], extent=0.5,
    )  # fmt: skip
    random = np.random.default_rng(0).random((3, len(dataset)))
    found = numbers(Design(dataset.factors, "mean", False), random, True)
    assert np.isnan(found["preferred"]).all()
    assert np.isnan(found["contrast_exponent"]).all()
    assert (found["preferred_shape"] == -1).all()
    assert (found["preferred_letter"] >= 0).all()
    assert np.isfinite(found["family_peak"]).sum() == 3


def test_responses_that_are_no_numbers_are_not_dead_and_have_no_tuning(factors):
    responses = np.repeat(planted(factors)[:1], 4, 0)
    responses[1] = np.nan
    responses[2, 5] = np.inf
    responses[3, 0] = np.nan  # the blank
    found = numbers(Design(factors, "mean", False), responses, True)
    assert found["dead"].tolist() == [False] * 4
    for name in ("preferred", "bandwidth", "circular_variance", "contrast_exponent"):
        assert np.isfinite(found[name][0]), name
        assert not np.isfinite(found[name][1]), name
    assert not np.isfinite(found["circular_variance"][2])
    assert found["preferred"][3] == found["preferred"][0]
    assert np.isnan(found["contrast_exponent"][3])
