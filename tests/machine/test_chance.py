"""Generators of random numbers: seeded together, given back, and gone on with from part to part."""

import random

import numpy as np
import pytest
import torch

from cnnprobe.machine import chance


def drawn():
    """Return a number of each generator."""
    return torch.rand(1).item(), np.random.uniform(), random.random()


@pytest.mark.parametrize("value", [5, 0, 2**32 + 7, -3])
@pytest.mark.parametrize("gpus", [(), None])
def test_a_seed_says_what_every_generator_draws(value, gpus):
    """F105: the numbers are those that the libraries draw by themselves from that seed."""
    with chance.forked():
        chance.seed(value, gpus)
        first = [drawn() for _ in range(2)]
        own = torch.Generator().manual_seed(value), np.random.RandomState(value % 2**32), random.Random(value)
        assert first == [(torch.rand(1, generator=own[0]).item(), own[1].uniform(), own[2].random()) for _ in range(2)]
        chance.seed(value, gpus)
        assert [drawn() for _ in range(2)] == first


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_generators_are_given_back(error):
    """F105: whatever happens meanwhile, one inside the other."""
    before, numbers = chance.standing(), np.random.get_bit_generator()
    try:
        with chance.forked():
            outer = drawn()[1:]
            with chance.forked():
                assert drawn()[1:] == outer  # at the same place every time
                chance.seed(3)
            if error:
                raise error
    except KeyboardInterrupt:
        pass
    assert chance.standing() == before
    assert np.random.get_bit_generator() is numbers


def test_a_work_in_parts_draws_on_and_leaves_the_numbers_of_others_alone():
    """F105: both sequences are those that nobody interrupts."""
    with chance.forked():
        chance.seed(1)
        mine = [drawn() for _ in range(4)]
        chance.seed(1)
        alone = chance.Own()
        chance.seed(2)
        theirs = [drawn() for _ in range(4)]
        chance.seed(2)
        closed = []

        def work():
            try:
                while True:
                    yield drawn()
            finally:
                closed.append(drawn())

        events = alone.events(work())
        found = [(next(events), drawn()) for _ in range(3)]
        events.close()
        assert found == list(zip(mine, theirs))[:3]
        assert (closed, drawn()) == (mine[3:], theirs[3])


def test_another_kind_of_generator_is_left_alone_too():
    before = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.PCG64(1))
        standing = chance.standing()
        with chance.forked(), chance.Own().drawn_from():
            chance.seed(1)
            np.random.uniform()
        list(chance.Own().events(np.random.uniform() for _ in range(2)))
        assert chance.standing() == standing
    finally:
        np.random.set_bit_generator(before)
