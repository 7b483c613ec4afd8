"""The second network of an ascent, and what a stranger may have written beside its weights."""

import pytest
import torch

from cnnprobe.errors import UserError
from cnnprobe.methods.optimize import inputs
from cnnprobe.preparation import named_weights, weights


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"name": "pickles"}, "no model 'pickles'"),
        ({"name": "a.b"}, "no model 'a.b'"),
        ({"name": "convnet", "depth": 3}, "no option 'model.depth' in model=convnet"),
        ({"name": "convnet", "written": 3}, "model.written"),
    ],
)
def test_a_brain_is_of_a_model_of_ours_with_its_options(tmp_path, monkeypatch, model, words):
    """F102: whatever a stranger has written beside its weights."""
    weights.save(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, {"model": model})
    told = named_weights.Weights("file", "the brain", tmp_path / "w.safetensors", {"model": model})
    monkeypatch.setattr(named_weights, "from_run", lambda *_: told)
    with pytest.raises(UserError, match=f"the brain is damaged: what was written beside its weights: .*{words}"):
        inputs.second_network({"method": {"brain": "RUN"}, "seed": 0}, "cpu")
