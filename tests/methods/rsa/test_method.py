"""rsa end to end: the command line, files and runs as references, resume, figures, real brains."""

import json
import shutil
import signal

import h5py
import numpy as np
import pytest
import torch
from scipy import stats
from scipy.io import savemat
from scipy.spatial.distance import pdist, squareform
from torch import nn

import cnnprobe as package
from cnnprobe.datasets.base.given import Given
from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import About
from cnnprobe.instruments.statistics.dissimilarity import upper
from cnnprobe.methods.rsa import method as rsa
from cnnprobe.methods.rsa.figures import time_maps
from cnnprobe.methods.rsa.references import named as references
from cnnprobe.plots.style import figure
from cnnprobe.store.reader import Recording
from tests.runs.test_execute import child, contents, wait_for
from tests.support.images.real_data import data_folder, needs_real_data, unpack
from tests.support.networks.gap import pictures

QUICK = ["batch_size=8", "bootstrap=10", "permutations=19"]


def rows(measurement):
    """Return the rows of the layers by name and kind."""
    return {(row.name, row.kind): row for row in measurement if row.table == "layers"}


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.Conv2d(8, 6, 5), nn.Flatten(), nn.Linear(384, 5)).eval()


def test_from_python_with_an_array():
    images = pictures(10, 16)
    brain = squareform(pdist(images.flatten(1).numpy(), "correlation"))
    given = {"layer": ["conv1"], "reference": brain, "bootstrap": 5, "permutations": 9}
    found = rows(package.measure("rsa", model=network(), dataset=images.numpy(), **given))
    assert set(found) == {("conv1", "layer"), ("conv1", "random"), ("pixels", "pixels")}
    assert np.isclose(found["pixels", "pixels"].similarity[0], 1)
    own = stats.spearmanr(upper(found["conv1", "layer"].rdm), upper(brain)).statistic
    assert np.isclose(found["conv1", "layer"].similarity[0], own, atol=1e-4)


def _tau_a(one, other):
    return (np.sign(one[:, None] - one) * np.sign(other[:, None] - other)).sum() / (len(one) * (len(one) - 1))


def _rho_a(one, other):
    ranks = [stats.rankdata(side) - (len(side) + 1) / 2 for side in (one, other)]
    return 12 * (ranks[0] * ranks[1]).sum() / (len(one) ** 3 - len(one))


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [("spearman", lambda *sides: stats.spearmanr(*sides).statistic), ("kendall", _tau_a), ("rho-a", _rho_a),
     ("pearson", lambda *sides: stats.pearsonr(*sides).statistic)],
)  # fmt: skip
def test_similarities_are_those_of_the_stored_matrices_where_a_picture_is_there_twice(
    comparison, expected, cnnprobe, tmp_path
):
    """Its distances to the others are pairs of equals, which the rounding of sums tells apart."""
    random = np.random.default_rng(4)
    images = random.integers(0, 256, (9, 3, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "images.npy", np.concatenate([images, images[:4], images[:2]]))
    people = [random.permutation(105) + 0.1 for _ in range(3)]
    np.save(tmp_path / "brain.npy", np.stack([squareform(one) for one in people]))
    chosen = ["model=convnet", "dataset=arrays", "dataset.root=images.npy", "layer=[conv1,conv3,logits]", *QUICK]
    answer = cnnprobe("rsa", *chosen, "reference=[brain.npy,pixels]", f"comparison={comparison}")
    assert answer.status == 0, answer.err
    with h5py.File(next((tmp_path / "outputs/rsa").glob("*/v001/store.h5"))) as store:
        similarity = store["layers/similarity"][()]
        layers, pixels = upper(store["layers/rdm"][()]), upper(store["references/rdm"][1])
    assert all(len(np.unique(row)) < 65 for row in layers)  # there are ties
    assert np.allclose(similarity[:, 1], [expected(row, pixels) for row in layers], rtol=0, atol=1e-7)
    means = [np.mean([expected(row, one) for one in people]) for row in layers]
    assert np.allclose(similarity[:, 0], means, rtol=0, atol=1e-7)


def test_layers_are_convolutions_dense_layers_and_the_output_where_none_are_named():
    found = rows(package.measure("rsa", model=network(), dataset=Given(pictures(5, 16)), controls=None))
    assert [name for name, _ in found] == ["conv1", "conv2", "logits"]  # the last dense layer is the output

    class Areas(nn.Module):
        def __init__(self):
            super().__init__()
            self.v1, self.v2, self.v4 = (nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU()) for _ in range(3))
            self.cnnprobe = About(aliases={"conv1": "v1.0", "V4": "v4", "V1": "v1"})

        def forward(self, images):
            return self.v4(self.v2(self.v1(images))).mean((2, 3))

    found = rows(package.measure("rsa", model=Areas().eval(), dataset=Given(pictures(5, 16)), controls=None))
    assert [name for name, _ in found] == ["V1", "V4", "logits"]


