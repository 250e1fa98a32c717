"""Initialization of loader processes."""

import os
import signal
import threading
import time

import cv2

from ddpm_pairs.stopping import STOPS


def begin_worker(worker: int) -> None:
    """Initialize a loader process: run OpenCV single-threaded, and end the process when its parent ends or asks.

    OpenCV's threads do not survive a fork, and the workers already share the cores. Signals to the whole group, such as
    Ctrl-C, are left to the parent: if a worker died of one, the parent would fail before it could save its state.

    Args:
        worker: Index of the worker; not used.
    """
    cv2.setNumThreads(0)
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process within a second after its parent ends, or when the parent sends SIGTERM.

    A torch worker that is sending a batch when its parent is killed waits forever. It also keeps the inherited sockets
    open, so the other ranks wait for the dead rank.
    """
    while os.getppid() == parent and not _asked_by(parent):
        pass
    os._exit(1)


def _asked_by(parent: int) -> bool:
    """Wait for a second; return whether the parent has sent SIGTERM meanwhile."""
    if not hasattr(signal, "sigtimedwait"):  # Windows and macOS
        time.sleep(1)
        return False
    received = signal.sigtimedwait([signal.SIGTERM], 1)
    return received is not None and received.si_pid == parent
