"""Who is writing to a pairs folder: the ranks of one run together, or one process that tidies it, alone."""

import contextlib
import os
import time
from pathlib import Path

from ddpm_pairs.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PATIENCE = 5.0
"""Seconds to wait for processes that are just ending."""

_HELD: set[int] = set()


def _let_go() -> None:
    """A forked child, such as a loader's worker, must not keep a lock that its parent died with."""
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class FolderLock:
    """A lock on a folder that ends with its process, however that ends, and leaves no file behind.

    It binds ``predict``, ``merge`` and ``verify --fix``. On file systems that cannot lock a folder (NFS among them) it
    always succeeds.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._descriptor: int | None = None

    def share(self) -> None:
        """Hold the folder together with the other ranks of a run; without a folder there is nothing to hold.

        Raises:
            OutputError: if another process holds it alone, and goes on doing so.
        """
        self._hold(alone=False)

    def take(self) -> None:
        """Hold the folder alone; without a folder there is nothing to hold.

        Raises:
            OutputError: if another process holds it, and goes on doing so.
        """
        self._hold(alone=True)

    def release(self) -> None:
        """Let the folder go; a second call does nothing."""
        if self._descriptor in _HELD:
            _HELD.remove(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = None

    def _hold(self, alone: bool) -> None:
        if fcntl is None or not self.root.is_dir():
            return
        kind, end = fcntl.LOCK_EX if alone else fcntl.LOCK_SH, time.monotonic() + PATIENCE
        with contextlib.suppress(OSError):  # of whatever kind but a refusal: there are no locks here
            if self._descriptor is None:
                self._descriptor = os.open(self.root, os.O_RDONLY)
                _HELD.add(self._descriptor)
            while True:
                try:
                    fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    if time.monotonic() > end:
                        break
                    time.sleep(0.05)
            self.release()
            raise OutputError(
                f"another process is writing to {self.root}: wait until it has ended, or end it, "
                "then type the same command again"
            )
