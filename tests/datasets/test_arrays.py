"""The user's own arrays: what is read, and what a hostile file gets."""

import os
import pickle
import zipfile

import h5py
import numpy as np
import pytest
import torch

from cnnprobe.datasets.arrays import build
from cnnprobe.errors import UserError


def arrays(path, **options):
    given = {"data": None, "labels": None, "rate": None, "split": None, "size": None, "resize": None}
    return build(root=str(path), **given | {"scale": 1.0, "strict": False} | options)


def values(count=10, channels=3, length=40):
    return np.random.default_rng(0).standard_normal((count, channels, length)).astype(np.float32)


@pytest.fixture(params=["h5", "npy", "npz"])
def written(request, tmp_path):
    path = tmp_path / f"mine.{request.param}"
    data = values()
    if request.param == "npy":
        np.save(path, data)
    elif request.param == "npz":
        np.savez_compressed(path, x=data, labels=np.arange(10) % 2)
    else:
        with h5py.File(path, "w") as file:
            file["session/x"] = data
            file["session/x"].attrs["sfreq"] = 250
            file["session/labels"] = np.arange(10) % 2
            file["session/labels"].attrs["classes"] = ["left", "right"]
    return path


def test_every_kind_of_file_gives_its_rows(written):
    dataset = arrays(written)
    assert dataset.size == (3, 40) and len(dataset) == 10
    batch, readable = dataset.load([4, 0, 9])
    assert readable.all() and np.array_equal(batch.numpy(), values()[[4, 0, 9]])
    kind = written.suffix
    assert dataset.rate == (250 if kind == ".h5" else None)
    assert dataset.classes == {".h5": ("left", "right"), ".npz": ("0", "1"), ".npy": ()}[kind]
    assert dataset.labels.tolist() == ([-1] * 10 if kind == ".npy" else [0, 1] * 5)


def test_every_fifth_is_held_out_and_the_fingerprint_is_of_the_content(written):
    train, test = arrays(written, split="train"), arrays(written, split="test")
    assert [name[-6:] for name in test.names] == ["000004", "000009"]
    assert len(train) == 8 and not set(train.names) & set(test.names)
    before = arrays(written).fingerprint
    assert before == arrays(written).fingerprint != train.fingerprint
    assert arrays(written, scale=2.0).fingerprint != before


def test_a_file_that_changes_after_its_fingerprint_was_taken_is_not_shown(written):
    """F100."""
    dataset, content = arrays(written), written.read_bytes()
    before = dataset.fingerprint
    place = content.find(values()[3].tobytes()[:16]) if written.suffix != ".npz" else len(content) // 2
    written.write_bytes(content[:place] + bytes(4) + content[place + 4 :])
    with pytest.raises(UserError, match=r"^mine\..* changed while it was being used; a run over it can go on once"):
        dataset.load([0, 1])
    written.write_bytes(content)
    assert dataset.load([0, 1])[1].all() and arrays(written).fingerprint == before


def test_signals_are_cut_to_their_middle_and_scaled(written, caplog):
    dataset = arrays(written, size=30, scale=10.0)
    assert np.array_equal(dataset[2][0].numpy(), (values()[2] * np.float32(10))[:, 5:35])
    assert "cut to the 30 in their middle" in dataset.remarks["cut"]
    with pytest.raises(UserError, match=r"have 40 samples, asked for dataset.size=50"):
        arrays(written, size=50)


def test_bytes_of_images_become_0_to_1_and_are_fitted(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 20, 24), dtype=np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    whole = arrays(tmp_path / "images.npy")
    assert torch.equal(whole[3][0], torch.from_numpy(pixels[3]) / 255)
    fitted = arrays(tmp_path / "images.npy", size=16)
    assert fitted.size == (3, 16, 16) and fitted.load([0, 1])[0].shape == (2, 3, 16, 16)


