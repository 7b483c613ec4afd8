"""A Ctrl-C while the program itself is imported, before `main` can hear it: silence and status 130, no traceback.

To be imported first.
"""

import signal
import threading
from typing import Any

_before: Any = None


def begin() -> None:
    """Leave in silence at a Ctrl-C from here on."""
    global _before
    ignored = signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None)
    if threading.current_thread() is threading.main_thread() and not ignored:
        _before = signal.signal(signal.SIGINT, _leave)


def over() -> None:
    """Let a Ctrl-C do what it did before: everything is imported."""
    if _before is not None:
        signal.signal(signal.SIGINT, _before)


def _leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


begin()
