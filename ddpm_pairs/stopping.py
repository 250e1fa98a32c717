"""Orderly stops: SIGTERM and SIGHUP do what Ctrl-C does."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a process to stop; Windows has no SIGHUP."""


class Stopped(KeyboardInterrupt):
    """A signal asked the process to stop.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stop(number: int, frame: FrameType | None) -> None:
    """Handle a signal by raising ``Stopped``, unless the process is already stopping.

    Launchers often send SIGTERM twice, to the process and to its group. The second one must not interrupt the cleanup
    after the first.
    """
    handled = sys.exception()
    while handled is not None:
        if isinstance(handled, KeyboardInterrupt):
            return
        handled = handled.__context__
    raise Stopped(number)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold back signals until the block ends; processes started in it hold them back until they call ``let_through``.

    Such a process thus gets no signal before it has its own handlers. Windows cannot do this.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    """Let signals reach this process, which was started while they were blocked."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def exit_status(error: BaseException) -> int:
    """Return the exit status after an interruption: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + int(getattr(error, "number", signal.SIGINT))
