import pytest
import torch

from cnnprobe.errors import UserError
from cnnprobe.runs import checkpoints
from cnnprobe.store.tables import Checkpoint


def test_a_nested_state_comes_back_as_it_went_in(tmp_path):
    state = {
        "step": 3,
        "moments": {0: [torch.arange(3.0), None], "b": torch.ones(2, dtype=torch.bfloat16)},
        "best": 0.5,
    }
    checkpoints.save(tmp_path / "weights", Checkpoint("last", {"w": torch.ones(2)}, resume=state), {"epoch": 1})
    back = checkpoints.read(tmp_path / "weights")
    assert back["step"] == 3
    assert back["best"] == 0.5
    assert torch.equal(back["moments"][0][0], torch.arange(3.0))
    assert back["moments"][0][1] is None
    assert back["moments"]["b"].dtype == torch.bfloat16


def test_what_names_a_file_of_weights_is_no_path(tmp_path):
    """F102."""
    with pytest.raises(UserError, match=r"'../../last' cannot name a file in weights"):
        checkpoints.save(tmp_path / "weights", Checkpoint("../../last", {"w": torch.ones(2)}), {})


def test_without_a_state_there_is_none(tmp_path):
    assert checkpoints.read(tmp_path) is None


def test_how_far_a_training_is_kept_is_known_before_it_goes_on(tmp_path):
    """F66: a row may be there of which the state was not saved."""
    assert checkpoints.kept(tmp_path) == ", but no state of the training: it begins anew"
    for update, state in ((7, {}), (8, None)):
        checkpoints.save(tmp_path, Checkpoint("last", {"w": torch.ones(2)}, resume=state), {"update": update})
    assert checkpoints.kept(tmp_path) == ", and the training up to update 7"
    for strange in (b"", b"{}" * 99):
        (tmp_path / "resume.safetensors").write_bytes(strange)
        assert checkpoints.kept(tmp_path) == ""
