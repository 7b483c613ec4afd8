"""Networks that learn maps, poses and courses: interrupted, repeated, and given weights of others."""

import pytest
import torch

from tests.promises.stops.test_interrupted import interrupted
from tests.support.faults.interrupting import same

UNET = ["model=unet", "model.width=2", "model.depth=2", "model.input_size=16", "dataset=shapes", "dataset.target=mask"]
CAPSNET = ["model=capsnet", "model.width=4", "model.kernel=5", "model.types=2", "model.input_size=20", "dataset=poses"]
GRASP = ["model=grasp", "model.units=6", "model.features=3", "model.step=0.05", "model.input_size=16", "dataset=grasps"]
CAPSNET += ["model.decoder=[8]"]
GRASP += ["dataset.step=0.05"]
LEARNING = ["epochs=3", "batch_size=4", "dataset.count=16", "optimizer=adam"]
RANDOM = ["weights=random", "dataset.count=8"]
RUNS = {
    "unet": ["train", *UNET, *LEARNING, "augment=[flip]"],
    "capsnet": ["train", *CAPSNET, *LEARNING, "augment=none"],
    "grasp": ["train", *GRASP, *LEARNING, "augment=none", "precision=float32"],
    "pixels lost": ["lesion", *UNET, *RANDOM, "layer=[skip*]", "draws=2"],
    "modules lost": ["lesion", *GRASP, *RANDOM, "layer=[AIP,AIP-F5]", "share=[0.5,1]", "draws=2"],
    "trajectories": ["record", *GRASP, *RANDOM, "layer=[AIP,M1]", "keep=maps", "batch_size=2"],
    "votes": ["cam", *CAPSNET, *RANDOM, "model.num_classes=8", "kind=votes", "batch_size=2"],
    "rendered": ["optimize", *CAPSNET, *RANDOM, "model.num_classes=8", "objective=rendered", "units=0:4"],
    "components": ["optimize", *CAPSNET, *RANDOM, "model.num_classes=8", "objective=rendered", "along=components"],
    "poses": ["tuning", *CAPSNET, *RANDOM, "model.num_classes=8", "layer=[pose,lengths]", "batch_size=2"],
}


QUICKLY = ("unet", "capsnet", "grasp")
OTHERS = {  # the names that weights have in well-known implementations by others
    "unet": (
        UNET[1:4],
        {"inc.double_conv.0.weight": (4, 3, 3, 3), "outc.conv.weight": (2, 4, 1, 1)},
        "inc.double_conv",
    ),
    "capsnet": (CAPSNET[1:5], {"conv1.weight": (4, 3, 5, 5), "digitcaps.weight": (8, 8, 16, 8)}, "digitcaps.weight"),
    "grasp": (GRASP[1:5], {"J": (18, 18), "I": (18, 3), "S": (18, 1), "B": (18, 1), "W": (8, 18)}, "J"),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in QUICKLY else pytest.mark.slow) for kind in RUNS]
)
def test_an_interrupted_run_ends_as_if_never_interrupted(cnnprobe, tmp_path, monkeypatch, kind):
    """F60, F61, F62: byte for byte; and what is asked once more leaves the same bytes."""
    command, *words = RUNS[kind]
    asked = [command, *words, "device.workers=0", "name=own"]
    calm, folder, _ = interrupted(cnnprobe, command, asked, monkeypatch, tmp_path, 3, name="own")
    same(folder, calm)
    assert cnnprobe(*asked, "out=again").status == 0
    same(tmp_path / "again" / command / "own" / "v001", calm)


@pytest.mark.parametrize("model", OTHERS)
def test_weights_of_another_implementation_are_refused(cnnprobe, tmp_path, model):
    options, shapes, word = OTHERS[model]
    torch.save({"state_dict": {name: torch.randn(shape) for name, shape in shapes.items()}}, tmp_path / "w.pt")
    answer = cnnprobe("layers", f"model={model}", *options, f"weights={tmp_path}/w.pt")
    (line,) = answer.err.splitlines()
    assert answer.status == 2
    assert f"w.pt does not fit {model}: " in line and " missing (first " in line and word in line
