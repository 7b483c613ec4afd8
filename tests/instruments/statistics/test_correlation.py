"""Correlations against numpy, one pair at a time; partial ones against residuals; chance against theory."""

import numpy as np
import pytest
import torch

from cnnprobe.instruments.statistics.correlation import chance, correlation, orders, over_draws, partial, standard


def planted(trials=200, cells=5, units=4, seed=0, draws=1):
    random = torch.Generator().manual_seed(seed)
    p = torch.randn(draws, trials, cells, generator=random).double()
    mixing = torch.randn(cells, units, generator=random).double()
    return p, p @ mixing + 2 * torch.randn(draws, trials, units, generator=random).double()


@pytest.mark.parametrize("gaps", [0, 40])
def test_every_pair_is_what_numpy_says(gaps):
    (p,), (d,) = planted()
    d[torch.randperm(200, generator=torch.Generator().manual_seed(1))[:gaps], 1:3] = torch.nan
    found = correlation(p, d)
    for cell in range(5):
        for unit in range(4):
            known = torch.isfinite(d[:, unit]).numpy()
            expected = np.corrcoef(p[known, cell].numpy(), d[known, unit].numpy())[0, 1]
            assert found[cell, unit].item() == pytest.approx(expected, abs=1e-12)


def test_what_does_not_vary_has_no_correlation():
    (p,), (d,) = planted()
    d[:, 0], p[:, 2] = 3.0, 1.0
    d[:, 1] = torch.nan
    d[:2, 1] = 1.0
    found = correlation(p, d)
    assert torch.isnan(found[:, :2]).all() and torch.isnan(found[2]).all()
    assert torch.isfinite(found[[0, 1, 3, 4]][:, 2:]).all()


def test_draws_are_averaged_with_their_standard_error():
    p, d = planted(draws=3)
    mean, error = over_draws(p, d)
    each = np.array([np.corrcoef(p[k, :, 1].numpy(), d[k, :, 2].numpy())[0, 1] for k in range(3)])
    assert mean[1, 2].item() == pytest.approx(each.mean())
    assert error[1, 2].item() == pytest.approx(each.std(ddof=1) / np.sqrt(3))
    assert torch.isnan(over_draws(p[:1], d[:1])[1]).all()


def test_partial_is_the_correlation_of_residuals():
    """Both regressed on all other cells, by least squares; cells that go together."""
    (p,), (d,) = planted()
    p[:, 1] += p[:, 0]
    found = partial(p[None], correlation(p, d))
    for cell in range(5):
        others = np.column_stack([np.ones(200), np.delete(p.numpy(), cell, 1)])

        def rest(values, others=others):
            return values - others @ np.linalg.lstsq(others, values, rcond=None)[0]

        for unit in range(4):
            expected = np.corrcoef(rest(p[:, cell].numpy()), rest(d[:, unit].numpy()))[0, 1]
            assert found[cell, unit].item() == pytest.approx(expected, abs=1e-9)


def test_partial_needs_more_trials_than_cells():
    p, d = planted(trials=6)
    assert torch.isnan(partial(p, correlation(p[0], d[0]))).all()


@pytest.mark.parametrize("gaps", [0, 30])
def test_chance_is_the_correlation_with_other_trials(gaps):
    p, d = planted(draws=2)
    d[:, :gaps, 1] = torch.nan
    some = orders(200, 3, seed=4)
    for order, found in zip(some, chance(p, d, some)):
        expected = np.zeros((5, 4))
        for draw in range(2):
            moved = d[draw].numpy()[order]
            for unit in range(4):
                known = np.isfinite(moved[:, unit])
                for cell in range(5):
                    expected[cell, unit] += np.corrcoef(p[draw, known, cell].numpy(), moved[known, unit])[0, 1] / 2
        assert np.allclose(found.numpy(), expected, atol=1e-6)


def test_permutations_scatter_as_theory_says_and_depend_on_their_number_alone():
    p, d = planted(trials=150)
    values = torch.stack(list(chance(p, d, orders(150, 400, seed=0))))
    assert values.std().item() == pytest.approx(1 / np.sqrt(149), rel=0.05)
    assert all(np.array_equal(a, b) for a, b in zip(orders(20, 3, 7), orders(20, 9, 7)))
    assert not np.array_equal(orders(20, 1, 7)[0], orders(20, 1, 8)[0])
    assert torch.allclose(standard(p[0]).square().mean(0), torch.ones(5).double())