def test_results_do_not_depend_on_the_batch():
    given = {"reference": squareform(np.random.default_rng(0).random(45)), "bootstrap": 5, "permutations": 9}
    one, other = (
        rows(package.measure("rsa", model=network(), dataset=Given(pictures(10, 16)), batch_size=size, **given))
        for size in (3, 10)
    )
    for key, row in one.items():
        for name in ("rdm", "similarity", "similarity_low", "p"):
            assert np.allclose(getattr(row, name), getattr(other[key], name), atol=1e-5), (key, name)


def brain(path, conditions=24, subjects=3):
    random = np.random.default_rng(0)
    truth = random.random(conditions * (conditions - 1) // 2)
    with h5py.File(path, "w") as file:
        file["IT"] = np.stack([squareform(truth + random.random(len(truth))) for _ in range(subjects)])
        file["V1"] = truth


def test_a_file_of_matrices_and_what_is_printed(cnnprobe, pictures, tmp_path):
    brain(tmp_path / "brain.h5")
    words = ["rsa", "model=convnet", "dataset=folder", f"dataset.root={pictures}", "layer=conv*", *QUICK]
    answer = cnnprobe(*words, "reference=[brain.h5,labels]")
    assert answer.status == 0, answer.err
    assert "closest layer" in answer.out and "one subject" in answer.out
    folder = tmp_path / "outputs/rsa/convnet-folder/v001"
    recording = Recording(folder / "store.h5")
    assert recording["references"]["name"].tolist() == ["IT", "V1", "labels"]
    assert recording["references"]["subjects"].tolist() == [3, 1, 1]
    ceiling = recording["layers"]["noise_lower"]
    assert np.isfinite(ceiling[:, 0]).all() and np.isnan(ceiling[:, 1:]).all()
    labels = recording["references"]["rdm"][2]
    classes = recording["conditions"]["label"]
    assert np.array_equal(labels, classes[:, None] != classes)
    drawn = {path.stem for path in (folder / "figures").iterdir()}
    assert drawn == {"matrices", "similarity", "embedding", "closest-1", "closest-2", "closest-3"}
    headline = json.loads((folder / "run.json").read_text())["headline"]
    assert {"layers", "conditions", "closest to IT"} <= set(headline)
    refused = cnnprobe(*words, "reference=brain.h5", "limit=20")
    assert refused.status == 2
    assert "brain.h5 has no matrix of 20 conditions, as the dataset gives" in refused.err.splitlines()[-1]


def test_rows_and_axes_are_printed_stored_and_drawn(cnnprobe, pictures, tmp_path):
    """F89: a reference says in what order its rows are; where two orders are possible nothing is run."""
    names = sorted(str(path.relative_to(pictures)) for path in pictures.rglob("*.png"))[::-1]
    random = np.random.default_rng(0)
    given = squareform(random.random(len(names) * (len(names) - 1) // 2))
    savemat(tmp_path / "brain.mat", {"IT": given[:, :, None], "stimuli": np.array(names, object)[None]})
    words = ["rsa", "model=convnet", "dataset=folder", f"dataset.root={pictures}", "layer=conv1", *QUICK]
    answer = cnnprobe(*words, "reference=brain.mat")
    assert answer.status == 0, answer.err
    assert "by path (stimuli)" in answer.out and "stimulus stimulus" in answer.out
    recording = Recording(tmp_path / "outputs/rsa/convnet-folder/v001/store.h5")
    assert recording["references"]["rows"].tolist() == ["by path (stimuli)"]
    order = [names.index(name) for name in recording["conditions"]["name"]]
    np.testing.assert_allclose(recording["references"]["rdm"][0], given[np.ix_(order, order)], atol=1e-6)


def test_the_layers_of_another_run_are_matched_by_the_names_of_stimuli(cnnprobe, pictures, tmp_path, monkeypatch):
    """A run on some of the images; more references than there are panels make a map."""
    words = ["rsa", "model=convnet", "dataset=folder", f"dataset.root={pictures}", "layer=[conv1,conv4]", *QUICK]
    assert cnnprobe(*words, "reference=pixels", "controls=null", "metric=euclidean").status == 0
    drawn = []
    monkeypatch.setattr(rsa, "PANELS", 1)
    monkeypatch.setattr(time_maps, "region_map", lambda values, *rest: drawn.append(values) or figure(2, 2))
    answer = cnnprobe(*words, "reference=rsa/convnet-folder/v001", "limit=10", "comparison=pearson", "controls=null",
                      "metric=euclidean")  # fmt: skip
    assert answer.status == 0, answer.err
    recording = Recording(tmp_path / "outputs/rsa/convnet-folder/v002/store.h5")
    names = recording["references"]["name"].tolist()
    assert names == ["rsa/convnet-folder/v001 conv1", "rsa/convnet-folder/v001 conv4"]
    assert np.allclose(np.diag(recording["layers"]["similarity"]), 1)
    assert np.array_equal(drawn[0], recording["layers"]["similarity"])
    about = json.loads((tmp_path / "outputs/rsa/convnet-folder/v002/run.json").read_text())
    assert about["built_from"] == ["rsa/convnet-folder/v001"]
    more = cnnprobe(*words, "reference=rsa/convnet-folder/v002")
    assert more.status == 2 and "rsa/convnet-folder/v002 has not the conditions" in more.err


def test_a_store_of_another_name_is_read_itself(cnnprobe, pictures, tmp_path):
    """F100: a copy that lies beside the store of another run; and a layer of it is that one alone."""
    words = ["rsa", "model=convnet", "dataset=folder", f"dataset.root={pictures}", "layer=[conv1,conv4]", *QUICK]
    words += ["controls=null", "reference=pixels"]
    assert cnnprobe(*words, "name=a").status == cnnprobe(*words, "name=b", "seed=1").status == 0
    copy = tmp_path / "outputs/rsa/b/v001/copy.h5"
    shutil.copy(tmp_path / "outputs/rsa/a/v001/store.h5", copy)
    recording = Recording(copy)
    names = recording["conditions"]["name"].tolist()
    found = references.load(str(copy), conditions=names)
    assert [one.name for one in found] == [f"rsa/b/v001/copy.h5 {layer}" for layer in ("conv1", "conv4")]
    stored = recording["layers"]["rdm"][:2]
    assert np.array_equal([one.matrices.ravel() for one in found], [upper(matrix) for matrix in stored])
    (one,) = references.load(f"{copy}:conv4", conditions=names)
    assert one.name == "rsa/b/v001/copy.h5 conv4"
    with pytest.raises(UserError, match=r"no layer 'conv_4' in rsa/b/v001/copy\.h5; did you mean 'conv4'"):
        references.load(f"{copy}:conv_4", conditions=names)
    (one,) = references.load(str(copy.with_name("store.h5:conv1")), conditions=names)
    assert one.name == "rsa/b/v001 conv1" and not np.array_equal(one.matrices, found[0].matrices)


def test_a_run_that_was_shown_other_images_under_the_same_names_is_told(cnnprobe, pictures, tmp_path):
    """F100."""
    shutil.copytree(pictures, tmp_path / "own")
    words = ["rsa", "model=convnet", "dataset=folder", f"dataset.root={tmp_path}/own", "layer=conv1", "controls=null"]
    assert cnnprobe(*words, *QUICK, "reference=pixels").status == 0
    words += [*QUICK, "reference=[rsa/convnet-folder/v001,labels]"]
    answer = cnnprobe(*words)
    assert answer.status == 0 and "other images" not in answer.err
    shutil.copy(tmp_path / "own/disc/01.png", tmp_path / "own/disc/00.png")
    answer = cnnprobe(*words)
    assert answer.status == 0
    assert "rsa/convnet-folder/v001 was shown other images under the same names (disc/00.png)" in answer.err


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_store(cnnprobe, tmp_path):
    words = ["rsa", "model=convnet", "dataset=shapes", "dataset.count=20", "batch_size=4", "device.threads=1"]
    words += ["layer=conv1", "controls=null", "bootstrap=400", "permutations=19"]
    process = child(tmp_path, *words)
    folder = tmp_path / "outputs/rsa/convnet-shapes"
    wait_for(lambda: (folder / "v001/store.h5").exists())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not Recording(folder / "v001/store.h5").complete
    assert cnnprobe("rsa", "--resume", str(folder / "v001")).status == 0
    assert cnnprobe(*words).status == 0
    assert contents(folder / "v001") == contents(folder / "v002")


def test_fewer_than_three_stimuli_are_refused(cnnprobe, pictures):
    """F53."""
    answer = cnnprobe("rsa", "model=convnet", "dataset=folder", f"dataset.root={pictures}", "limit=2")
    assert answer.status == 2 and "rsa needs 3 or more stimuli, folder gives 2" in answer.err


@needs_real_data
def test_monkey_and_human_inferior_temporal_cortex_agree_as_published(cnnprobe, tmp_path):
    """Kriegeskorte et al. 2008, figure 1: 0.49."""
    unpack("kriegeskorte92.tar", tmp_path)
    root = tmp_path / "kriegeskorte92"
    words = ["rsa", "model=convnet", "weights=random", "dataset=folder", f"dataset.root={root}/images", "layer=conv1"]
    answer = cnnprobe(*words, f"reference={root}/rdms.h5", "comparison=pearson", "bootstrap=2", "permutations=2")
    assert answer.status == 0, answer.err
    table = Recording(next((tmp_path / "outputs").rglob("store.h5")))["references"]
    names = table["name"].tolist()
    pair = names.index("figure1/hITvisStim_316vx"), names.index("figure1/mIT_674neurons")
    assert round(table["similarity"][pair], 2) == 0.49
    people = names.index("human_IT")
    with h5py.File(root / "rdms.h5") as file:
        subjects = upper(file["human_IT"][:].mean(1))
    others = [np.delete(subjects, one, 0) for one in range(4)]
    standard = [[(row - row.mean()) / row.std() for row in rest] for rest in others]
    lower = np.mean([np.corrcoef(subjects[one], np.mean(standard[one], 0))[0, 1] for one in range(4)])
    assert table["subjects"][people] == 4 and np.isclose(table["noise_lower"][people], lower, atol=1e-6)


@pytest.mark.slow
@needs_real_data
def test_trained_squeezenet_is_closer_to_the_brain_than_with_random_weights(cnnprobe, tmp_path):
    unpack("kriegeskorte92.tar", tmp_path)
    root = tmp_path / "kriegeskorte92"
    weights = data_folder() / "squeezenet1_0-imagenet.safetensors"
    words = ["rsa", "experiment=kriegeskorte92", f"dataset.root={root}/images", f"weights={weights}"]
    answer = cnnprobe(*words, f"reference={root}/rdms.h5", "bootstrap=200", "permutations=200")
    assert answer.status == 0, answer.err
    recording = Recording(next((tmp_path / "outputs").rglob("store.h5")))
    layers, kinds = recording["layers"], recording["layers"]["kind"]
    place = recording["references"]["name"].tolist().index("human_IT")
    trained, random = (np.nanmax(layers["similarity"][kinds == kind, place]) for kind in ("layer", "random"))
    assert trained > random + 0.05 and trained < recording["references"]["noise_upper"][place]
    apart = recording["differences"]
    best = layers["similarity"][kinds == "layer", place].argmax()
    row = np.flatnonzero((apart["kind"] == "random") & (apart["first"] == best))[0]
    assert apart["low"][row, place] > 0


def test_an_interval_that_is_not_known_is_not_printed():
    """F99: of one subject, or fewer than 5 conditions."""
    assert rsa._interval(np.nan, np.nan) == "" and rsa._interval(0.1, 0.25) == " (0.100 to 0.250)"


def test_a_subject_without_values_is_told_and_the_ceiling_is_that_of_the_others(cnnprobe, pictures, tmp_path):
    """F99: a region that one subject lacks is that of the others; the ceiling is not that of one subject."""
    conditions = len(list(pictures.rglob("*.png")))
    random = np.random.default_rng(0)
    given = np.array([[squareform(random.random(conditions * (conditions - 1) // 2)) for _ in "ab"] for _ in range(4)])
    given[1, 1], given[3] = np.nan, np.nan
    with h5py.File(tmp_path / "rois.h5", "w") as file:
        file["rdms"], file["regions"] = given, ["V1", "FFA"]
    words = ["rsa", "model=convnet", "dataset=folder", f"dataset.root={pictures}", "layer=conv1", "controls=null"]
    answer = cnnprobe(*words, *QUICK, "reference=rois.h5", "reference_axes=[subject,region]", "order=natural")
    assert answer.status == 0, answer.err
    assert "(subject 4, region FFA of subject 2)" in answer.err and "one subject" not in answer.out
    recording = Recording(tmp_path / "outputs/rsa/convnet-folder/v001/store.h5")
    assert recording["references"]["subjects"].tolist() == [3, 2]
    assert recording["references"]["left_out"].tolist() == [1, 2]
    own = upper(recording["layers"]["rdm"][0])
    for place, there in enumerate(([0, 1, 2], [0, 2])):
        each = [stats.spearmanr(own, upper(given[subject, place])).statistic for subject in there]
        assert np.isclose(recording["layers"]["similarity"][0, place], np.mean(each), atol=1e-6)
        assert np.isclose(recording["courses/0"]["similarity"][0, 0, place], np.mean(each), atol=1e-6)
