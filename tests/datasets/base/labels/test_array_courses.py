import h5py
import numpy as np
import pytest
from scipy.io import savemat

from cnnprobe.datasets.base.imageset import limited
from cnnprobe.errors import UserError
from cnnprobe.preparation.identity import labels_of
from tests.datasets.test_arrays import arrays

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((10, 3, 8, 8)).astype(np.float32)
COURSES = RANDOM.standard_normal((10, 2, 30))


def written(path, courses, **more):
    with h5py.File(path, "w") as file:
        for name, values in {"images": IMAGES, "velocity": courses, **more}.items():
            file[name] = values
    return path


def test_courses_beside_images_are_what_a_network_is_to_answer(tmp_path):
    path = written(tmp_path / "a.h5", COURSES, channels=["thumb", "index"], fs=100.0)
    dataset = arrays(path, courses="velocity")
    assert (dataset.target.kind, dataset.target.names, dataset.target.size) == ("course", ("thumb", "index"), (2, 30))
    assert dataset.size == (3, 8, 8) and dataset.channel_names is None
    found, known = dataset.targets([7, 0])
    assert known.all() and np.array_equal(found.numpy(), COURSES[[7, 0]].astype(np.float32))
    test = arrays(path, courses="velocity", split="test")
    assert np.array_equal(limited(test, "first:2").part([1]).targets([0])[0][0], COURSES[9].astype(np.float32))


def test_in_a_file_of_matlab_recordings_are_last(tmp_path):
    """F91."""
    images = np.moveaxis(IMAGES, (0, 1), (3, 2))
    savemat(tmp_path / "a.mat", {"images": images, "velocity": np.moveaxis(COURSES, 0, 2)})
    dataset = arrays(tmp_path / "a.mat", courses="velocity")
    assert np.array_equal(dataset.targets([4])[0][0], COURSES[4].astype(np.float32))
    assert dataset.target.names == ("0", "1")


def test_a_course_that_is_not_finite_is_not_learned(tmp_path):
    """F90: NaN would make the loss NaN, and every weight."""
    broken = COURSES.copy()
    broken[3, 1, 4:6], broken[5, 0, 0] = np.nan, 1e300
    dataset = arrays(written(tmp_path / "a.h5", broken), courses="velocity")
    found, known = dataset.targets(range(10))
    assert np.flatnonzero(~known).tolist() == [3, 5] and found.isfinite().all()
    assert list(dataset.problems.values()) == [
        "2 values of its course are not finite",
        "1 values of its course are not finite",
    ]


@pytest.mark.parametrize("shape", [(9, 2, 30), (10, 60), (10, 2, 30, 1)])
def test_courses_of_other_sizes_are_refused_in_one_line(tmp_path, shape):
    """F91."""
    path = written(tmp_path / "a.h5", np.zeros(shape))
    with pytest.raises(UserError, match=r"of float64, not numbers \(recording, channel, time\) of the 10 recordings$"):
        arrays(path, courses="velocity", data="images")


def test_a_name_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match="no dataset 'speed'"):
        arrays(written(tmp_path / "a.h5", COURSES), courses="speed", data="images")


def test_other_courses_are_another_set(tmp_path):
    """F100."""
    path = written(tmp_path / "a.h5", COURSES, speed=COURSES)
    before = labels_of(arrays(path, courses="velocity", data="images"))
    assert labels_of(arrays(path, courses="velocity", data="images")) == before
    assert labels_of(arrays(path, courses="speed", data="images")) != before
    dataset = arrays(path, courses="velocity", data="images")
    labels_of(dataset)
    written(path, COURSES[::-1], speed=COURSES)
    assert labels_of(arrays(path, courses="velocity", data="images")) != before
    with pytest.raises(UserError, match="changed while it was being used"):
        dataset.targets([0])
