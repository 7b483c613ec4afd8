"""Every command over every checkpoint that is hostile, damaged or none: told in one line, and nothing in it runs."""

import io
import os
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from cnnprobe.config import catalogue
from cnnprobe.models import convnet
from cnnprobe.preparation import weights
from tests.models.weights.test_checkpoints import NOT_CHECKPOINTS, Hostile


def corpus(folder):
    """Write every bad checkpoint into a folder; return their names."""
    state = convnet.build(num_classes=2, written="class", input_size=32).state_dict()
    for kind, (data, _) in NOT_CHECKPOINTS.items():
        for suffix in (".pt", ".safetensors"):
            (folder / f"{kind}{suffix}").write_bytes(data)
    for new in (True, False):
        kind = {"_use_new_zipfile_serialization": new}
        torch.save(state | {"conv1.weight": Hostile(folder / "PWNED")}, folder / f"code{new}.pt", **kind)
        torch.save(torch.nn.Linear(2, 2), folder / f"network{new}.pt", **kind)
        torch.save({"conv1.weight": torch.zeros(1).expand(10**6, 10**6)}, folder / f"stride{new}.pt", **kind)
        torch.save(state, folder / f"whole{new}.pt", **kind)
        data = (folder / f"whole{new}.pt").read_bytes()
        for part in (1, 10, 19):
            (folder / f"cut{new}{part}.pt").write_bytes(data[: len(data) * part // 20])
        (folder / f"whole{new}.pt").unlink()
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(50_000_000)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    weights.save(folder / "flipped.safetensors", state, {})
    data = bytearray((folder / "flipped.safetensors").read_bytes())
    data[-1] ^= 4
    (folder / "flipped.safetensors").write_bytes(data)
    save_file(state | {"conv1.weight": state["conv1.weight"] * float("nan")}, folder / "nan.safetensors")
    save_file({"other": torch.ones(3)}, folder / "other.safetensors")
    (folder / "folder.pt").mkdir()
    os.mkfifo(folder / "pipe.pt")
    (folder / "loop.pt").symlink_to("loop.pt")
    return sorted(path.name for path in folder.iterdir())


LAYER = {"topk", "rf-map", "gbp", "optimize", "perturb", "tuning"}


OTHERS = [
    pytest.param(name, 1, marks=pytest.mark.slow) for name in catalogue.commands() if name not in ("train", "topk")
]


@pytest.mark.parametrize(("command", "every"), [("topk", 3), pytest.param("topk", 1, marks=pytest.mark.slow), *OTHERS])
def test_no_command_takes_a_bad_checkpoint(cnnprobe, tmp_path, pictures, command, every):
    """F24, F25, F26, F27, F28, F29: those that read weights; one file in so many."""
    folder = tmp_path / "bad"
    folder.mkdir()
    names = corpus(folder)
    assert len(names) > 35
    images = [] if command == "tuning" else ["dataset=folder", f"dataset.root={pictures}"]
    layer = ["layer=conv1"] if command in LAYER else []
    for name in names[::every]:
        answer = cnnprobe(command, "model=convnet", *images, *layer, f"weights=bad/{name}")
        lines = [line for line in answer.err.splitlines() if not line.startswith("warning: ")]
        assert answer.status == 2, (name, answer.err)
        assert len(lines) == 1, (name, answer.err)
        assert lines[0].startswith(f"cnnprobe {command}: "), lines
        assert name.partition(".")[0] in lines[0], (name, lines)
        assert not (folder / "PWNED").exists()
        assert not (tmp_path / "outputs").exists()
