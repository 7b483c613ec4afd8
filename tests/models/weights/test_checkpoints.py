"""A stranger's checkpoint is data: what is wrong with it is told in one line, and nothing in it runs."""

import argparse
import io
import json
import os
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cnnprobe.errors import UserError
from cnnprobe.models.weights import checkpoints


def state():
    torch.manual_seed(0)
    return {"conv.weight": torch.randn(4, 3, 3, 3), "conv.bias": torch.randn(4), "steps": torch.tensor(7)}


def saved(path, content, **options):
    torch.save(content, path, **options)
    return path


def refused(path, words):
    """Assert that reading a file ends in one line that holds these words (a regular expression)."""
    with pytest.raises(UserError, match=words) as caught:
        checkpoints.tensors(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def equal(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("wrap", [None, "state_dict", "model", "model_state_dict", "net"])
def test_both_formats_are_read_whatever_the_file_is_called(tmp_path, wrap):
    content = {wrap: state(), "epoch": 3, "optimizer": {"lr": 0.1}} if wrap else state()
    expected = {f"{wrap}.{name}": value for name, value in state().items()} if wrap else state()
    assert equal(checkpoints.tensors(saved(tmp_path / "a.pt", content)), expected)
    assert equal(
        checkpoints.tensors(saved(tmp_path / "a.pth", content, _use_new_zipfile_serialization=False)), expected
    )
    save_file(state(), tmp_path / "b.pt")
    assert equal(checkpoints.tensors(tmp_path / "b.pt"), state())


def test_nested_containers_are_opened_each_once(tmp_path):
    """F88: a circle, and one dict under many names, end."""
    inner = {"exp_avg": torch.ones(2), "step": 3}
    content = {"state_dict": state(), "optimizer": {"state": {0: inner}, "groups": [inner, {"lr": 0.1}]}}
    content["itself"] = content
    found = checkpoints.tensors(saved(tmp_path / "a.pt", content))
    expected = {f"state_dict.{name}": value for name, value in state().items()}
    assert equal(found, expected | {"optimizer.state.0.exp_avg": torch.ones(2)})


def test_a_file_written_on_a_gpu_is_read_on_a_cpu(tmp_path, monkeypatch):
    """F31."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    path = saved(tmp_path / "a.pt", state())
    monkeypatch.undo()
    assert b"cuda:0" in path.read_bytes()
    assert equal(checkpoints.tensors(path), state())


class Hostile:
    """Unpickling it would run a command."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("new", [True, False])
def test_code_is_refused_and_not_run(tmp_path, new):
    """F24."""
    path = tmp_path / "x.pt"
    saved(path, state() | {"a": Hostile(tmp_path / "marker")}, _use_new_zipfile_serialization=new)
    refused(path, r"^x.pt holds more than tensors \(os.system\); refused. Save it as .safetensors$")
    assert not (tmp_path / "marker").exists()


def test_a_whole_pickled_network_is_refused(tmp_path):
    """F24."""
    refused(
        saved(tmp_path / "x.pt", torch.nn.Linear(2, 2)), r"holds more than tensors \(torch.nn.modules.linear.Linear\)"
    )


NOT_CHECKPOINTS = {
    "empty": (b"", r"is not a checkpoint \(empty file\)"),
    "html": (b"<!DOCTYPE html><html><body>404</body></html>", r"is not a checkpoint \(HTML page\?\)"),
    "text": (b"epoch,loss\n1,2\n" * 9, r"is not a checkpoint \(text\?\)"),
    "program": (b"\x7fELF" + bytes(200), r"is not a checkpoint \(a program\)"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(200), r"is not a checkpoint \(a PNG image\)"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(200), r"is not a checkpoint \(an HDF5 file\)"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", r"Git LFS pointer"),
    "zeros": (bytes(500), r"is not a checkpoint"),
    "pickle": (b"\x80\x04\x95\x00", r"is not a checkpoint"),
    "short": (b"\x01", r"is not a checkpoint"),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", NOT_CHECKPOINTS)
def test_what_is_no_checkpoint_is_named(tmp_path, kind, suffix):
    """F25."""
    data, words = NOT_CHECKPOINTS[kind]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    refused(path, words)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_compiled_network_is_no_file_of_weights(tmp_path):
    """F25."""
    net = torch.nn.Conv2d(3, 2, 3)
    torch.jit.save(torch.jit.trace(net, torch.rand(1, 3, 5, 5)), tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:  # as torch.export.save begins
        archive.writestr("y/archive_format", "pt2")
    for name in ("x.pt", "y.pt"):
        told = rf"^{name} is a network that was compiled \(TorchScript\) or exported, not weights; save the state_dict"
        refused(tmp_path / name, told)


def test_no_file_and_a_folder(tmp_path):
    refused(tmp_path / "gone.pt", r"there is no file .*gone.pt")
    refused(tmp_path, r"is not a file")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_files_cut_off_anywhere_are_refused(tmp_path, kind):
    """F25."""
    whole = tmp_path / "whole"
    if kind == "safetensors":
        save_file(state(), whole)
    else:
        saved(whole, state(), _use_new_zipfile_serialization=kind == "zip")
    data = whole.read_bytes()
    for part in range(1, 20):
        path = tmp_path / f"cut{part}.pt"
        path.write_bytes(data[: len(data) * part // 20])
        refused(path, r"cut off|not a checkpoint|more than tensors")  # the name of a class may be what is cut


def test_flipped_bits_of_an_archive_are_noticed(tmp_path):
    """F26: Its members have checksums; a flip that nobody notices may only be where nothing is stored."""
    data = saved(tmp_path / "whole", state()).read_bytes()
    random = torch.Generator().manual_seed(1)
    path, silent = tmp_path / "x.pt", 0
    for place in torch.randint(len(data) * 8, (200,), generator=random).tolist():
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            assert equal(checkpoints.tensors(path), state())
            silent += 1
        except UserError as error:
            assert "\n" not in str(error)
    assert silent < 100


def test_an_archive_that_unpacks_to_more_is_refused_with_its_size(tmp_path):
    """F27."""
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(10_000_000)}, plain)
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert path.stat().st_size < 100_000
    refused(path, r"^x.pt is compressed \(0.0 MB that unpack to 40 MB\); refused")


@pytest.mark.parametrize("new", [True, False])
def test_a_tensor_that_claims_more_than_it_has_is_refused(tmp_path, new):
    """F27."""
    path = saved(tmp_path / "x.pt", {"a": torch.zeros(1).expand(10**6, 10**6)}, _use_new_zipfile_serialization=new)
    refused(path, r"^x.pt is refused: 'a' claims 4000000 MB and has 4e-06 MB$")


def test_a_safetensors_header_that_claims_more_than_the_file_is_refused(tmp_path):
    """F27."""
    save_file(state(), tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    path = tmp_path / "x.safetensors"
    path.write_bytes((2**40).to_bytes(8, "little") + data[8:])
    refused(path, r"x.safetensors is cut off or damaged|not a checkpoint")
    path.write_bytes(data.replace(b"[4,3,3,3]", b"[9,9,9,9]"))
    refused(path, r"x.safetensors is cut off")


@pytest.mark.parametrize(
    ("kind", "count", "words"),
    [
        ("F6_E2M3", 3, "'a' is of a type that cannot be read .*F6_E2M3"),
        ("F4", 2, "holds 'a' as float4"),
        ("F8_E4M3", 4, "holds 'a' as float8_e4m3fn, of less than 16 bits"),
        ("F8_E8M0", 4, "holds 'a' as float8"),
    ],
)
def test_types_that_nothing_computes_with_are_refused(tmp_path, kind, count, words):
    """F102."""
    header = json.dumps({"a": {"dtype": kind, "shape": [4], "data_offsets": [0, count]}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(count))
    refused(path, rf"^x.safetensors:? {words}.*; save it in float32$")


def test_arguments_and_numbers_of_numpy_beside_the_weights_are_let_be(tmp_path):
    """F88: as many training programs write them."""
    beside = {"args": argparse.Namespace(lr=0.1), "best": np.float64(0.5), "seen": np.int64(3)}
    assert equal(checkpoints.tensors(saved(tmp_path / "x.pt", beside | state())), state())


def test_what_holds_no_tensors_is_refused(tmp_path):
    refused(saved(tmp_path / "x.pt", {"epoch": 3, "model": {}}), r"^x.pt holds no tensors; a state dict is needed")
    refused(saved(tmp_path / "x.pt", [torch.ones(1)]), r"holds a list, not a state dict")


@pytest.mark.parametrize(
    ("tensor", "kind"), [(torch.eye(3).to_sparse(), "torch.sparse_coo"), (torch.empty(3, device="meta"), "meta")]
)
def test_a_tensor_that_is_not_plain_is_named(tmp_path, tensor, kind):
    path = saved(tmp_path / "x.pt", {"a": tensor})
    refused(path, rf"^x.pt holds 'a' as a {kind} tensor; only plain ones may stand there$")


def test_what_was_written_beside_the_tensors_must_be_json(tmp_path):
    path = tmp_path / "x.safetensors"
    for text in ("{", "[" * 100_000, "3"):
        save_file(state(), path, {"cnnprobe": text})
        with pytest.raises(UserError, match=r"x.safetensors is damaged: what was written beside"):
            checkpoints.metadata(path)
    save_file(state(), path, {"format": "pt"})
    assert checkpoints.metadata(path) == {}
