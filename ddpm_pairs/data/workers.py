"""What a loader process does before it works."""

import os
import threading
import time

import cv2


def begin_worker(worker: int) -> None:
    """OpenCV's threads do not outlive a fork, and the workers already share the cores."""
    cv2.setNumThreads(0)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process a second after its parent at the latest.

    A worker of torch that is sending a batch when its parent is killed waits for ever. The sockets that it inherited
    stay open with it, so that the other ranks wait for the dead one, too.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