def test_recordings_that_are_not_finite_are_skipped_or_end_the_run(tmp_path):
    data = values()
    data[3, 1, 5], data[6, 0, :2] = np.nan, np.inf
    np.save(tmp_path / "mine.npy", data)
    dataset = arrays(tmp_path / "mine.npy")
    batch, readable = dataset.load(range(10))
    assert np.flatnonzero(~readable).tolist() == [3, 6] and not batch[3].any()
    assert dataset.problems == {
        "mine.npy/000003": "1 values are not finite",
        "mine.npy/000006": "2 values are not finite",
    }
    with pytest.raises(UserError, match=r"mine.npy/000003 cannot be read \(1 values are not finite\)"):
        arrays(tmp_path / "mine.npy", strict=True).load([3])


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def _trapped(folder, marker):
    """Write one hostile file of each kind; return what must be said of it."""
    trap = np.array([Trap(marker)] * 3, dtype=object).reshape(3, 1, 1)
    np.save(folder / "object.npy", trap, allow_pickle=True)
    np.savez(folder / "object.npz", x=trap)
    (folder / "pickle.npy").write_bytes(pickle.dumps(Trap(marker)))
    np.save(folder / "short.npy", values())
    data = (folder / "short.npy").read_bytes()
    (folder / "short.npy").write_bytes(data[: len(data) // 2])
    (folder / "huge.npy").write_bytes(data[:128].replace(b"(10, 3, 40), ", b"(10**9,3,40),"[:13]) + data[128:])
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**3, 10**6)}
    with (folder / "claims.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(folder / "member.npz", "w") as archive:
        archive.writestr("x.npy", b"not an array")
    (folder / "text.h5").write_text("a,b,c\n1,2,3\n")
    (folder / "empty.h5").touch()
    (folder / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(30))
    with h5py.File(folder / "texts.h5", "w") as file:
        file.create_dataset("x", (2, 3, 4), dtype=h5py.string_dtype())
    np.save(folder / "outside.npy", values())
    with h5py.File(folder / "external.h5", "w") as file:
        file.create_dataset("x", (2, 3, 4), "f4", external=[(str(folder / "outside.npy"), 0, 96)])
    with h5py.File(folder / "target.h5", "w") as file:
        file["x"] = values()
    with h5py.File(folder / "link.h5", "w") as file:
        file["x"] = h5py.ExternalLink("target.h5", "x")
    with h5py.File(folder / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((10, 3, 40), "f4")
        layout[...] = h5py.VirtualSource(str(folder / "target.h5"), "x", (10, 3, 40))
        file.create_virtual_dataset("x", layout)
    os.mkfifo(folder / "pipe.npy")
    return {
        "object.npy": "pickled objects, which could run code", "object.npz": "pickled objects, which could run code",
        "pickle.npy": "it is a pickle, which could run code", "short.npy": "short.npy is cut off",
        "huge.npy": "is damaged or no npy file", "claims.npy": "is cut off",
        "member.npz": "is damaged or no npz file", "text.h5": "must be an HDF5, MATLAB, .npy, .npz, NIfTI or .csv file",
        "empty.h5": "it is empty", "cut.h5": "is damaged or no hdf5 file", "texts.h5": r"arrays: x (texts)",
        "external.h5": "keeps its values in other files", "link.h5": "no array of three or four axes",
        "virtual.h5": "keeps its values in other files", "pipe.npy": "no regular file", "gone.npy": "cannot read",
    }  # fmt: skip


def test_hostile_files_are_refused_in_one_line_and_run_nothing(tmp_path):
    marker = tmp_path / "ran"
    for name, said in _trapped(tmp_path, marker).items():
        with pytest.raises(UserError) as error:
            arrays(tmp_path / name)
        message = str(error.value)
        assert said in message and "\n" not in message and len(message) < 400, (name, message)
    with pytest.raises(UserError, match="a folder"):
        arrays(tmp_path)
    assert not marker.exists()


def test_a_file_damaged_inside_is_skipped_row_by_row(tmp_path):
    """A compressed chunk is broken: its rows cannot be read, the others can."""
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("x", data=values(), chunks=(1, 3, 40), compression="gzip")
        where = stored.id.get_chunk_info(4)
    content = bytearray(path.read_bytes())
    content[where.byte_offset : where.byte_offset + 40] = bytes(40)
    path.write_bytes(bytes(content))
    dataset = arrays(path)
    _, readable = dataset.load(range(10))
    assert np.flatnonzero(~readable).tolist() == [4]
    assert "damaged" in dataset.problems["mine.h5/000004"]


def test_which_array_is_meant_is_asked_where_there_are_several(tmp_path):
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["x"], file["z"] = values(), values(4)
        file["labels"] = np.full(10, 0.5)
    with pytest.raises(UserError, match=r"two.h5 has several arrays .* dataset.data names one"):
        arrays(tmp_path / "two.h5")
    with pytest.raises(UserError, match=r"no dataset 'w' in .*two.h5"):
        arrays(tmp_path / "two.h5", data="w")
    with pytest.raises(UserError, match=r"labels must be 4 whole numbers or texts, one per recording"):
        arrays(tmp_path / "two.h5", data="z")
    np.save(tmp_path / "flat.npy", values()[0])
    with pytest.raises(UserError, match="no array of three or four axes"):
        arrays(tmp_path / "flat.npy")
    with pytest.raises(UserError, match=r"dataset=arrays needs dataset.root=FILE"):
        build(root=None, data=None, labels=None, rate=None, split=None, size=None, resize=None, scale=1.0, strict=False)


@pytest.mark.parametrize(("size", "taken"), [((8000, 8000), True), ((8001, 8000), False), ((2, 32_000_001), False)])
def test_images_without_bound_are_refused(tmp_path, size, taken):
    """F34: a few hundred bytes on disk, and as a file of images they would be refused too."""
    path = tmp_path / "mine.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (1, 1, *size)})
        file.truncate(file.tell() + size[0] * size[1])
    if taken:
        assert len(arrays(path)) == 1
    else:
        with pytest.raises(UserError, match=r"mine.npy: its images are too large \(64 million pixels; limit 64\)"):
            arrays(path)


def test_bytes_of_0_and_1_alone_are_black_and_white(tmp_path, caplog):
    """F90: silhouettes; one byte above 1 anywhere and they are dark pictures."""
    pixels = (np.random.default_rng(0).random((130, 3, 5, 6)) > 0.5).astype(np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    dataset = arrays(tmp_path / "a.npy")
    assert torch.equal(dataset.load(range(130))[0], torch.from_numpy(pixels).float()) and "1 is white" in caplog.text
    pixels[31, 0, 0, 0] = 2
    np.save(tmp_path / "a.npy", pixels)
    assert torch.equal(arrays(tmp_path / "a.npy").load(range(130))[0], torch.from_numpy(pixels) / 255)


def test_what_is_multiplied_is_rounded_once(tmp_path):
    """F90: a factor beyond float32, and values that only their product brings into it."""
    given = values().astype(np.float64) * 1e-44
    np.save(tmp_path / "tiny.npy", given)
    shown = arrays(tmp_path / "tiny.npy", scale=1e44).load(range(10))[0].numpy()
    assert np.allclose(shown, values(), rtol=1e-6)
    np.save(tmp_path / "large.npy", given * 1e84)
    dataset = arrays(tmp_path / "large.npy")
    assert not dataset.load([3])[1].any()
    count = (np.abs(values()[3]) > 3.4028236e-2).sum()
    assert dataset.problems == {"large.npy/000003": f"{count} values are larger than float32 holds"}


@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_a_small_signal_on_a_large_offset_is_refused_or_warned_of(tmp_path, caplog, kind):
    """F90: noise of a spread of 1 on 1e8 was one value; float32 has steps of 8 there, and of 1/128 at 1e5."""
    signals = np.random.default_rng(0).standard_normal((10, 3, 400)) * (1 if kind == np.float64 else 50)
    offset = 50 * 1e8 if kind == np.int64 else 1e8
    np.save(tmp_path / "lost.npy", (signals + offset).astype(kind))
    with pytest.raises(UserError, match=r"lost.npy: its values lie on too large an offset: .* subtract the mean of ea"):
        arrays(tmp_path / "lost.npy")
    some = signals.copy()
    some[:, 1] += offset
    np.save(tmp_path / "some.npy", some.astype(kind))
    assert "offset" not in caplog.text and len(arrays(tmp_path / "some.npy")) == 10
    assert "channels 1 lie on a large offset" in caplog.text
    caplog.clear()
    some[:, 1] = offset  # a channel that does not vary has nothing to lose
    np.save(tmp_path / "same.npy", (some + 1e3).astype(kind))
    kept = arrays(tmp_path / "same.npy").load(range(10))[0].numpy()
    assert "offset" not in caplog.text
    assert np.allclose(kept[:, 0], (some[:, 0] + 1e3).astype(kind), atol=1e-3)
