"""A user's own network, and the user's own mistakes in one line."""

from pathlib import Path

import pytest
import torch

from cnnprobe.errors import UserError
from cnnprobe.machine.signals import Stop, StoppedError
from cnnprobe.models import custom

GOOD = """
from torch import nn

def build(num_classes=4):
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, num_classes))

def without():
    return nn.Conv2d(1, 2, 3)

def wrong():
    return {"a": 1}

def fails():
    return nn.Linear(2, 3, 4, 5, 6, 7)
"""


def build(path, text, num_classes=None, function="build"):
    path.write_text(text)
    return custom.build(
        num_classes=num_classes, file=str(path), function=function, input_size=8, channels=1, mean=None, std=None
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.py"


def test_the_function_gets_the_number_of_classes_if_it_takes_it(path):
    for asked, given in ((None, 4), (7, 7)):
        model = build(path, GOOD, num_classes=asked)
        assert model(torch.zeros(1, 1, 8, 8)).shape == (1, given)
        assert not model.training
    assert isinstance(build(path, GOOD, num_classes=7, function="without"), torch.nn.Conv2d)


def test_files_beside_it_can_be_imported(path):
    (path.parent / "my_layers_beside.py").write_text("from torch import nn\nLayer = nn.ReLU\n")
    assert isinstance(build(path, "from my_layers_beside import Layer\nbuild = Layer\n"), torch.nn.ReLU)


def test_no_file_and_no_function(path):
    with pytest.raises(UserError, match=r"model.file: there is no file .*gone.py"):
        custom.build(num_classes=None, file="gone.py", function="build", input_size=8, channels=1, mean=None, std=None)
    with pytest.raises(UserError, match=r"no function 'biuld' in mine.py; did you mean 'build'?"):
        build(path, GOOD, function="biuld")


def test_what_is_no_network_is_refused(path):
    with pytest.raises(UserError, match=r"mine.py: wrong returned a dict, a torch.nn.Module is needed"):
        build(path, GOOD, function="wrong")


def test_mistakes_in_the_file_are_told_with_their_line(path):
    with pytest.raises(UserError, match=r"^mine.py:14: TypeError: .*positional arguments"):
        build(path, GOOD, function="fails")
    with pytest.raises(UserError, match=r"^mine.py:2: SyntaxError: "):
        build(path, "x = 1\ndef build(:\n")
    with pytest.raises(UserError, match=r"^mine.py:1: ModuleNotFoundError: No module named 'nowhere'"):
        build(path, "import nowhere\n")


BAD = [
    ("import sys\nsys.exit(0)", r"^mine\.py:3: SystemExit: 0$"),
    ("import sys\ndef build():\n    sys.exit('bye')", r"^mine\.py:4: SystemExit: bye$"),
    ("class Odd(BaseException): pass\nraise Odd", r"^mine\.py:3: Odd: $"),
    ("class Odd(Exception):\n    def __str__(self):\n        raise self\nraise Odd", "Odd: its message cannot be read"),
    ("def build():\n    return nn.Linear(2, 3).half()", r"whose weight is of type float16; return the network\.float"),
    ("def build():\n    return nn.Linear(2, 3).double()", "whose weight is of type float64"),
    ("def build():\n    return nn.Linear(2, 3, device='meta')", "whose weight has no values"),
    ("class N(nn.Linear):\n    def eval(self):\n        raise OSError('x')\ndef build(): return N(2, 3)", "OSError: x"),
    ("class N(nn.Linear):\n    def state_dict(self): return {'a': 3}\ndef build(): return N(2, 3)", "a is a int"),
]


@pytest.mark.parametrize(("text", "told"), BAD)
def test_whatever_the_file_does_is_told_in_one_line(path, text, told):
    """Leaving by sys.exit(0) would look like success."""
    with pytest.raises(UserError, match=told) as caught:
        build(path, text.replace("nn.", "torch.nn.").join(["import torch\n", "\n"]))
    assert "\n" not in str(caught.value)


def test_where_the_file_goes_nobody_follows(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    path.write_text(f"import os, sys\nos.chdir('/')\nsys.path.remove({str(path.parent)!r})\n{GOOD}")
    custom.build(num_classes=None, file=path.name, function="build", input_size=8, channels=1, mean=None, std=None)
    assert Path.cwd() == path.parent.resolve()


def test_needs_is_what_the_options_say():
    needs = custom.needs(file="x.py", function="build", input_size=500, channels=12, mean=None, std=None)
    assert (needs.channels, needs.size, needs.resize) == (12, 500, 500)


@pytest.mark.parametrize("text", ["{}", "def build(**_):\n    {}"])
def test_a_signal_is_no_exit_of_the_file(path, text):
    """F103: what ends this process while the file runs is not a mistake in it."""
    signal = "import os, signal; os.kill(os.getpid(), signal.SIGTERM); import time; time.sleep(1)"
    with Stop().listening() as stop, pytest.raises(StoppedError), stop.at_once():
        build(path, text.format(signal))
