"""Learning rates against closed formulas, and which moments are kept."""

import pytest
import torch

from cnnprobe.methods.train.schedules import Schedule, kept_epochs, kept_updates


def test_constant_stays():
    rate = Schedule("constant", 0.3, updates_per_epoch=7, epochs=4)
    assert {rate(update) for update in range(28)} == {0.3}


@pytest.mark.parametrize(
    ("kind", "peer"),
    [
        ("cosine", lambda optimiser: torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 30)),
        ("step", lambda optimiser: torch.optim.lr_scheduler.StepLR(optimiser, 10, 0.1)),
    ],
)
def test_equals_the_schedulers_of_torch(kind, peer):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.2)
    scheduler = peer(optimiser)
    rate = Schedule(kind, 0.2, updates_per_epoch=5, epochs=6, step_epochs=2, step_factor=0.1)
    for update in range(30):
        assert rate(update) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-12)
        optimiser.step()
        scheduler.step()


def test_warmup_rises_in_a_line_to_the_highest_rate_and_the_rest_follows():
    rate = Schedule("cosine", 1.0, updates_per_epoch=10, epochs=3, warmup=0.5)
    assert [rate(update) for update in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rate(5) == pytest.approx(1.0)
    assert rate(17) == pytest.approx(0.5 + 0.5 * torch.tensor(12 / 25 * torch.pi).cos().item())
    assert 0 < rate(29) < 0.01


def test_updates_kept_double_and_end_before_the_epoch_does():
    assert kept_updates(1) == [0]
    assert kept_updates(2) == [0, 1]
    assert kept_updates(8) == [0, 1, 2, 4]
    assert kept_updates(9) == [0, 1, 2, 4, 8]


def test_epochs_kept_always_hold_the_untrained_network():
    assert kept_epochs([3, 5], 10) == {0, 3, 5}
    assert kept_epochs("log", 10) == {0, 1, 2, 4, 8, 10}
    assert kept_epochs("all", 3) == {0, 1, 2, 3}
