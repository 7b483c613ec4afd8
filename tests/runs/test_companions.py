from types import SimpleNamespace

import numpy as np
import pytest

from cnnprobe.datasets import shapes
from cnnprobe.errors import UserError
from cnnprobe.runs.companions import companions


@pytest.fixture(scope="module")
def made():
    return SimpleNamespace(dataset=shapes.build(size=16, count=12, split=None, seed=0, contrast=1.0, noise=0.0))


def config(**method):
    return {"out": "outputs", "method": method}


def test_what_is_not_asked_for_is_not_opened(made):
    assert companions({"model", "dataset"}, config(brain=None, old_task="train/no/v001"), made, "cpu") == {}


def test_references_are_opened_for_these_images(made):
    found = companions(
        set(), config(reference=["labels"], conditions="image", reference_axes=None, order=None), made, "cpu"
    )
    labels = made.dataset.labels
    differ = labels[:, None] != labels
    (reference,) = found["reference"]
    assert np.array_equal(reference.matrices[0, 0, 0], differ[np.triu_indices(12, 1)])


def test_a_brain_must_fit_the_conditions(made, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    path = tmp_path / "brain.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 3, 3, 5), np.float32), np.eye(4)), path)
    asked = config(searchlight=[str(path)], conditions="image", mask=None, order=None)
    with pytest.raises(UserError, match="12"):
        companions(set(), asked, made, "cpu")
