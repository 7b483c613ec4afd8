"""Signals: what is planted in them is there, and nothing else differs between classes."""

import numpy as np
import pytest

from cnnprobe.datasets.base.imageset import limited
from cnnprobe.datasets.signals import background, build
from cnnprobe.errors import UserError


def signals(**options):
    given = {"size": 500, "channels": 4, "rate": 250.0, "frequencies": [10.0, 40.0], "strength": 0.6, "spread": 1.0}
    return build(**given | {"slope": 1.0, "count": 40, "split": "test", "seed": 0} | options)


def test_the_power_of_the_background_falls_as_asked_and_its_deviation_is_1():
    random = np.random.default_rng(0)
    for slope in (0.0, 1.0, 2.0):
        many = np.concatenate([background(4, 512, slope, random) for _ in range(400)])
        power = (np.abs(np.fft.rfft(many)) ** 2).mean(0)[1:-1]
        fitted = np.polyfit(np.log(np.arange(1, 256)), np.log(power), 1)[0]
        assert fitted == pytest.approx(-slope, abs=0.03)
        assert many.std() == pytest.approx(1, abs=0.02)
        assert abs(many.mean(1)).max() < 1e-12


def test_an_oscillation_is_where_the_truth_says():
    """Least squares of a cosine and a sine at that frequency, against nothing but its background."""
    dataset = signals(strength=2.0, slope=0.0)
    for index in range(8):
        truth = {name: float(value) for name, value in dataset.truth(index).items()}
        signal, label = dataset[index]
        assert label == index % 2
        k, channel, hertz = dataset.planted[label]
        assert (k, channel) == (label, truth["channel"]) and abs(truth["frequency"] - hertz) <= 1
        turns = 2 * np.pi * truth["frequency"] * np.arange(500) / 250
        basis = np.exp(-1j * turns) / 250
        found = signal.numpy() @ basis
        assert abs(found[channel]) == pytest.approx(truth["amplitude"], abs=0.25)
        apart = np.degrees(np.angle(found[channel])) - truth["phase"]
        assert abs((apart + 180) % 360 - 180) < 12
        assert (np.delete(abs(found), channel) < 0.3).all()


def test_without_strength_classes_are_alike():
    dataset = signals(strength=0.0, count=400)
    power = np.abs(np.fft.rfft(np.stack([dataset[i][0].numpy() for i in range(400)]))) ** 2
    one, other = (power[k::2, :, 1:].mean(0) for k in (0, 1))
    deviation = power[:, :, 1:].std(0) * np.sqrt(2 / 200)
    assert (abs(one - other) / deviation).max() < 5


def test_a_signal_depends_on_its_number_alone():
    dataset = signals()
    batch, readable = dataset.load([7, 3, 21])
    assert readable.all() and batch.shape == (3, 4, 500)
    assert np.array_equal(batch[1].numpy(), dataset[3][0].numpy())
    assert not np.array_equal(dataset[3][0], signals(seed=1)[3][0])
    assert not np.array_equal(dataset[3][0], signals(split="train")[3][0])
    assert signals().fingerprint == dataset.fingerprint != signals(strength=0.5).fingerprint


def test_rate_and_truth_are_known_of_a_part_too():
    part = limited(signals(), "first:6")
    assert (part.rate, part.planted) == (250.0, ((0, 0, 10.0), (1, 2, 40.0)))
    assert part.classes == ("10 Hz in channel 0", "40 Hz in channel 2")
    assert float(part.truth(3)["channel"]) == 2


@pytest.mark.parametrize("hertz", [0.5, 124.5, 130.0])
def test_frequencies_that_such_a_rate_cannot_show_are_refused(hertz):
    with pytest.raises(UserError, match=r"above 1 and below 124 Hz \(half of rate 250, less the spread\), got"):
        signals(frequencies=[10.0, hertz])
