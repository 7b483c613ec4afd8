"""NIfTI in and out: values, places and sides of voxels, stacks of files, masks, and files that lie."""

import builtins
import gzip

import nibabel
import numpy as np
import pytest

from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.brain import volumes

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2.5, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
SHAPE = (4, 5, 3)
WORDS = [f"{word}.png" for word in ("apple", "bus", "cat", "dog", "egg", "fox")]


def save(path, values, affine=AFFINE, unit="mm", kind=nibabel.Nifti1Image):
    image = kind(values, affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return str(path)


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(*SHAPE, 6)).astype(np.float32)


@pytest.mark.parametrize("ending, kind", [(".nii", nibabel.Nifti1Image), (".nii.gz", nibabel.Nifti2Image)])
def test_a_file_of_four_axes(tmp_path, values, ending, kind):
    (one,) = volumes.subjects(save(tmp_path / f"sub-01{ending}", values, kind=kind), WORDS[:6])
    assert (one.name, one.shape, one.conditions) == ("sub-01", SHAPE, 6)
    assert one.voxel_size == (2.0, 2.5, 3.0)
    np.testing.assert_array_equal(one.affine, AFFINE)
    np.testing.assert_array_equal(one.read(), values)


def test_a_folder_or_a_list_of_files_of_three_axes_is_one_subject(tmp_path, values):
    (tmp_path / "sub-02").mkdir()
    for place in range(6):
        save(tmp_path / "sub-02" / f"beta_{place}.nii", values[..., place])
    (folder,) = volumes.subjects(str(tmp_path / "sub-02"), WORDS[:6])
    backwards = [str(tmp_path / "sub-02" / f"beta_{place}.nii") for place in reversed(range(6))]
    (listed,) = volumes.subjects(backwards, WORDS[:6])
    assert folder.name == listed.name == "sub-02" and folder.conditions == 6
    np.testing.assert_array_equal(folder.read(), values)
    np.testing.assert_array_equal(listed.read(), values[..., ::-1])


def folder_of(path, names, values):
    path.mkdir()
    for place, name in enumerate(names):
        save(path / name, values[..., place])
    return str(path)


@pytest.mark.parametrize("names", [
    [f"sub-01_{word}_beta.nii.gz" for word in ("apple", "bus", "cat", "dog", "egg", "fox")],
    ["Apple.nii", "BUS.nii", "Cat.nii", "DOG.nii", "Egg.nii", "fox.nii"],
])  # fmt: skip
def test_volumes_are_matched_by_their_names(tmp_path, values, names):
    """F89: whatever order their names sort in, and whatever else is in the folder."""
    order = [3, 0, 5, 1, 2, 4]
    ours = [WORDS[place] for place in order]
    (one,) = volumes.subjects(folder_of(tmp_path / "sub", names, values), ours)
    np.testing.assert_array_equal(one.read(), values[..., order])
    assert one.rows.startswith("by ")
    (part,) = volumes.subjects(str(tmp_path / "sub"), ours[:3])
    np.testing.assert_array_equal(part.read(), values[..., order[:3]])
    save(tmp_path / "sub" / "residuals.nii", values[..., 0])
    (more,) = volumes.subjects(str(tmp_path / "sub"), ours)
    np.testing.assert_array_equal(more.read(), values[..., order])


def test_numbers_of_volumes_are_in_natural_order(tmp_path):
    """F89: beta_2 is before beta_10, from 0 or from 1 on."""
    values = np.random.default_rng(0).normal(size=(*SHAPE, 12)).astype(np.float32)
    for first in (0, 1):
        path = folder_of(tmp_path / f"s{first}", [f"beta_{place + first}.nii" for place in range(12)], values)
        for ours in ([f"img{n:02d}.png" for n in range(1, 13)], [f"{chr(97 + n)}.png" for n in range(12)]):
            (one,) = volumes.subjects(path, ours)
            np.testing.assert_array_equal(one.read(), values)
            assert "order of the numbers" in one.rows or one.rows.startswith("by ")


