"""A store claims no more than it holds: rows without bytes, batches of any size, texts that are all the same one."""

import struct
import tracemalloc

import h5py
import numpy as np
import pytest

from cnnprobe.errors import UserError
from cnnprobe.store import bounds
from cnnprobe.store.reader import Recording
from tests.support.faults.hostile_stores import sealed
from tests.support.files.stores import filled

FAR = 2 * 10**9


def column(group, name, shape):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    h5py.h5d.create(group.id, name.encode(), h5py.h5t.NATIVE_INT32, h5py.h5s.create_simple(shape), plan)


def stored(path, change):
    writer = filled(path)
    writer.finish()
    writer.close()
    with h5py.File(path, "r+") as file:
        sealed(change)(file, path.parent)
    return path


@pytest.mark.parametrize("shape", [(FAR, 0), (10**6, 0), (0, FAR), (FAR, 0, FAR), (0, 10**5, 10**5)])
def test_rows_that_have_no_bytes_are_rows_all_the_same(tmp_path, shape):
    """F102: two thousand million of them are 16 GB of their numbers."""
    path = stored(tmp_path / "store.h5", lambda file, _: column(file["stimuli"], "a", shape))
    with pytest.raises(UserError, match=r"claims more than it holds \(dataset /stimuli/a\); refused"):
        Recording(path)


def test_a_column_may_have_no_rows(tmp_path):
    """Where no image could be read, say; what one row would have says nothing."""
    path = stored(tmp_path / "store.h5", lambda file, _: column(file["stimuli"], "pixels", (0, 3, 256, 256)))
    assert Recording(path)["stimuli"].known("pixels").shape == (0, 3, 256, 256)


def test_a_batch_may_be_larger_than_its_table_by_any_number(tmp_path):
    """F102: each of its rows was counted, 2 GB for ten of them."""

    def change(file, _):
        file["units/conv1"].attrs.modify("batch", np.int64(FAR))
        for name in ("done", "crc"):
            values = file[f"saved/units/conv1/{name}"][:1]
            del file[f"saved/units/conv1/{name}"]
            column(file["saved/units/conv1"], name, values.shape)
            file[f"saved/units/conv1/{name}"][:] = values

    path = stored(tmp_path / "store.h5", lambda *_: None)
    with h5py.File(path, "r+") as file:
        change(file, None)
        file["saved/units/conv1/done"][:] = 1
        sealed(lambda *_: None)(file, None)
    tracemalloc.start()
    table = Recording(path)["units/conv1"]
    assert table.rows.tolist() == list(range(10))
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


def pointing(path, length, fields):
    """Let texts of seven letters in a store all be the one text of a length in it; return how many there were."""
    data = bytearray(path.read_bytes())

    def references(count):
        at, found = data.find(struct.pack("<I", count)), []
        while at >= 0:
            place, number = struct.unpack_from("<QI", data, at + 4) if at + 16 <= len(data) else (0, 0)
            if 0 < place < len(data) and data[place : place + 4] == b"GCOL" and 0 < number < fields + 100:
                found.append(at)
            at = data.find(struct.pack("<I", count), at + 1)
        return found

    (long,), short = references(length), references(7)
    for at in short:
        data[at : at + 16] = data[long : long + 16]
    path.write_bytes(data)
    return len(short)


def test_few_texts_of_many_attributes_are_counted_as_they_are(tmp_path):
    """F102: twenty are not asked how long they may be, but twenty in each of many attributes are many."""
    kind = h5py.string_dtype()

    def change(file, _):
        file["stimuli"].attrs.create("zz", ["A" * 70_001], dtype=kind)
        for number in range(10):
            file["units/conv1"].attrs.create(f"zz{number}", ["letters"] * 20, dtype=kind)

    path = stored(tmp_path / "store.h5", change)
    assert len(Recording(path)["units/conv1"].attributes["zz3"]) == 20
    assert pointing(path, 70_001, 200) >= 200
    with pytest.raises(UserError, match=r"claims more than it holds \(attribute 'zz\d' of /units/conv1\); refused"):
        Recording(path)


def test_texts_of_many_columns_are_counted_together(tmp_path):
    """F102: each alone has fewer letters than the file."""
    kind = h5py.string_dtype()

    def change(file, _):
        for number in range(12):
            words = np.array(["A" * 70_003 if number == 0 else "letters"], object)
            file["stimuli"].create_dataset(f"text{number:02d}", data=words, dtype=kind)

    path = stored(tmp_path / "store.h5", change)
    assert Recording(path)["stimuli"].known("text11").tolist() == ["letters"]
    assert pointing(path, 70_003, 200) >= 11
    with pytest.raises(UserError, match=r"claims more than it holds \(dataset /stimuli/text\d\d\); refused"):
        Recording(path)


def test_what_an_array_of_any_length_has_is_counted():
    assert bounds._bytes(np.zeros(3)) == 24
    assert [bounds._bytes(one) for one in ("abc", b"ab", h5py.Empty("f4"))] == [3, 2, 0]
