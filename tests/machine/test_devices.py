import os

import pytest

from cnnprobe.machine.devices import cores


def test_there_is_at_least_one_core_and_no_more_than_this_process_may_use():
    assert 1 <= cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("said", "most"), [("1", 1), ("", 10**6), ("0", 10**6), ("2,1", 10**6)])
def test_no_more_threads_than_openmp_is_told(monkeypatch, said, most):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {10**6, 10**6 + 1, 10**6 + 2})  # of which nothing is known
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert cores() == min(3, most)
