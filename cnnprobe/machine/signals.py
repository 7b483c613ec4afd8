"""Ctrl-C, SIGTERM and SIGHUP: the first one lets the batch under way finish, the second one leaves at once.

SIGHUP (the terminal is gone) counts as SIGTERM, unless whoever began the process had it ignored, as `nohup` does.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

PATIENCE = 0.5
"""Seconds after which a line says what is finished before a stop."""
EXIT_STATUS: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}
PARENT_DIES = 1
"""Of prctl(2): the signal a process gets when its parent dies."""
COMPILED = ("torch", "torchvision", "numpy", "scipy", "matplotlib", "contourpy", "kiwisolver", "h5py", "PIL")
"""Libraries whose imports run Python from C++, where an exception can end the process."""


Handler = Callable[[int, object], None]
_early: int | None = None
"""A Ctrl-C from before anything ran."""
_later: threading.Timer | None = None
"""A signal that is sent once more when a library has been imported."""
_listening: "Stop | None" = None
"""Who notes the signals now."""


@contextmanager
def handled(handlers: dict[int, Handler]) -> Iterator[None]:
    """Handle signals, by number, inside the block; elsewhere than in the main thread nothing is changed.

    A process that is forked inside it leaves them to this one, from its first moment on: a handler that began a thread
    there before Python has put its list of threads in order would end in a traceback.
    """
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    process = os.getpid()

    def here(handler: Handler) -> Handler:
        def handle(number: int, frame: object) -> None:
            if os.getpid() == process:
                handler(number, frame)

        return handle

    try:
        before = {
            number: signal.signal(number, here(handler))
            for number, handler in handlers.items()
            if not (ignored and number == signal.SIGHUP)
        }
    except ValueError:
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave() -> None:
    """Leave at once if a signal was noted: for work that takes long and of which nothing is kept.

    Raises:
        KeyboardInterrupt, StoppedError: it was.
    """
    if _listening is not None:
        _listening.leave()


def only_for(parent: int) -> None:
    """Make this process one that works for its parent: signals are the parent's, who ends us, or dies and so ends us.

    Args:
        parent: its number, from before this process was made.
    """
    for number in EXIT_STATUS:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def end_with_parent(number: int) -> bool:
    """Have this process sent a signal when its parent dies; returns False where the system cannot do that."""
    with suppress(AttributeError, OSError):  # Linux can
        return ctypes.CDLL(None).prctl(PARENT_DIES, number) == 0
    return False


@contextmanager
def noted() -> Iterator[None]:
    """Remember a Ctrl-C inside the block beside raising KeyboardInterrupt.

    Libraries that are being imported swallow exceptions, that one too; whoever listens later knows of it all the same.
    """
    global _early
    _early = None

    def note(number: int, _frame: object) -> None:
        global _early
        if a_library_is_imported():  # its C++ would abort the process
            again(number)
            return
        _early = number
        raise KeyboardInterrupt

    def unraisable(told: Any) -> None:  # raised where nobody can catch it: it is remembered, and no traceback
        if not isinstance(told.exc_value, KeyboardInterrupt):
            before(told)

    before, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        with handled({signal.SIGINT: note}):
            yield
    finally:
        _early, sys.unraisablehook = None, before


def again(number: int) -> None:
    """Send this process a signal once more, a little later."""
    global _later
    _later = threading.Timer(0.1, os.kill, (os.getpid(), number))
    _later.daemon = True
    _later.start()


def between_imports() -> None:
    """Leave now if a Ctrl-C waits for a library to be imported: for work that imports one after the other.

    Raises:
        KeyboardInterrupt: one does.
    """
    if _later is not None and _later.is_alive():
        _later.cancel()
        raise KeyboardInterrupt


def a_library_is_imported() -> bool:
    """Say whether one of the `COMPILED` libraries or a part of one is just being imported."""
    under_way = (name for name, module in list(sys.modules.items())
                 if getattr(getattr(module, "__spec__", None), "_initializing", False))  # fmt: skip
    return any(name.partition(".")[0] in COMPILED for name in under_way)


class StoppedError(SystemExit):
    """A signal ends this process: where code of the user's may leave by sys.exit, it is none of those."""


class Stop:
    """Notes the first Ctrl-C, SIGTERM or SIGHUP so that the batch under way is finished; the second one leaves at once.

    Args:
        passed_on: signals come from whoever waits for this process, and perhaps from the terminal or a scheduler as
            well: of several only a Ctrl-C leaves at once.

    Attributes:
        notice: called, in another thread, where that takes longer than `PATIENCE`.
    """

    def __init__(self, passed_on: bool = False) -> None:
        self.passed_on = passed_on
        self.signal: int | None = None
        self.notice: Callable[[], None] | None = None
        self.waiting: threading.Timer | None = None
        self.leaves = False

    def __call__(self) -> bool:
        """Say whether a signal came."""
        return self.signal is not None

    @property
    def exit_status(self) -> int:
        """Exit status of a process that the signal ends; 0 while none came."""
        return 0 if self.signal is None else EXIT_STATUS[self.signal]

    def leave(self) -> None:
        """Leave at once if a signal came: nothing was measured yet that could be kept.

        Raises:
            KeyboardInterrupt, StoppedError: it did.
        """
        if self.signal is not None:
            raise KeyboardInterrupt if self.signal == signal.SIGINT else StoppedError(EXIT_STATUS[self.signal])

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Leave at the first signal inside the block, wherever it is: what a stranger's file makes of it may be long.

        Raises:
            KeyboardInterrupt, StoppedError: a signal came.
        """
        self.leave()
        before, self.leaves = self.leaves, True
        try:
            yield
        finally:
            self.leaves = before

    def _note(self, number: int, _frame: object) -> None:
        if self.signal is not None and self.passed_on and number != signal.SIGINT:
            return
        if self.signal is not None and not self.leaves:
            raise KeyboardInterrupt
        if self.leaves and a_library_is_imported():  # its C++ would abort the process
            again(number)
            return
        self.signal = number
        if self.leaves:
            self.leave()
        if self.notice is not None:
            self.waiting = threading.Timer(PATIENCE, self.notice)
            self.waiting.daemon = True
            self.waiting.start()

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Handle the signals inside the block; elsewhere than in the main thread nothing is changed."""
        global _listening
        with handled(dict.fromkeys(EXIT_STATUS, self._note)):
            self.signal = self.signal or _early
            before, _listening = _listening, self
            try:
                yield self
            finally:
                _listening = before
                if self.waiting is not None:
                    self.waiting.cancel()
