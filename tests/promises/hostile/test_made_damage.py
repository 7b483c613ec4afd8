"""Run folders that somebody has made: fields and attributes of any kind, with checksums that are right.

Each is taken by every command that reads runs. Nothing ends in a traceback, nothing is written but where the command
line says, no address is asked, and memory stays small.
"""

import json
import math
import random
import resource
import shutil
import socket
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from cnnprobe.cli.main import main
from cnnprobe.machine import files
from cnnprobe.models.weights.checkpoints import tensors
from cnnprobe.preparation import weights as weight_files
from cnnprobe.store.layout import CHECKSUM, SAVED, known_sum

MEMORY = 1.5e9
VALUES = [
    None, True, False, 0, 1, -1, 5, 2**31, 2**53, 10**30, 0.5, math.nan, math.inf, -1e300, "", "x", "latest", "v001",
    "../..", "/", "~", "\x00", "\x1b[31m", "é" * 300, "complete", "published", "random", "auto", [], [1], ["x"], [[]],
    [None], {}, {"a": 1}, {"name": "x"}, {"name": ["x"]}, "2026-01-01", [math.nan], "[1]", "{}", "${oc.env:HOME}",
    "!!python/name:os.system",
]  # fmt: skip
ATTRIBUTES = [
    0, -1, 1.5, np.nan, "", "x", "\x1b[31m", "[1]", "{", "[]", "null", True, np.uint8(3), np.int64(2**62), b"bytes",
    np.array([1, 2]), np.zeros(0), np.array([[1.0, 2.0]]), np.array(["a", "b"], dtype=object), np.complex64(1j),
    np.float64(1e300), "conv1 conv2", "max mean", h5py.Empty("f"),
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory, pictures, sketched):
    """A complete training, ranking, recording and mapping, a stopped ranking and a stopped training."""
    out = tmp_path_factory.mktemp("made") / "outputs"
    shown = ["dataset=folder", f"dataset.root={pictures}", "dataset.size=32", "device.workers=0", f"out={out}"]
    assert main(["train", "model=convnet", "epochs=2", "batch_size=8", "name=t", *shown]) == 0
    common = ["model=convnet", "weights=random", "layer=[conv1,conv2]", "batch_size=4", *shown]
    assert main(["topk", *common, "k=3", "name=k"]) == 0
    assert main(["record", *common, "name=r"]) == 0
    assert main(["rf-map", *common, "top_images=2", "effective=false", "source=topk/k/v001", "name=m"]) == 0
    assert main(["rsa", *common, "bootstrap=0", "permutations=0", "controls=null", "name=s"]) == 0
    for command, name in (("topk", "k"), ("train", "t"), ("record", "r"), ("rf-map", "m"), ("rsa", "s")):
        folder = out / command / name / "v002"
        shutil.copytree(out / command / name / "v001", folder)
        about = json.loads((folder / "run.json").read_text()) | {"status": "interrupted"}
        (folder / "run.json").write_text(json.dumps(about))
        with h5py.File(folder / "store.h5", "r+") as store:
            store.attrs.modify("complete", np.False_)
            table = next(iter(store[SAVED]))
            done = store[f"{SAVED}/{table}"]
            done = done[next(iter(done))]["done"] if "done" not in done else done["done"]
            done[-1] = 0
    return out


