"""What modules keep beside their tensors goes the way of the tensors, and back."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.models.weights import extra_state
from cnnprobe.preparation import weights


class Keeping(nn.Module):
    def __init__(self, kept):
        super().__init__()
        self.linear, self.kept = nn.Linear(2, 2), kept

    def get_extra_state(self):
        return self.kept

    def set_extra_state(self, state):
        self.kept = state

    def forward(self, x):
        return self.linear(x)


@pytest.mark.parametrize("kept", [{"a": 0.5, 3: (1, None)}, [True, "é"], 7, {"b": torch.arange(3.0)}, float("nan")])
def test_plain_data_is_saved_and_loaded_as_a_tensor(tmp_path, kept):
    """F88."""
    model, other = nn.Sequential(Keeping(kept)), nn.Sequential(Keeping("nothing"))
    for one in (model, other):
        extra_state.store(one)
        assert type(one[0]).__name__ == "Keeping" and isinstance(one.state_dict()["0._extra_state"], torch.Tensor)
    weights.save(tmp_path / "x.safetensors", model.state_dict(), {})
    weights.fit(other, weights.read(tmp_path / "x.safetensors"), "x", "mine")
    assert torch.equal(other[0].linear.weight, model[0].linear.weight)
    assert repr(other[0].kept) == repr(kept) and type(other[0].kept) is type(kept)
    assert weights.sha256(other.state_dict()) == weights.sha256(model.state_dict())


def test_the_users_own_file_gives_it_as_it_is(tmp_path):
    """F88."""
    model = nn.Sequential(Keeping({"scale": 0.25}))
    torch.save({"state_dict": model.state_dict(), "epoch": 2}, tmp_path / "x.pt")
    other = nn.Sequential(Keeping(None))
    extra_state.store(other)
    weights.fit(other, weights.read(tmp_path / "x.pt"), "x.pt", "mine")
    assert other[0].kept == {"scale": 0.25}


def test_a_tensor_is_left_as_it_is():
    model = Keeping(torch.ones(2))
    extra_state.store(model)
    assert type(model) is Keeping


def test_anything_else_is_refused():
    with pytest.raises(UserError, match=r"^1\._extra_state is a Random that cannot be stored"):
        import random

        extra_state.store(nn.Sequential(nn.ReLU(), Keeping(random.Random(1))))
    with pytest.raises(UserError, match="cannot be read"):
        extra_state.decoded(torch.tensor([40, 1], dtype=torch.uint8), "x")


def test_a_text_has_no_more_letters_than_are_written():
    """F102: each would take 300 bytes to read."""
    text = torch.from_numpy(np.frombuffer(b"'" + b"a" * 2**20 + b"'", np.uint8).copy())
    with pytest.raises(UserError, match="cannot be read"):
        extra_state.decoded(text, "x")
    value = "a" * 2**20
    assert extra_state.decoded(extra_state.encoded(value, "x"), "x") == value
