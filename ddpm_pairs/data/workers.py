"""Initialization of loader processes."""

import os
import threading
import time

import cv2


def begin_worker(worker: int) -> None:
    """Initialize a loader process: run OpenCV single-threaded, and end the process when its parent ends.

    OpenCV's threads do not survive a fork, and the workers already share the cores.

    Args:
        worker: Index of the worker; not used.
    """
    cv2.setNumThreads(0)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process within a second after its parent ends.

    A torch worker that is sending a batch when its parent is killed waits forever. It also keeps the inherited sockets
    open, so the other ranks wait for the dead rank.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
