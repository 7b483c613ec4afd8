"""Real photographs and real weights, from the command line to the store."""

import pytest

from cnnprobe.store.reader import Recording
from tests.support.images.real_data import data_folder, needs_real_data, unpack

SQUEEZENET = ["model=squeezenet", "model.version=1.0"]


def photographs(tmp_path, most):
    unpack("imagenet-samples.tar", tmp_path, most=most)
    return [
        "dataset=folder",
        f"dataset.root={tmp_path}/imagenet-samples",
        f"dataset.classes={data_folder()}/imagenet-classes.csv",
    ]


@needs_real_data
def test_squeezenet_names_most_of_the_first_photographs_and_its_units_find_them(cnnprobe, tmp_path):
    words = [*SQUEEZENET, f"weights={data_folder()}/squeezenet1_0-imagenet.safetensors", *photographs(tmp_path, 24)]
    assert cnnprobe("record", *words, "batch_size=12").status == 0
    images = Recording(tmp_path / "outputs/record/squeezenet-folder/v001/store.h5")["images"]
    assert (images["rank"] == 0).mean() > 0.5
    assert (images["prediction"] == images["label"]).mean() == (images["rank"] == 0).mean()
    assert cnnprobe("topk", *words, "layer=[conv1,conv4]", "k=3", "batch_size=12", "units=[0,1,2,3]").status == 0
    table = Recording(tmp_path / "outputs/topk/squeezenet-folder/v001/store.h5")["units/conv4"]
    assert table.attributes["field_size"] == [19, 19]
    assert (table["image"] >= 0).all()


@pytest.mark.slow
@needs_real_data
def test_squeezenet_reaches_its_published_accuracy(cnnprobe, tmp_path):
    """0.62 on a thousand such images; 600 have an interval of four points."""
    words = [*SQUEEZENET, f"weights={data_folder()}/squeezenet1_0-imagenet.safetensors", *photographs(tmp_path, 600)]
    assert cnnprobe("record", *words).status == 0
    images = Recording(tmp_path / "outputs/record/squeezenet-folder/v001/store.h5")["images"]
    assert 0.55 <= (images["prediction"] == images["label"]).mean() <= 0.68
