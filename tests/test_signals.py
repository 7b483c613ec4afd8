import os
import signal

import pytest

from cnnprobe.signals import Stop, noted


def test_the_first_signal_is_noted_and_the_second_one_leaves_at_once():
    before = signal.getsignal(signal.SIGINT)
    with Stop().listening() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        assert stop.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_that_a_library_swallowed_is_known_to_whoever_listens_later():
    before = signal.getsignal(signal.SIGINT)
    with noted():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        with Stop().listening() as stop:
            assert stop() and stop.signal == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
    with Stop().listening() as stop:
        assert not stop()
