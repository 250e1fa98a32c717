"""Orderly stops: SIGTERM and SIGHUP do what Ctrl-C does."""

import signal
import sys
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


def exit_status(error: BaseException) -> int:
    """Return the exit status after an interruption: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + int(getattr(error, "number", signal.SIGINT))
