"""Published settings: their values in our pixels."""

import typing

import pytest

from cnnprobe.errors import UserError
from cnnprobe.methods.optimize import method as optimize
from cnnprobe.methods.optimize.ascent.presets import PRESETS, preset_of


def test_the_command_names_every_preset():
    assert typing.get_args(optimize.Preset) == tuple(PRESETS)


def test_yosinskis_four_are_those_of_their_table():
    """Decay, blur, its period, share of small norm, of small contribution (2015, table 1)."""
    table = {1: (0, 0.5, 4, 0.5, 0), 2: (0.3, 0, 1, 0.2, 0), 3: (0.0001, 1.0, 4, 0, 0), 4: (0, 0.5, 4, 0, 0.9)}
    steps = {1: 500, 2: 750, 3: 1000, 4: 1000}
    for number, row in table.items():
        settings = PRESETS[f"yosinski-{number}"]
        own = settings.regularisers
        assert (own.decay, own.blur, own.blur_every, own.small_norm, own.small_contribution) == row
        assert (settings.steps, settings.parametrisation) == (steps[number], "pixel")
        assert settings.normal * 255 == pytest.approx(10)
        # a step of lr times the gradient by raw pixels, in raw pixels, is lr / 255 / 255 times ours, in ours
        raw_lr, gradient = (1e8 if number == 4 else 100), 0.7
        assert settings.lr * gradient == pytest.approx(raw_lr * (gradient / 255) / 255)
        assert settings.optimiser == ("progress" if number in (1, 4) else "constant")


def test_options_replace_single_values():
    settings = preset_of("yosinski-3", steps=7, decay=0.5, lr=None)
    assert (settings.steps, settings.regularisers.decay, settings.regularisers.blur) == (7, 0.5, 1.0)
    assert settings.lr == PRESETS["yosinski-3"].lr
    assert preset_of("lucid", tv=2.0).regularisers.tv == 2


def test_what_does_not_go_together_is_refused():
    with pytest.raises(UserError, match="no preset 'yosinski-5'; did you mean"):
        preset_of("yosinski-5")
    with pytest.raises(UserError, match="change pixels, and preset lucid has parametrisation=fourier"):
        preset_of("lucid", blur=1.0)
    with pytest.raises(UserError, match="parametrisation=pixel"):
        preset_of("yosinski-1", parametrisation="fourier")
    assert preset_of("lucid", blur=1.0, parametrisation="pixel").regularisers.blur == 1
