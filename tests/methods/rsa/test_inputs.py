"""What the options of rsa name is opened for these images."""

from types import SimpleNamespace

import numpy as np
import pytest

from cnnprobe.datasets import shapes
from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.inputs import inputs


@pytest.fixture(scope="module")
def made():
    return SimpleNamespace(dataset=shapes.build(size=16, count=12, split=None, seed=0, contrast=1.0, noise=0.0))


def config(**method):
    own = {"reference": None, "searchlight": None, "conditions": "image", "mask": None}
    return {"out": "outputs", "method": own | {"reference_axes": None, "order": None} | method}


def test_what_is_not_asked_for_is_not_opened(made):
    assert inputs(config(), made, "cpu") == {}


def test_references_are_opened_for_these_images(made):
    (reference,) = inputs(config(reference=["labels"]), made, "cpu")["reference"]
    labels = made.dataset.labels
    differ = labels[:, None] != labels
    assert np.array_equal(reference.matrices[0, 0, 0], differ[np.triu_indices(12, 1)])


def test_a_brain_must_fit_the_conditions(made, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    path = tmp_path / "brain.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 3, 3, 5), np.float32), np.eye(4)), path)
    with pytest.raises(UserError, match="12"):
        inputs(config(searchlight=[str(path)]), made, "cpu")
