"""Loader processes: how they start, and how they send batches."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import DataLoader

from ddpm_pairs.stopping import STOPS, held_back, let_through

SHARED_MEMORY = Path("/dev/shm")
"""Where torch puts batches for the main process, on Linux."""

RESERVE = 1 << 30
"""Bytes of shared memory that are left free. Docker's default is 64 MB in all."""

GRACE = 60.0
"""Seconds that a process has after SIGTERM to finish its step with the batches of its workers."""


class Loader(DataLoader):
    """A ``DataLoader`` whose processes handle no signals before ``begin_worker``, which must be its ``worker_init_fn``.

    Until then they have the handlers of their parent, which would end them.
    """

    def __iter__(self) -> Iterator[Any]:
        """Start the processes."""
        with held_back():
            return super().__iter__()


def begin_worker(worker: int) -> None:
    """Initialize a loader process.

    OpenCV runs in one thread, because its threads do not survive a fork, and the workers already share the cores. The
    process ends when its parent ends or asks it to. Signals to the whole group, such as Ctrl-C, are left to the parent:
    if a worker died of one, the parent would fail before it could save its state.

    Args:
        worker: Index of the worker; not used.
    """
    cv2.setNumThreads(0)
    ForkingPickler.register(Tensor, _reduce)
    Queue._on_queue_feeder_error = staticmethod(_fail)
    asked: list[float] = []
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(time.monotonic()))
    let_through()
    sys.excepthook = _report  # threads of multiprocessing call it
    threading.Thread(target=_end_with, args=(os.getppid(), asked), daemon=True).start()


def little_shared_memory() -> str | None:
    """Describe the free shared memory if it is less than ``RESERVE``, for a message; else return ``None``."""
    free = _free()
    if free >= RESERVE:
        return None
    return f"{SHARED_MEMORY} has {free // 1000000} MB free, and loader processes need more than {RESERVE // 1000000} MB"


def _free() -> int:
    """Return the free bytes of shared memory, or ``RESERVE`` on systems where it is not a folder."""
    if not SHARED_MEMORY.is_dir():
        return RESERVE
    state = os.statvfs(SHARED_MEMORY)
    return state.f_bavail * state.f_frsize


def _reduce(tensor: Tensor) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
    """Pickle a tensor: in shared memory while there is enough of it, else within the pipe to the main process."""
    if tensor.device.type != "cpu" or _free() >= RESERVE + tensor.nbytes:
        return reduce_tensor(tensor)
    values = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()
    return _restore, (values, tensor.dtype, tuple(tensor.shape))


def _restore(values: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:  # noqa: ANN401 - a NumPy array
    return torch.from_numpy(values).view(dtype).view(shape)


def _fail(error: Exception, batch: Any) -> None:  # noqa: ANN401 - whatever could not be sent
    """End the process if a batch cannot be sent; by default, it would be dropped and awaited forever."""
    _report(type(error), error, error.__traceback__)
    os._exit(1)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an error, unless the parent is ending and no longer receives what it asked for."""
    if not isinstance(error, ConnectionError | EOFError):
        traceback.print_exception(kind, error, trace)


def _end_with(parent: int, asked: list[float]) -> None:
    """End this process within a second after its parent ends, or ``GRACE`` seconds after the first SIGTERM.

    A torch worker that is sending a batch when its parent is killed waits forever. It also keeps the inherited sockets
    open, so the other ranks wait for the dead rank.

    Args:
        parent: Number of the parent process.
        asked: Times at which SIGTERM came, from the group or from the parent.
    """
    while os.getppid() == parent and not (asked and time.monotonic() > asked[0] + GRACE):
        time.sleep(1)
    os._exit(1)
