"""A network of the user's own on the command line: what its page says of it, from training to every later command."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import cnnprobe as package
from cnnprobe.config import compose
from cnnprobe.config.words import parse
from cnnprobe.preparation import build as preparation
from tests.support import pretend
from tests.support.device import ASKED

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-network.md").read_text(encoding="utf-8")
IMAGENET = ["model.mean=[0.485,0.456,0.406]", "model.std=[0.229,0.224,0.225]"]
LEARN = ["dataset=shapes", "dataset.count=24", "batch_size=12", "epochs=1", "model.input_size=16", "device.workers=0"]
RECORD = ["record", "dataset=shapes", "dataset.count=6", "layer=conv1", "device.workers=0"]
IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
NETWORKS = {
    "lazy": "nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(8))",
    "returns": "Returns(plain())",
    "keeps": "Keeps(plain())",
    "parallel": "nn.DataParallel(plain())",
    "averaged": "torch.optim.swa_utils.AveragedModel(plain())",
    "tied and weight-normed": "Tied()",
}
SOURCE = """
import torch
from collections import namedtuple
from torch import nn

Output = namedtuple("Output", ["logits", "aux"])

def plain():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8))

class Wrapper(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.module, self.scale, self.classes, self.input_size, self.aliases = inner, 1.0, 2, 16, ["mine"]
    def forward(self, x):
        return self.module(x) * self.scale

class Returns(Wrapper):
    def forward(self, x):
        y = super().forward(x)
        return Output(y, y * 0) if self.training else y

class Keeps(Wrapper):
    def forward(self, x):
        if self.training:
            self.scale = 0.5
        return super().forward(x)
    def get_extra_state(self):
        return {"scale": self.scale}
    def set_extra_state(self, state):
        self.scale = state["scale"]

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(3, 8))
        self.two.weight = self.one.weight
    def forward(self, x):
        return self.head(self.two(torch.relu(self.one(x))).mean((2, 3)))

