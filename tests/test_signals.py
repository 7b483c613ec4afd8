import os
import signal

import pytest

from cnnprobe.signals import Stop


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
