"""What an experiment is computed with, and what the loading of images takes of it."""

import inspect
from dataclasses import fields

from cnnprobe.instruments.images.batches import batches
from cnnprobe.machine.computation import Computation


def test_loading_names_what_batches_takes():
    one = Computation(device="cpu", workers=3, batch_size=5, seed=7)
    assert one.loading == {"batch_size": 5, "device": "cpu", "workers": 3}
    assert one.loading.keys() <= inspect.signature(batches).parameters.keys()


def test_every_value_is_explained():
    for field in fields(Computation):
        assert f"        {field.name}: " in Computation.__doc__