def test_volumes_without_names_need_one_order(tmp_path, values):
    """F89: a file of four axes has no names."""
    four = save(tmp_path / "s.nii", values)
    ours = [f"cat{n}.png" for n in (1, 10, 2)] + [f"dog{n}.png" for n in (1, 10, 2)]
    with pytest.raises(UserError, match=r"s.nii has no names that decide the order of its rows"):
        volumes.subjects(four, ours)
    (tmp_path / "rows.csv").write_text("\n".join(ours[::-1]))
    for order, places in (("natural", [0, 2, 1, 3, 5, 4]), (str(tmp_path / "rows.csv"), [5, 4, 3, 2, 1, 0])):
        (one,) = volumes.subjects(four, ours, order)
        np.testing.assert_array_equal(one.read(), values[..., places])
        assert one.conditions == 6


def test_axes_of_length_one_and_folders_of_subjects(tmp_path, values):
    """F91: (x, y, z, 1, condition) as AFNI writes it; a folder with a file for each subject."""
    (tmp_path / "all").mkdir()
    save(tmp_path / "all" / "sub-01.nii", values.reshape(*SHAPE, 1, 6))
    save(tmp_path / "all" / "sub-02.nii.gz", values + 1)
    first, second = volumes.subjects(str(tmp_path / "all"), WORDS)
    np.testing.assert_array_equal(first.read(), values)
    np.testing.assert_array_equal(second.read(), values + 1)


def test_several_subjects_have_names_of_their_own(tmp_path, values):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    given = [save(tmp_path / name / "betas.nii.gz", values + place) for place, name in enumerate("ab")]
    first, second = volumes.subjects(given, WORDS[:6])
    assert (first.name, second.name) == ("betas-01", "betas-02")
    np.testing.assert_array_equal(second.read(), values + 1)


def test_integers_with_a_scale_and_other_units(tmp_path):
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(SHAPE), np.diag([100.0, 100, 200, 1]))
    image.header.set_xyzt_units("micron")
    image.header.set_slope_inter(0.5, 3)
    nibabel.save(image, tmp_path / "mouse.nii")
    (one,) = volumes.subjects([str(tmp_path / "mouse.nii")], ["a"])
    np.testing.assert_allclose(one.voxel_size, (0.1, 0.1, 0.2))
    np.testing.assert_array_equal(one.read()[..., 0], np.arange(60).reshape(SHAPE) * 0.5 + 3)


def test_a_mask_is_where_the_file_is_not_zero(tmp_path, values):
    (one,) = volumes.subjects(save(tmp_path / "s.nii", values), WORDS[:6])
    inside = values[..., 0] > 0
    drawn = np.where(inside, 3.0, 0.0).astype(np.float32)
    drawn[0, 0, 0] = np.nan
    inside[0, 0, 0] = False
    np.testing.assert_array_equal(volumes.mask(save(tmp_path / "m.nii", drawn), one), inside)
    with pytest.raises(UserError, match="0 everywhere"):
        volumes.mask(save(tmp_path / "n.nii", drawn * 0), one)
    with pytest.raises(UserError, match="a mask has three axes"):
        volumes.mask(str(tmp_path / "s.nii"), one)


