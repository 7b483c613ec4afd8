"""What was typed beside a run whose options are followed."""

import pytest

from cnnprobe.config import typed
from cnnprobe.errors import UserError

CONFIG = {"model": {"name": "convnet", "input_size": 48, "mean": None}, "dataset": {"name": "avatar"}, "seed": 3}


def test_only_what_was_typed_is_asked_for():
    """F100."""
    words = ["model=convnet", "++model.input_size=48", "seed=3", "seed=3", "k=2", "experiment=demo", "+hydra.x=1"]
    assert typed.values(words, CONFIG) == {"model": "convnet", "model.input_size": 48, "seed": 3}
    assert typed.values([], CONFIG) == {}


@pytest.mark.parametrize(
    ("asked", "own", "told"),
    [
        ({"seed": 3}, {"seed": 0}, "v001 has seed=0, asked for seed=3"),
        ({"seed": 3}, {"model": {"name": "vgg"}}, ""),
        ({"model": "convnet"}, {"model": {"name": "vgg"}}, "v001 has model=vgg, asked for model=convnet"),
        ({"model.arch": "x"}, {"model": {"name": "vgg"}}, "v001 has model=vgg, asked for model.arch=x"),
        ({"model.arch": None}, {"model": {"name": "vgg"}}, "v001 has model=vgg, asked for model.arch=null"),
        ({"model.mean": 1}, {"model": CONFIG["model"]}, "v001 has model.mean=null, asked for model.mean=1"),
        ({"model.mean": None}, {"model": CONFIG["model"] | {"mean": 1}}, ""),
        ({"model.upsample_to": None}, {"model": {"name": "a", "upsample_to": 64}}, "v001 has model.upsample_to=64, "),
    ],
)
def test_what_a_run_decides_is_refused_where_it_was_typed_otherwise(asked, own, told):
    """F100: with the option and both values; a null that means "as the weights say" agrees with anything."""
    if not told:
        return typed.must_agree(asked, own, "v001")
    with pytest.raises(UserError) as error:
        typed.must_agree(asked, own, "v001")
    assert told in str(error.value)
