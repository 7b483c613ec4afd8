"""References from files of every kind, from runs and from labels; what does not fit is told in one line."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from scipy.spatial.distance import pdist, squareform

from cnnprobe.datasets.base.labels.labelling import by_file
from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.references.named import load
from cnnprobe.store.tables import Column, Table
from cnnprobe.store.writer import Writer

RANDOM = np.random.default_rng(0)
NAMES = [f"animal_{number}.png" for number in range(6)]
LABELS = np.array([0, 0, 0, 1, 1, 1])
MATRIX = squareform(RANDOM.random(15))
SUBJECTS = np.stack([squareform(RANDOM.random(15)) for _ in range(3)])


def triangles(matrices):
    return matrices[(..., *np.triu_indices(6, 1))]


def loaded(words, **options):
    return load(words, conditions=NAMES, **({"labels": LABELS} | options))


def test_every_matrix_of_a_file_that_fits_is_taken(tmp_path):
    with h5py.File(tmp_path / "brain.h5", "w") as file:
        file["IT"] = SUBJECTS
        file["other/V1"] = triangles(MATRIX)
        file["small"] = np.zeros((4, 4))
        file["times"] = np.arange(15)[:9]
        file["note"] = "text"
    found = {one.name: one for one in loaded(str(tmp_path / "brain.h5"))}
    assert list(found) == ["IT", "other/V1"]
    assert np.allclose(found["IT"].matrices[:, 0, 0], triangles(SUBJECTS))
    assert np.allclose(found["other/V1"].matrices[0, 0, 0], triangles(MATRIX))
    (one,) = loaded(f"{tmp_path}/brain.h5:other/V1")
    assert one.name == "other/V1"


@pytest.mark.parametrize("words", ["time subject condition condition", "time, subject, stimulus, stimulus"])
def test_a_dataset_says_what_its_axes_are(tmp_path, words):
    given = np.stack([SUBJECTS, SUBJECTS + 1])
    with h5py.File(tmp_path / "meg.h5", "w") as file:
        file["rdm"] = given
        file["rdm"].attrs["axes"] = words
        file["times"] = [-100.0, 100.0]
        file["times"].attrs["unit"] = "ms"
    (found,) = loaded(str(tmp_path / "meg.h5"))
    assert found.matrices.shape == (3, 2, 1, 15) and found.times.tolist() == [-100, 100] and found.time_unit == "ms"
    assert np.allclose(found.matrices[1, 0, 0], triangles(SUBJECTS[1]))
    (other,) = loaded(str(tmp_path / "meg.h5"), axes=["session", "subject"])  # what is asked for counts more
    assert other.matrices.shape == (3, 1, 1, 15)


def test_samples_per_second_alone_do_not_say_which_axis_is_time(tmp_path):
    """F91: matrices of several times are no subjects."""
    with h5py.File(tmp_path / "meg.h5", "w") as file:
        file["rdm"] = SUBJECTS
        file["sfreq"], file["one"] = 100.0, MATRIX
    with pytest.raises(UserError, match=r"rdm .* comes with samples per second.* which axis is time"):
        loaded(f"{tmp_path}/meg.h5")
    (found,) = loaded(f"{tmp_path}/meg.h5:rdm", axes=["time"])
    assert found.times.tolist() == [0, 0.01, 0.02] and found.matrices.shape == (1, 3, 1, 15)
    (one,) = loaded(f"{tmp_path}/meg.h5:one")
    assert one.axes == ()


def test_regions_have_the_names_beside_them(tmp_path):
    with h5py.File(tmp_path / "brain.h5", "w") as file:
        file["rdm"] = SUBJECTS
        file["rdm"].attrs["axes"] = ["region", "stimulus", "stimulus"]
        file["regions"] = np.array(["V1", "V4", "IT"], dtype=h5py.string_dtype())
    (found,) = loaded(str(tmp_path / "brain.h5"))
    assert found.regions == ("V1", "V4", "IT") and found.matrices.shape == (1, 1, 3, 15)
    assert [name for name, _ in found.parts()] == ["rdm: V1", "rdm: V4", "rdm: IT"]


def test_matlab_files_keep_subjects_behind_the_conditions(tmp_path):
    savemat(tmp_path / "v5.mat", {"IT": SUBJECTS.transpose(1, 2, 0), "pairs": triangles(MATRIX), "text": "no"})
    with h5py.File(tmp_path / "v73.mat", "w") as file:  # MATLAB writes its axes the other way round
        file["IT"] = SUBJECTS
    found = {one.name: one for one in loaded(str(tmp_path / "v5.mat"))}
    assert np.allclose(found["IT"].matrices[:, 0, 0], triangles(SUBJECTS))
    assert np.allclose(found["pairs"].matrices[0, 0, 0], triangles(MATRIX))
    (newer,) = loaded(str(tmp_path / "v73.mat"))
    assert np.allclose(newer.matrices[:, 0, 0], triangles(SUBJECTS))


def test_numpy_files(tmp_path):
    np.save(tmp_path / "model.npy", MATRIX)
    np.savez(tmp_path / "models.npz", a=MATRIX, b=SUBJECTS, c=np.zeros(3))
    (found,) = loaded(str(tmp_path / "model.npy"))
    assert found.name == "model" and np.allclose(found.matrices[0, 0, 0], triangles(MATRIX))
    assert [one.name for one in loaded(str(tmp_path / "models.npz"))] == ["models: a", "models: b"]


def test_a_pickled_array_is_not_opened(tmp_path):
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(
        UserError, match=r"evil.npy has no matrix .* it has an array \(holds pickled objects, which could run code\)"
    ):
        loaded(str(tmp_path / "evil.npy"))


def test_a_table_of_features_is_the_distances_between_its_rows(tmp_path):
    order = RANDOM.permutation(6)
    lines = [f"{row},pictures/animal_{row}.jpg,{row * 2},{row % 2},word" for row in order]
    (tmp_path / "features.csv").write_text("index,file,size,odd,remark\n" + "\n".join(lines) + "\n")
    features = np.array([[row * 2, row % 2] for row in range(6)], float)
    (whole,) = loaded(str(tmp_path / "features.csv"))
    assert whole.name == "features" and np.allclose(whole.matrices[0, 0, 0], pdist(features))
    (one,) = loaded(f"{tmp_path}/features.csv:odd")
    assert one.name == "odd" and np.allclose(one.matrices[0, 0, 0], pdist(features[:, 1:], "cityblock"))
    with pytest.raises(UserError, match=r"no column 'old' in .*; did you mean 'odd'\? columns: size, odd"):
        loaded(f"{tmp_path}/features.csv:old")


def test_a_table_must_name_every_condition(tmp_path):
    (tmp_path / "some.csv").write_text("file,size\n" + "\n".join(f"animal_{row},{row}" for row in range(5)))
    with pytest.raises(UserError, match=r"no column with the names of all conditions; missing: animal_5.png$"):
        loaded(str(tmp_path / "some.csv"))
    (tmp_path / "words.csv").write_text("file,what\n" + "\n".join(f"animal_{row},cat" for row in range(6)))
    with pytest.raises(UserError, match="has no numbers behind the column 'file'"):
        loaded(str(tmp_path / "words.csv"))


def test_labels_and_pixels_have_names_of_their_own():
    labels, pixels = loaded(["labels", "pixels"])
    assert labels.matrices.sum() == 9 and pixels.matrices is None
    for unlabelled in (np.full(6, -1), np.zeros(6, int), None):
        with pytest.raises(UserError, match="reference=labels compares with the classes of the images; "):
            loaded("labels", labels=unlabelled)


def test_the_same_name_from_two_files_is_numbered(tmp_path):
    for name in ("a.h5", "b.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["IT"] = MATRIX
    words = [str(tmp_path / name) for name in ("a.h5", "b.h5", "a.h5")]
    assert [one.name for one in loaded(words)] == ["IT", "IT #2"]


def test_another_number_of_conditions_is_told_with_what_there_is(tmp_path):
    with h5py.File(tmp_path / "brain.h5", "w") as file:
        file["IT"] = np.zeros((4, 2, 92, 92))
        file["V1"] = np.zeros(4186)
    with pytest.raises(UserError) as told:
        loaded(str(tmp_path / "brain.h5"))
    assert str(told.value).endswith(
        "brain.h5 has no matrix of 6 conditions, as the dataset gives; "
        "it has IT with 92 conditions (4, 2, 92, 92), V1 with 92 conditions (4186,)"
    )
    with pytest.raises(UserError, match=r"IT has 92 conditions \(4, 2, 92, 92\), the dataset gives 6 conditions"):
        loaded(f"{tmp_path}/brain.h5:IT")
    with pytest.raises(UserError, match=r"no dataset 'V2' in .*; did you mean 'V1'. datasets: IT, V1"):
        loaded(f"{tmp_path}/brain.h5:V2")


@pytest.mark.parametrize("name", ["broken.h5", "broken.npy", "broken.mat", "broken.npz", "broken.csv"])
def test_a_damaged_file_is_told_in_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + b"\xff\x00,\n" * 50)
    with pytest.raises(UserError) as told:
        loaded(str(tmp_path / name))
    assert name in str(told.value) and "\n" not in str(told.value)


def test_what_is_no_file_is_told(tmp_path):
    (tmp_path / "brain.doc").write_text("no")
    with pytest.raises(UserError, match=r"there is no file .*nowhere.h5"):
        loaded(str(tmp_path / "nowhere.h5"))
    with pytest.raises(UserError, match=r"brain.doc is no reference; a reference is a run or a file of .h5"):
        loaded(str(tmp_path / "brain.doc"))
    with pytest.raises(UserError, match="no run 'v001'"):
        loaded("v001", out=str(tmp_path))


@pytest.mark.parametrize("text", ["", "\n\n", ","])
def test_a_table_without_rows_is_told(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=r"t\.csv is no table: it is empty"):
        loaded(str(tmp_path / "t.csv"))


@pytest.mark.parametrize("largest", [1e308, np.inf])
def test_values_whose_squares_no_number_holds_are_told(tmp_path, largest):
    np.save(tmp_path / "huge.npy", np.where(MATRIX > 0, largest, 0))
    with pytest.raises(UserError, match=r"a dissimilarity is at most 1e\+100"):
        loaded(str(tmp_path / "huge.npy"))


def test_links_out_of_the_file_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["IT"] = MATRIX
    with h5py.File(tmp_path / "brain.h5", "w") as file:
        file["IT"] = h5py.ExternalLink("secret.h5", "/IT")
        file["own"] = MATRIX + squareform(np.ones(15))
    assert [one.name for one in loaded(str(tmp_path / "brain.h5"))] == ["own"]
    with pytest.raises(UserError, match=r"brain.h5: IT is a link to elsewhere"):
        loaded(f"{tmp_path}/brain.h5:IT")


@pytest.mark.parametrize("word", ["stimuli", "image_path", "img", "filepath", "stimulus_file"])
def test_images_are_called_alike_in_every_kind_of_file(tmp_path, word):
    """F89: names of other images, and the column that names the images in another order than one beside it."""
    values = np.random.default_rng(3).uniform(0.1, 1, 15)
    np.savez(tmp_path / "a.npz", rdm=values, **{word: [f"other {name}" for name in "abcdef"]})
    with pytest.raises(UserError, match="names its rows other a, other b"):
        load(f"{tmp_path}/a.npz", conditions=NAMES)
    lines = [f"x,{word},next,class", *(f"1,{NAMES[n]},{NAMES[n - 1]},{'ab'[n % 2]}" for n in range(6))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert by_file(NAMES, f"{tmp_path}/a.csv", None)[1].tolist() == [0, 1] * 3


def test_pairs_without_a_value_are_counted_in_every_file(tmp_path, caplog):
    """F99: of a subject without any nothing is said here."""
    values = np.random.default_rng(0).random((3, 15))
    values[0, 2:4], values[2] = np.nan, np.nan
    np.save(tmp_path / "a.npy", values)
    load(str(tmp_path / "a.npy"), conditions=[f"{name}.png" for name in "abcdef"])
    assert "a.npy: 2 of 30 pairs have no value and are left out" in caplog.text


def run_of(path, names, matrix):
    """Write the store of a run of rsa: its conditions, and the matrix of one layer."""
    texts = {name: np.array(words, dtype=object) for name, words in
             {"names": names, "name": ["conv1"], "kind": ["layer"]}.items()}  # fmt: skip
    conditions = {"name": Column("condition", dtype="str", values=texts["names"])}
    layers = {key: Column(key, dtype="str", values=texts[key]) for key in ("name", "kind")}
    layers["rdm"] = Column("matrix", "one other", matrix.shape, values=matrix[None])
    writer = Writer.create(path, [Table("conditions", "condition", len(names), conditions),
                                  Table("layers", "layer", 1, layers)], {"command": "rsa"})  # fmt: skip
    writer.finish()
    writer.close()


def test_conditions_of_a_run_that_share_a_name_are_matched_by_place_or_refused(tmp_path):
    """F89: two classes called crane were both the last of them: a run was not like itself."""
    names, path = ["crane", "dog", "crane", "owl", "cat", "ant"], str(tmp_path / "copy.h5")
    run_of(tmp_path / "copy.h5", names, MATRIX)
    (one,) = load(path, conditions=names)
    assert np.array_equal(one.matrices.ravel(), triangles(MATRIX)) and one.rows.startswith("in the order of both")
    with pytest.raises(UserError, match=r"2 conditions of .*copy.h5 are called 'crane': 0, 2; use the dataset of that"):
        load(path, conditions=[*names[1:], "crane"])
    (some,) = load(path, conditions=["owl", "dog", "ant"])  # which names are those of one
    assert some.rows == "by name" and np.array_equal(some.matrices.ravel(), MATRIX[[3, 3, 1], [1, 5, 5]])
    run_of(tmp_path / "own.h5", list("abcdef"), MATRIX)
    with pytest.raises(UserError, match="2 conditions of the dataset are called 'a': 0, 1; "):
        load(str(tmp_path / "own.h5"), conditions=list("aabcde"))


def test_references_have_names_of_their_own_whatever_files_call_them(tmp_path):
    """F89: the second rdm became the name that another array of the file has."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        with h5py.File(tmp_path / folder / "brain.h5", "w") as file:
            file["rdm"] = MATRIX
            file["rdm #2"] = MATRIX
    found = loaded([f"{tmp_path}/{folder}/brain.h5" for folder in ("a", "b")])
    assert [one.name for one in found] == ["rdm", "rdm #2", "rdm #3", "rdm #2 #2"]
