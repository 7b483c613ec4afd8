"""Each stimulus has the factors its row says, seen in its pixels."""

import numpy as np
import pytest

from cnnprobe.datasets import manufactured
from cnnprobe.datasets.gratings import wave
from cnnprobe.errors import UserError


def made(**options):
    plain = {"size": 48, "channels": None, "families": "all", "orientations": 8, "frequencies": 4, "lowest": 0.05}
    plain |= {"highest": 0.4, "phases": 4, "contrasts": [0.25, 0.5], "extent": 0.5}
    return manufactured.build(**plain | options)


def of(dataset, family, **factors):
    """Return the stimuli of a family with some factors, as (image, channel, y, x)."""
    where = dataset.factors["family"].astype(str) == family
    for name, value in factors.items():
        where &= dataset.factors[name] == value
    return dataset.load(np.flatnonzero(where))[0].numpy()


def test_all_families_are_there_and_every_name_is_unique():
    dataset = made()
    counts = {name: int((dataset.factors["family"] == name).sum()) for name in manufactured.FAMILIES}
    assert counts == {
        "blank": 1, "gratings": 8 * 4 * 4, "contrast": 2 * 2 * 2 * 4, "bars": 8 * 2 * 2, "corners": 12 * 3 * 2,
        "colours": 12, "brightness": 8, "letters": 52, "shapes": 16,
    }  # fmt: skip
    assert len(dataset) == len(set(dataset.names)) == sum(counts.values())
    assert all(len(values) == len(dataset) for values in dataset.factors.values())
    assert dataset.classes[dataset.labels[-1]] == "shapes"
    images = dataset.load(range(len(dataset)))[0]
    assert images.min() >= 0
    assert images.max() <= 1


def test_the_blank_is_mid_grey_and_gratings_vary_about_it():
    dataset = made()
    assert (of(dataset, "blank") == 0.5).all()
    for contrast in (0.25, 0.5):
        shown = of(dataset, "contrast", contrast=contrast)
        assert np.abs(shown - 0.5).max() == pytest.approx(contrast / 2, rel=0.02)


def test_gratings_have_their_frequency_in_cycles_per_px_and_their_direction():
    dataset = made(size=64, lowest=0.125, highest=0.125, frequencies=1, orientations=2)
    upright = of(dataset, "gratings", orientation=0.0, phase=0.0)[0, 0]
    assert np.ptp(upright, axis=0).max() < 1e-6
    spectrum = np.abs(np.fft.rfft(upright[0] - 0.5))
    assert spectrum.argmax() == 8
    lying = of(dataset, "gratings", orientation=90.0, phase=0.0)[0, 0]
    np.testing.assert_allclose(lying, upright.T, atol=1e-6)