def build(): return NETWORK
"""


def warned(run):
    return json.loads((Path(run) / "run.json").read_text())["warnings"]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if place else kind for place, kind in enumerate(NETWORKS)]
)
def test_what_a_network_learned_is_found_again(cnnprobe, kind):
    """F88: by itself, by the name of the run, by another path to the file; it answers as the one that learned."""
    if ASKED == pretend.NAME and kind.startswith("tied"):
        pytest.skip("parameters that two modules share become two on a pretend device")
    Path("net.py").write_text(SOURCE.replace("NETWORK", NETWORKS[kind]))
    mine, normalised = ["model=custom", "model.file=net.py"], IMAGENET if kind == "lazy" else []
    answer = cnnprobe("train", *mine, *normalised, *LEARN, "name=own")
    assert answer.status == 0, answer.err
    answers = []
    for words in ([], ["weights=train/own/v001"], ["weights=train/own/v001@best"], ["model.file=./net.py"]):
        made = preparation.prepare(compose.compose(parse([*RECORD, *mine, *words])), "record", mine)
        assert made.weights.label == "train/own/v001@best"
        assert made.dataset.size == (3, 16, 16)  # as it was trained, like its normalisation
        answers.append(made.model(IMAGES))
    assert all(torch.equal(answers[0], other) for other in answers[1:])
    written = package.open("outputs/train/own/v001")["confusion"]["matrix"]
    held_out = preparation.prepare(compose.compose(parse(["train", *mine, *normalised, *LEARN])), "train").held_out
    shown = torch.stack([held_out[place][0] for place in range(len(held_out))])
    decided = made.model(shown).argmax(1)
    right = int((decided == torch.from_numpy(held_out.labels)).sum())
    assert right == int(np.trace(written))


def test_another_normalisation_than_that_of_the_training_is_told(cnnprobe):
    """F88."""
    Path("net.py").write_text(SOURCE.replace("NETWORK", "plain()"))
    mine = ["model=custom", "model.file=net.py"]
    assert cnnprobe("train", *mine, IMAGENET[0], *LEARN, "name=own").status == 0
    told, mine = [], [*mine, "weights=train/own/v001"]
    for number, words in enumerate(([], IMAGENET[:1], ["model.mean=[0.5,0.5,0.5]"], ["model.std=0.5"])):
        assert cnnprobe(*RECORD, *mine, *words, f"name=r{number}").status == 0
        run = f"outputs/record/r{number}/v001"
        told.append([line for line in warned(run) if "not that of its training" in line])
    assert told[:2] == [[], []]
    assert told[2] == ["model.mean=[0.5, 0.5, 0.5] is not that of its training, [0.485, 0.456, 0.406]"]
    assert told[3] == ["model.std=0.5 is not that of its training, none"]


def test_a_state_beside_the_tensors_comes_back(cnnprobe):
    """F88: what `get_extra_state` gave in training scales the logits afterwards."""
    Path("net.py").write_text(SOURCE.replace("NETWORK", "Keeps(plain())"))
    mine = ["model=custom", "model.file=net.py"]
    assert cnnprobe("train", *mine, *LEARN, "name=own").status == 0
    assert cnnprobe(*RECORD, *mine, "layer=[conv1,logits]", "keep=maps").status == 0
    run = package.open("outputs/record/custom-shapes/v001")
    weights = load_file("outputs/train/own/v001/weights/best.safetensors")
    maps = torch.from_numpy(np.array(run["activations/conv1"]["maps"]))
    logits = maps.relu().mean((2, 3)) @ weights["module.4.weight"].T + weights["module.4.bias"]
    assert np.allclose(run["activations/logits"]["maps"], 0.5 * logits.numpy(), atol=1e-5)


@pytest.mark.parametrize("place", [0, 1])
def test_the_page_builds_a_network_and_measures_it(cnnprobe, pictures, place):
    """F88: the numbers are those of plain torch on normalised images, whoever normalises them."""
    codes = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^cnnprobe (topk .*)$", PAGE, flags=re.MULTILINE)
    for name, code in zip(("net.py", "normalised.py"), codes, strict=True):
        assert code.startswith(f"# {name}\n")
        Path(name).write_text(code)
    space: dict = {}
    exec(codes[0], space)
    torch.manual_seed(4)
    net = space["build"](2).eval()
    torch.save({"state_dict": {f"model.{name}": value for name, value in net.state_dict().items()}}, "net.pt")
    answer = cnnprobe(*lines[place].replace("~/photographs", str(pictures)).split(), "k=1", "device.workers=0")
    assert answer.status == 0, answer.err
    images = [np.asarray(Image.open(path)) for path in sorted(pictures.rglob("*.png"))]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    expected = net[0][:3]((pixels - mean) / std).amax((0, 2, 3)).detach()
    run = next(Path("outputs/topk").glob("*/v001"))
    assert np.allclose(package.open(run)["units/conv1"]["response"][:, 0], expected, atol=1e-5)
    assert not [line for line in warned(run) if "0 to 1" in line or "not used" in line]


def test_images_of_0_to_1_meet_other_statistics(cnnprobe, pictures):
    """F88: told with the way out, and the other scale is refused."""
    made = "nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16))"
    Path("net.py").write_text(f"from torch import nn\n\ndef build(): return {made}\n")
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16, momentum=None)).train()
    net(torch.randn(256, 1, 1, 1) + 0.3 * torch.randn(256, 3, 16, 16))
    torch.save(net.state_dict() | {"1.num_batches_tracked": torch.tensor(100)}, "net.pt")
    words = ["topk", "model=custom", "model.file=net.py", "model.input_size=32", "layer=conv1", "k=1", "weights=net.pt"]
    words += ["dataset=folder", f"dataset.root={pictures}", "device.workers=0"]
    told = {}
    for name, more in (("raw", []), ("normalised", IMAGENET)):
        assert cnnprobe(*words, *more, f"name={name}").status == 0
        told[name] = [line for line in warned(f"outputs/topk/{name}/v001") if "learned from others" in line]
    assert len(told["raw"]) == 1 and "model.mean=[0.485" in told["raw"][0] and told["normalised"] == []
    answer = cnnprobe(*words, "model.mean=[123.7,116.3,103.5]")
    assert answer.status == 2
    assert "model.mean is on the scale of images from 0 to 1, got 123.7; divide by 255" in answer.err


def test_of_two_sets_one_is_named_on_the_command_line(cnnprobe, pictures):
    """F88: and the run says which."""
    Path("net.py").write_text("from torch import nn\n\ndef build():\n    return nn.Conv2d(3, 2, 3)\n")
    sets = {key: nn.Conv2d(3, 2, 3).state_dict() for key in ("model", "model_ema")}
    torch.save(sets | {"epoch": 3}, "net.pt")
    words = ["topk", "model=custom", "model.file=net.py", "model.input_size=32", "layer=conv1", "k=1"]
    words += ["dataset=folder", f"dataset.root={pictures}", "device.workers=0"]
    answer = cnnprobe(*words, "weights=net.pt")
    assert answer.status == 2 and "say weights=FILE@model or weights=FILE@model_ema" in answer.err
    assert cnnprobe(*words, "weights=net.pt@model_ema").status == 0
    run = next(Path("outputs/topk").glob("*/v001"))
    assert package.open(run).attributes["weights"] == "net.pt@model_ema"
    assert any("not used: model (2)" in line for line in warned(run))
    assert cnnprobe("topk", "--rerun", str(run), "model.file=net.py").status == 0
    answer = cnnprobe(*words, "weights=net.pt@other")
    assert (
        answer.status == 2
        and "no weights of custom under 'other'; there are some under: model, model_ema" in answer.err
    )


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (
            "nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2, track_running_stats=False))",
            "1 has no running statistics",
        ),
        ("Chance()", "answers the same image differently each time"),
        ("Stuck()", "1 stays in training mode after eval()"),
    ],
)
def test_what_answers_by_chance_or_batch_is_refused_and_nothing_is_left(cnnprobe, made, told):
    """F88: `layers`, which measures no response, warns."""
    chance = "class Chance(nn.Conv2d):\n    def __init__(self): super().__init__(3, 2, 3)\n"
    chance += "    def forward(self, x): return nn.functional.dropout(super().forward(x))\n"
    stuck = (
        "class Stuck(nn.Sequential):\n    def __init__(self): super().__init__(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))\n"
    )
    stuck += "    def train(self, mode=True): return super().train(True)\n"
    Path("net.py").write_text(f"from torch import nn\n{chance}\n{stuck}\ndef build(): return {made}\n")
    mine = ["model=custom", "model.file=net.py", "model.input_size=16", "weights=random"]
    answer = cnnprobe(*RECORD, *mine)
    assert answer.status == 2 and told in answer.err and not Path("outputs").exists()
    assert cnnprobe("layers", *mine, "name=x").status == 0
    assert any(told in line for line in warned("outputs/layers/x/v001"))


@pytest.mark.parametrize("hook", ["lambda m, i, o: {'logits': o.flip(1)}", "lambda m, i, o: (o.flip(1),)"])
def test_logits_are_found_in_what_a_hook_of_the_network_makes(cnnprobe, hook):
    """F86."""
    hooked = f"def hooked(net): net.register_forward_hook({hook}); return net\n"
    Path("net.py").write_text(SOURCE.replace("NETWORK", "hooked(plain())") + hooked)
    np.savez("shown.npz", images=IMAGES.numpy())
    shown = "dataset=arrays", "dataset.root=shown.npz", "dataset.axes=[recording,channel,y,x]"
    mine = "model=custom", "model.file=net.py", "model.input_size=16", "weights=random", "layer=logits"
    answer = cnnprobe("record", *shown, *mine)
    assert answer.status == 0, answer.err
    found = package.open("outputs/record/custom-arrays/v001")
    space: dict = {}
    exec(SOURCE.replace("NETWORK", "plain()"), space)
    expected = space["plain"]().eval()(IMAGES).flip(1).detach().numpy()
    np.testing.assert_allclose(found["activations/logits"]["max"], expected, atol=1e-6)
    assert found["images"]["prediction"].tolist() == expected.argmax(1).tolist()


@pytest.mark.parametrize("channels", [1, 4])
def test_layers_of_a_network_for_other_channels_need_no_images(cnnprobe, channels):
    """F95: `model.channels=1` alone was answered with the advice to say model.channels=1."""
    network = f"nn.Sequential(nn.Conv2d({channels}, 4, 3), nn.ReLU(), nn.Flatten())"
    Path("net.py").write_text(SOURCE.replace("NETWORK", network))
    mine = ["model=custom", "model.file=net.py", "model.input_size=32", f"model.channels={channels}", "weights=random"]
    answer = cnnprobe("layers", *mine)
    assert answer.status == 0, answer.err
    table = package.open("outputs/layers/custom-manufactured/v001")["layers"]
    assert table.attributes["macs"] == 30 * 30 * 4 * channels * 9
    assert list(table.attributes["input_size"]) == [channels, 32, 32]


def test_grey_images_that_are_taken_for_signals_are_told(cnnprobe):
    """F90: of (image, y, x) y became channels, and a convolution took each signal for one image without a batch."""
    Path("net.py").write_text(SOURCE.replace("NETWORK", "nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten())"))
    images = np.random.default_rng(0).random((5, 12, 12), np.float32)
    np.save("grey.npy", images)
    words = ["record", "model=custom", "model.file=net.py", "model.channels=1", "model.input_size=12", "weights=random"]
    words += ["layer=conv1", "dataset=arrays", "dataset.root=grey.npy", "device.workers=0"]
    answer = cnnprobe(*words)
    assert answer.status == 2 and "if they are grey images, say dataset.axes=[recording,y,x]" in answer.err
    assert cnnprobe(*words, "dataset.axes=[recording,y,x]").status == 0
