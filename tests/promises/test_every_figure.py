"""Figures and words of every command where numbers are missing: drawn without a warning, and nobody reads "nan"."""

import re

import pytest
from matplotlib.text import Text

from cnnprobe import methods
from cnnprobe.errors import UserError
from cnnprobe.plots.style import png
from cnnprobe.store.reader import Recording
from cnnprobe.store.tables import Rows
from cnnprobe.store.writer import Writer
from tests.support.calling import Labelled, Undefined, called, images, network, pixels, with_dead_units
from tests.support.described import COMMANDS

HARD = {
    "dead units": lambda: (with_dead_units(), None),
    "NaN everywhere": lambda: (network(Undefined, -1.0), None),
    "one image": lambda: (network(), images(1)),
    "one class": lambda: (network(), Labelled(pixels(images()), [0] * 24, 1)),
}
QUICK = {("dead units", "record"), ("one image", "cam"), ("NaN everywhere", "layers")}
"""Drawn in a second each."""
ABOUT = {"model": "net", "dataset": "images", "weights": "random", "seed": 0, "size": [3, 32, 32], "config": ""}


def stored(command, measurement, folder):
    """Store all rows, as a run does."""
    writer = Writer.create(folder / "store.h5", measurement.tables, ABOUT | {"command": command})
    for event in measurement.events:
        if isinstance(event, Rows):
            writer.write(event)
    writer.finish()
    writer.close()
    return Recording(folder / "store.h5")


def cases():
    found = []
    for name in HARD:
        for command, one in COMMANDS.items():
            takes_images = "test_one_image_is_measured_or_refused" not in one.spared
            if takes_images or not name.startswith("one "):
                marks = [] if (name, command) in QUICK else pytest.mark.slow
                found.append(pytest.param(name, command, marks=marks))
    return found


@pytest.mark.parametrize(("hard", "command"), cases())
def test_figures_and_words_never_say_nan(tmp_path, hard, command):
    """F49, F81: of dead units, of a network that answers NaN, of one image, of one class."""
    model, dataset = HARD[hard]()
    try:
        recording = stored(command, called(command, model, dataset), tmp_path)
    except UserError as error:
        assert hard != "dead units", error
        return
    method, said = methods.module(command), {}
    for name, figure in method.draw(recording):
        said[name] = [text.get_text() for text in figure.findobj(Text)]
        assert png(figure)
    assert said
    if hasattr(method, "headline"):
        said["headline"] = [f"{key} {value}" for key, value in method.headline(recording).items()]
    if hasattr(method, "summary"):
        said["summary"] = [word for words in method.summary(recording).values() for word in words]
    wrong = {name: word for name, words in said.items() for word in words if re.search(r"\b(nan|inf)\b", word, re.I)}
    assert not wrong