def test_low_contrasts_are_those_gratings_at_full_contrast_made_weaker():
    dataset = made()
    rows = np.flatnonzero(dataset.factors["family"] == "contrast")
    for row in rows[:: len(rows) // 7]:
        one = {name: dataset.factors[name][row] for name in ("orientation", "frequency", "phase")}
        (full,) = of(dataset, "gratings", **one)
        expected = 0.5 + dataset.factors["contrast"][row] * (full - 0.5)
        np.testing.assert_allclose(dataset.draw(row), expected, atol=1e-6)


def test_bars_lie_across_their_orientation():
    """The second moments of a bar are longest at right angles to its orientation."""
    dataset = made()
    y, x = np.mgrid[:48, :48] - 23.5
    for row in np.flatnonzero(dataset.factors["family"] == "bars"):
        cover = np.abs(dataset.draw(row)[0] - 0.5)
        moments = [(cover * a * b).sum() / cover.sum() for a, b in ((x, x), (x, y), (y, y))]
        long = np.degrees(0.5 * np.arctan2(2 * moments[1], moments[0] - moments[2]))
        across = dataset.factors["orientation"][row]
        assert abs((long - across) % 180 - 90) < 1
        wide = cover.sum() / 0.5 / (0.5 * 48)  # area over length
        assert wide == pytest.approx(dataset.factors["width"][row], rel=0.15)


def test_corners_open_into_their_direction():
    dataset = made()
    y, x = np.mgrid[:48, :48] - 23.5
    for row in np.flatnonzero(dataset.factors["family"] == "corners"):
        cover = np.abs(dataset.draw(row)[0] - 0.5)
        pointing = np.degrees(np.arctan2((cover * y).sum(), (cover * x).sum()))
        assert abs((pointing - dataset.factors["direction"][row] + 180) % 360 - 180) < 2
        share = dataset.factors["opening"][row] / 360
        assert cover.sum() / 0.5 == pytest.approx(share * np.pi * 12**2, rel=0.05)


def test_colours_are_as_bright_as_the_grey_around():
    dataset = made()
    discs = of(dataset, "colours")
    np.testing.assert_allclose(discs.mean(1), 0.5, atol=1e-6)
    assert discs[0, :, 24, 24] == pytest.approx([0.75, 0.375, 0.375])  # hue 0: red
    assert (discs[4, :, 24, 24].argmax(), discs[8, :, 24, 24].argmax()) == (1, 2)


def test_letters_and_shapes_are_bright_and_dark():
    dataset = made()
    for family, word in (("letters", "Q"), ("shapes", "star")):
        bright, dark = of(dataset, family, word=word)
        np.testing.assert_allclose(bright - 0.5, 0.5 - dark, atol=1e-6)
        assert bright.max() == 1


def test_the_network_says_how_many_channels():
    dataset = made(channels=1)
    assert dataset.size == (1, 48, 48)
    assert "colours" not in dataset.factors["family"]
    assert dataset[3][0].shape == (1, 48, 48)
    with pytest.raises(UserError, match="colours need 3 channels, the images have 2"):
        made(channels=2, families=["colours"])


def test_only_the_families_asked_for():
    dataset = made(families=["letters"])
    assert set(dataset.factors["family"]) == {"blank", "letters"}
    assert dataset.fingerprint != made().fingerprint


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"contrasts": [0.5, 0.5]}, r"dataset.contrasts must differ from each other, got \[0.5, 0.5\]"),
        ({"families": ["bars", "bars"]}, "dataset.families must differ from each other"),
        (
            {"lowest": 0.1, "highest": 0.1},
            "dataset.lowest below dataset.highest, both are 0.1",
        ),
    ],
    ids=["contrasts", "families", "frequencies"],
)
def test_stimuli_that_are_there_twice_are_told(changes, told):
    """F03: `tuning` ended in a traceback."""
    with pytest.raises(UserError, match=told):
        made(**changes)


def test_the_lowest_frequency_is_not_above_the_highest():
    with pytest.raises(UserError, match=r"dataset.lowest must be at most dataset.highest \(0.1\), got 0.2"):
        made(lowest=0.2, highest=0.1)


def test_truth_has_the_factors_a_stimulus_has():
    dataset = made()
    assert set(dataset.truth(0)) == {"family", "reach"}
    assert set(dataset.truth(5)) == {"family", "reach", "orientation", "frequency", "phase", "contrast"}
    assert str(dataset.truth(len(dataset) - 1)["word"]) == "bar"


def test_a_wave_has_its_phase_in_the_middle():
    assert wave(9, 33, 2.5, 90)[4, 4] == pytest.approx(0, abs=1e-12)
    assert wave(9, 33, 2.5, 0)[4, 4] == 1


def test_more_gratings_than_have_rows_of_factors_are_refused():
    """F103: each option is possible by itself."""
    few = made(orientations=5, frequencies=4, phases=3)
    count = np.isin(few.factors["family"].astype(str), ("gratings", "contrast")).sum()
    with pytest.raises(UserError, match=f"contrasts make {count} images"):
        limited(orientations=5, frequencies=4, phases=3)
    with pytest.raises(UserError, match=r"frequencies, phases and contrasts make 12960000 images"):
        made(orientations=360, frequencies=100, phases=360, families=["gratings"])
    assert made(orientations=360, frequencies=100, phases=360, families=["letters"])


def limited(**options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manufactured, "MOST", 3)
        return made(**options)
