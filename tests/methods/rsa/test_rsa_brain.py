"""rsa with brains in space and time, end to end: NIfTI volumes in, maps of layers out; moments and regions."""

import json

import h5py
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import pdist, squareform
from torch import nn

import cnnprobe as package
from cnnprobe.methods.rsa import method as rsa
from cnnprobe.store.reader import Recording

QUICK = ["batch_size=8", "bootstrap=10", "permutations=99", "controls=[pixels]", "layer=[conv1]"]
SHAPE, AFFINE = (7, 8, 6), np.array([[-2.0, 0, 0, 8], [0, 2, 0, -10], [0, 0, 3, 4], [0, 0, 0, 1]])


def points(matrix):
    """Return patterns (condition, axis) whose squared Euclidean distances are about the matrix."""
    middle = np.eye(len(matrix)) - 1 / len(matrix)
    values, vectors = np.linalg.eigh(-middle @ matrix @ middle / 2)
    return vectors[:, values > 1e-9] * np.sqrt(values[values > 1e-9])


def planted(folder, matrix, subjects=5):
    """Write volumes of subjects whose front half carries the pattern of a matrix, and a mask. Returns their paths."""
    rng = np.random.default_rng(0)
    axes = points(matrix)
    paths = []
    for subject in range(subjects):
        values = rng.normal(size=(*SHAPE, len(matrix)))
        carried = axes @ rng.normal(size=(axes.shape[1], SHAPE[0] * 4 * SHAPE[2]))
        values[:, 4:] += (carried / carried.std()).T.reshape(SHAPE[0], 4, SHAPE[2], -1) * 2
        paths.append(folder / f"sub-{subject + 1:02d}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), AFFINE), paths[-1])
    mask = np.ones(SHAPE, np.uint8)
    mask[0] = 0
    nibabel.save(nibabel.Nifti1Image(mask, AFFINE), folder / "mask.nii")
    return [str(path) for path in paths], str(folder / "mask.nii")


def seen(pictures):
    """Return how unlike the pixels of the images are, (pair,)."""
    paths = sorted(pictures.rglob("*.png"), key=lambda path: path.relative_to(pictures))
    return pdist([np.asarray(Image.open(path), float).ravel() for path in paths], "correlation")


def moving(path, pictures):
    """Write matrices over time, in which that of the pixels peaks at 100 ms, and of two regions, the first like it."""
    pixels = (seen(pictures) - seen(pictures).mean()) / seen(pictures).std()
    times = np.arange(0, 300, 25.0)
    course = np.exp(-(((times[:, None] - 100) / 40) ** 2))
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["meg"] = course * pixels + rng.normal(size=(4, len(times), len(pixels)))
        file["meg"].attrs.update({"axes": "subject time pair", "times": times, "time_unit": "ms"})
        file["fmri"] = np.outer([1, 0], pixels) + rng.normal(size=(4, 2, len(pixels)))
        file["fmri"].attrs.update({"axes": "subject region pair", "regions": ["IT", "V1"]})


@pytest.fixture
def words(pictures):
    return ["rsa", "model=convnet", "dataset=folder", f"dataset.root={pictures}", *QUICK]


def test_the_pixels_are_found_in_space_and_time_where_they_were_planted(
    cnnprobe, words, pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr(rsa, "SUBJECTS", 1)
    paths, mask = planted(tmp_path, squareform(seen(pictures)))
    searched = [f"searchlight=[{','.join(paths)}]", f"mask={mask}", "radius=4mm", "sphere=closed"]
    moving(tmp_path / "brain.h5", pictures)
    answer = cnnprobe(*words, *searched, "reference=brain.h5", "over=subjects")
    assert answer.status == 0, answer.err
    folder = tmp_path / "outputs/rsa/convnet-folder/v001"
    recording = Recording(folder / "store.h5")
    maps_of_space(recording, folder)
    maps_of_time(recording, folder)


def maps_of_space(recording, folder):
    group = recording["group"]
    front = np.zeros(SHAPE, bool)
    front[3:-1, 6:, 1:-1] = True
    assert (group["p"][1][front] < 0.05).all() and group["map"][1][front].min() > np.nanmax(group["map"][1][:, 1])
    assert "peak in group" in json.loads((folder / "run.json").read_text())["headline"]
    names = {path.name for path in (folder / "maps").iterdir()}
    own = {f"sub-{subject:02d}_{layer}.nii.gz" for subject in range(1, 6) for layer in ("conv1", "pixels")}
    assert names == own | {f"group_{layer}{end}.nii.gz" for layer in ("conv1", "pixels") for end in ("", "_p")}
    image = nibabel.load(folder / "maps" / "sub-02_pixels.nii.gz")
    np.testing.assert_array_equal(image.affine, AFFINE)
    np.testing.assert_array_equal(image.get_fdata(), recording["searchlight/sub-02"]["map"][1])
    assert np.isnan(image.get_fdata()[0]).all() and np.isfinite(image.get_fdata()[3:]).all()
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert {"slices-group", "closest-layer-group", "slices-sub-01"} <= figures and "slices-sub-02" not in figures


def maps_of_time(recording, folder):
    table = {recording[f"courses/{place}"].attributes["reference"]: place for place in (0, 1)}
    meg, fmri = (recording[f"courses/{table[name]}"] for name in ("meg", "fmri"))
    assert abs(meg["latency"][1, 0] - 100) <= 25
    assert (meg["latency_low"] <= meg["latency"]).all() and (meg["latency"] <= meg["latency_high"]).all()
    assert fmri["similarity"][1, 0, 0] > 0.5 > 0.2 > abs(fmri["similarity"][1, 0, 1])
    figures = {path.stem for path in (folder / "figures").iterdir()}
    timed, still = (table[name] + 1 for name in ("meg", "fmri"))
    assert {f"time-{timed}", f"latency-{timed}", f"regions-{still}"} <= figures
    names = recording["references"]["name"].tolist()
    np.testing.assert_allclose(
        recording["layers"]["similarity"][:, names.index("fmri: V1")], fmri["similarity"][:, 0, 1]
    )


def test_volumes_that_do_not_fit_are_refused(cnnprobe, words, tmp_path):
    paths, mask = planted(tmp_path, np.ones((23, 23)) - np.eye(23), subjects=1)
    for more, said in (
        ([f"searchlight={paths[0]}"], "has shape 7 x 8 x 6 x 23; needed are 24 conditions"),
        ([f"mask={mask}"], "mask= is of the volumes of searchlight="),
        (["searchlight=none.nii"], "no file none.nii"),
    ):
        refused = cnnprobe(*words, *more)
        assert refused.status == 2 and said in refused.err.splitlines()[-1]
    assert not (tmp_path / "outputs").exists()


def test_one_subject_from_python():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    given = {"layer": ["conv1"], "controls": None, "bootstrap": 0, "permutations": 0, "radius": 2}
    volume = np.random.default_rng(0).normal(size=(*SHAPE, 9))
    rows = package.measure("rsa", model=model, dataset=np.random.default_rng(1).random((9, 3, 8, 8), np.float32),
                           searchlight=volume, **given)  # fmt: skip
    found = {row.table: row for row in rows}
    assert found["searchlight/subject-01"].map.shape == SHAPE
    assert abs(np.nanmean(found["searchlight/subject-01"].map)) < 0.1
