import numpy as np
import pytest

from cnnprobe.datasets.rendering.drawn import stream
from cnnprobe.datasets.rendering.textures import LETTERS, LEVELS, PATTERNS, TILE, atlas, glyphs, natural_noise


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_noise_has_the_spectrum_asked(exponent):
    """The slope of log amplitude over log frequency is minus the exponent."""
    amplitude = np.abs(np.fft.fft2(natural_noise(128, stream(0), exponent)))
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128))
    use = (frequency > 0.02) & (frequency < 0.5)
    slope = np.polyfit(np.log(frequency[use]), np.log(amplitude[use]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.05)


def test_noise_is_standard():
    noise = natural_noise(64, stream(3))
    assert noise.mean() == pytest.approx(0, abs=1e-5) and noise.std() == pytest.approx(1, abs=1e-5)


def test_coarser_levels_hold_the_same_pattern_with_less_detail():
    patterns = atlas().astype(float)
    assert patterns.shape == (len(PATTERNS), LEVELS, TILE, TILE)
    means = patterns.mean(axis=(2, 3))
    assert np.abs(means - means[:, :1]).max() < 4
    roughness = np.abs(np.diff(patterns, axis=3)).mean(axis=(2, 3))
    assert (np.diff(roughness, axis=1) < 0).all()


def test_stripes_run_upright_and_bands_level():
    level = atlas()[:, 1].astype(float)
    stripes, bands = level[PATTERNS.index("stripes")], level[PATTERNS.index("bands")]
    assert stripes.mean(axis=0).std() > 5 * stripes.mean(axis=1).std()
    assert bands.mean(axis=1).std() > 5 * bands.mean(axis=0).std()


def test_strokes_are_where_the_letters_have_them():
    """An L has ink at its left and lower border and none in the upper right; a T has its bar on top."""
    ink = glyphs() < 0.07
    letter = ink[LETTERS.index("L")]
    assert letter[10:50, 6].any() and letter[57].sum() > 30 and not letter[:45, 20:].any()
    letter = ink[LETTERS.index("T")]
    assert letter[5].sum() > 30 and letter[30:55, 22:26].all() and not letter[15:, :15].any()


def test_no_two_letters_look_alike():
    ink = (glyphs() < 0.07).reshape(len(LETTERS), -1).astype(float)
    likeness = np.corrcoef(ink) - np.eye(len(LETTERS))
    assert likeness.max() < 0.9