def test_a_map_is_read_back_where_it_was(tmp_path, values):
    data = volumes.nifti(values[..., 0], AFFINE, "similarity of conv3")
    (tmp_path / "map.nii.gz").write_bytes(data)
    image = nibabel.load(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(image.affine, AFFINE)
    np.testing.assert_array_equal(image.get_fdata(), values[..., 0])
    assert image.header.get_zooms() == (2.0, 2.5, 3.0) and image.header.get_xyzt_units()[0] == "mm"
    assert image.header["descrip"] == b"similarity of conv3"
    assert data == volumes.nifti(values[..., 0], AFFINE, "similarity of conv3")


def test_what_does_not_fit_is_said(tmp_path, values):
    four = save(tmp_path / "four.nii", values)
    with pytest.raises(UserError, match=r"shape 4 x 5 x 3 x 6; needed are 92 conditions"):
        volumes.subjects(four, [str(n) for n in range(92)])
    three = save(tmp_path / "three.nii", values[..., 0])
    with pytest.raises(UserError, match=r"three.nii has shape 4 x 5 x 3; needed are 6"):
        volumes.subjects([three, four], WORDS[:6])
    with pytest.raises(UserError, match=r"has 2 volumes; needed are 6"):
        volumes.subjects([three, three], WORDS[:6])
    moved = save(tmp_path / "moved.nii", values, AFFINE + np.eye(4)[:, [3, 0, 1, 2]] * 2)
    with pytest.raises(UserError, match=r"moved.nii and four.nii lie up to .* mm apart"):
        volumes.subjects([four, moved], WORDS[:6])
    flipped = save(tmp_path / "flipped.nii", values, AFFINE @ np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(UserError, match=r"lie up to 12 mm apart"):  # 3 steps of 2 mm, forwards and backwards
        volumes.subjects([four, flipped], WORDS[:6])
    with pytest.raises(UserError, match=r"other.nii has 4 x 5 x 2 voxels, four.nii 4 x 5 x 3"):
        volumes.subjects([four, save(tmp_path / "other.nii", values[:, :, :2])], WORDS[:6])
    with pytest.raises(UserError, match="got an empty list"):
        volumes.subjects([], WORDS[:6])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no .nii or .nii.gz in .*empty"):
        volumes.subjects(str(tmp_path / "empty"), WORDS[:6])


def cut(path, values):
    save(path, values)
    path.write_bytes(path.read_bytes()[:600])


def packed_and_cut(path, values):
    save(path, values)
    path.write_bytes(path.read_bytes()[:-300])


def claims(path, values):
    data = bytearray(nibabel.Nifti1Image(values, AFFINE).to_bytes())
    data[40:50] = np.array([4, 32767, 32767, 32767, 6], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(data)))


def flat(path, values):
    data = bytearray(nibabel.Nifti1Image(values, AFFINE).to_bytes())
    data[312:328] = bytes(16)  # the row of z of the affine
    path.write_bytes(bytes(data))


HOSTILE = {
    "missing.nii": (lambda path, values: None, "no file"),
    "empty.nii": (lambda path, values: path.write_bytes(b""), "is no NIfTI file"),
    "text.nii": (lambda path, values: path.write_text("x" * 400), "is no NIfTI file"),
    "picture.png": (lambda path, values: path.write_bytes(b"\x89PNG" * 90), "is no NIfTI file"),
    "other.mgz": (lambda path, values: nibabel.save(nibabel.MGHImage(values, AFFINE), path), "is MGHImage, not NIfTI"),
    "cut.nii": (cut, "is cut off: 600 bytes for 4 x 5 x 3 x 6"),
    "packed.nii.gz": (packed_and_cut, "is damaged"),
    "claims.nii.gz": (claims, r"claims 8.44e\+05 GB in 0.0015 MB of a compressed file"),
    "complex.nii": (lambda path, values: save(path, values.astype(np.complex64)), "of complex64; needed are"),
    "flat.nii": (flat, "how large its voxels are"),
    "five.nii": (lambda path, values: save(path, values.reshape(*SHAPE, 2, 3)), "three or four axes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_files_that_lie_are_refused(tmp_path, values, name):
    make, words = HOSTILE[name]
    make(tmp_path / name, values)
    with pytest.raises(UserError, match=words):
        volumes.subjects(str(tmp_path / name), WORDS[:6])[0].read()


def test_without_nibabel_the_way_out_is_said(tmp_path, values, monkeypatch):
    path = save(tmp_path / "s.nii", values)
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name == "nibabel":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"pip install 'cnnprobe\[brain\]'"):
        volumes.subjects(path, WORDS[:6])


@pytest.mark.parametrize("kind", [np.float64, np.int32, np.int16])
def test_patterns_on_a_large_offset_keep_their_differences(tmp_path, kind):
    """F90: doubles, large integers, and small ones of which the header says the offset."""
    whole = np.random.default_rng(0).integers(-99, 99, (*SHAPE, 6))
    image = nibabel.Nifti1Image((whole + (0 if kind == np.int16 else 10**9)).astype(kind), AFFINE)
    if kind == np.int16:
        image.header.set_slope_inter(1, 10**9)
    nibabel.save(image, tmp_path / "a.nii.gz")
    (one,) = volumes.subjects(str(tmp_path / "a.nii.gz"), WORDS[:6])
    np.testing.assert_array_equal(one.read() - 10**9, whole)
