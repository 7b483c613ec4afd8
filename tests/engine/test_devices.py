import os

from cnnprobe.engine.devices import cores


def test_there_is_at_least_one_core_and_no_more_than_this_process_may_use():
    assert 1 <= cores() <= len(os.sched_getaffinity(0))