def places(value, path=()):
    """Give the path of every field of nested plain values."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def put(value, path, new):
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


def damage_plain(chance, path, load, dump):
    found = load(path.read_text())
    for _ in range(chance.randint(1, 3)):
        where = list(places(found))
        if where:
            spot = chance.choice(where)
            if chance.random() < 0.15:
                target = found
                for key in spot[:-1]:
                    target = target[key]
                del target[spot[-1]]
            else:
                put(found, spot, chance.choice(VALUES))
    path.write_text(dump(found))


def damage_store(chance, path):
    """Give attributes of a store other values and kinds, and put its own checksums right."""
    with h5py.File(path, "r+") as store:
        spots = [store]
        store.visititems(lambda name, item: None if name.startswith(SAVED) else spots.append(item))
        for _ in range(chance.randint(1, 3)):
            spot = chance.choice(spots)
            name = chance.choice([*spot.attrs, "new"])
            if name == CHECKSUM:
                continue
            if name in spot.attrs:
                del spot.attrs[name]
            if chance.random() < 0.85:
                spot.attrs[name] = chance.choice(ATTRIBUTES)
        tables = []
        store.visititems(
            lambda name, item: (
                tables.append(name)
                if isinstance(item, h5py.Group)
                and name.split("/")[0] != SAVED
                and any(isinstance(one, h5py.Dataset) for one in item.values())
                else None
            )
        )
        for group in (store, *(store[name] for name in tables)):
            if CHECKSUM in group.attrs:
                try:
                    group.attrs.modify(CHECKSUM, np.uint32(known_sum(group, tables)))
                except (TypeError, ValueError, AttributeError):
                    continue


def damage_weights(chance, folder):
    """Write other metadata, or another state, beside the same tensors; the checksum is right."""
    path = chance.choice(sorted(folder.glob("*.safetensors")))
    about = json.loads(json.dumps(weight_files.about(path)))
    where = list(places(about))
    for _ in range(chance.randint(1, 2)):
        spot = chance.choice(where)
        try:
            put(about, spot, chance.choice([value for value in VALUES if not isinstance(value, float)]))
        except (TypeError, LookupError):
            continue
    weight_files.save(path, tensors(path), about)


def forged(chance, out):
    """Damage one run of a copy, put the checksums in its `run.json` right, and return its folder."""
    folder = (
        out / chance.choice(["train/t", "topk/k", "record/r", "rf-map/m", "rsa/s"]) / chance.choice(["v001", "v002"])
    )
    kind = chance.choice(["run.json", "run.json", "config.yaml", "store", "store", "weights"])
    if kind == "config.yaml":
        damage_plain(chance, folder / kind, yaml.safe_load, lambda found: yaml.safe_dump(found, allow_unicode=True))
    elif kind == "store":
        damage_store(chance, folder / "store.h5")
    elif kind == "weights" and (folder / "weights").is_dir():
        damage_weights(chance, folder / "weights")
    about = json.loads((folder / "run.json").read_text())
    about["files"] = {name: files.sha256(folder / name) for name in about["files"] if (folder / name).is_file()}
    (folder / "run.json").write_text(json.dumps(about))
    if kind in ("run.json", "weights"):
        damage_plain(chance, folder / "run.json", json.loads, json.dumps)
    return folder, kind


def taken_by(folder, out, pictures):
    """Give the command lines that read a run."""
    shown = ["dataset=folder", f"dataset.root={pictures}", "dataset.size=32", "batch_size=4", "device.workers=0"]
    shown += [f"out={out}/new", "name=n"]
    command = folder.parent.parent.name
    images = ["dataset=avatar", "dataset.count=8", "batch_size=4", "device.workers=0", f"out={out}/new", "name=n"]
    yield ["check", str(folder)]
    yield ["status", f"out={out}"]
    yield [command, "--redraw", str(folder)]
    yield [command, "--resume", str(folder)]
    yield [command, "--resume", "latest", f"out={out}"]
    yield [command, "--rerun", str(folder), f"out={out}/new"]
    yield ["topk", "model=convnet", "layer=conv1", "k=2", *images[:-2], f"out={out}", "name=auto"]
    if command == "train":
        yield ["record", "model=convnet", f"weights={folder}", "layer=conv1", *images]
        yield ["topk", "model=convnet", f"weights={folder}@*", "layer=conv1", *images]
        yield ["transfer", "model=convnet", f"weights={folder}", "epochs=1", "old_task=auto", *images]
    elif command in ("topk", "record"):
        yield ["gbp", "model=convnet", f"source={folder}", "layer=conv1", "top_images=2", *shown]
        yield ["optimize", "model=convnet", "weights=random", f"source={folder}", "layer=conv1", "steps=1", *shown]
    elif command == "rsa":
        yield ["rsa", "model=convnet", "weights=random", f"reference={folder}", "layer=conv1", "permutations=9", *shown]


def walked(made, tmp_path, cnnprobe, monkeypatch, pictures, numbers):
    def refused(*_, **__):
        raise AssertionError("an address was asked for")

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of whatever this process has done before
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for number in numbers:
        chance = random.Random(number)
        out = tmp_path / f"outputs{number}"
        shutil.copytree(made, out, symlinks=True)
        folder, kind = forged(chance, out)
        before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(out)}
        lines = list(taken_by(folder, out, pictures))
        for words in chance.sample(lines, min(4, len(lines))):
            answer = cnnprobe(*words)
            told = f"{number} {kind} {folder.relative_to(out)} {words}: {answer.err[-1500:]}"
            assert answer.status in (0, 2), told
            assert "Traceback" not in answer.err, told
            assert not {c for c in answer.out + answer.err if c != "\n" and not c.isprintable()}, told
            assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(out)} == before, told
        shutil.rmtree(out)
    now = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert now <= max(1024 * peak, MEMORY + float(Path("/proc/self/statm").exists()) * 5e8), now


def test_runs_that_somebody_has_made_are_read_or_refused(made, tmp_path, cnnprobe, monkeypatch, pictures):
    """F102: some of them; `make test-slow` takes 3,000."""
    walked(made, tmp_path, cnnprobe, monkeypatch, pictures, range(3))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(30))
def test_three_thousand_runs_that_somebody_has_made(made, tmp_path, cnnprobe, monkeypatch, pictures, part):
    """F102."""
    walked(made, tmp_path, cnnprobe, monkeypatch, pictures, range(100 * part, 100 * part + 100))
