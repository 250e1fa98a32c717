"""A lock that one process holds on a pairs folder while it changes it."""

import contextlib
import errno
from pathlib import Path

import filelock
from lightning.fabric.utilities.rank_zero import rank_zero_warn

from ddpm_pairs.errors import OutputError
from ddpm_pairs.files import as_output_error

LOCK_FILE = ".lock"
PATIENCE = 5.0
"""Seconds to wait for processes that are just ending."""

_CANNOT_LOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF}
"""What file systems answer that have no locks, such as NFS without its lock service or Lustre without ``flock``."""


class FolderLock:
    """A lock on a folder that ends with its process, however that ends; forked loader workers do not keep it.

    It excludes ``predict``, ``merge`` and ``verify --fix`` from one another. Of the ranks of one run, rank 0 alone
    holds it: the others only add files and lines, and what two processes make of one pair is the same to the last bit.

    The locked file is ``.lock`` inside the folder, where it can be made wherever the folder can be written, and it is
    removed when the lock is released. One that a killed process left is not locked, and the next run removes it.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = filelock.FileLock(root / LOCK_FILE, thread_local=False, fallback_to_soft=False)

    def acquire(self) -> None:
        """Lock the folder; does nothing where there is no folder, and only warns where the file system has no locks.

        Raises:
            OutputError: If another process holds the lock and does not end, or the folder cannot be written.
        """
        if not self.root.is_dir() or self._lock.is_locked:
            return
        try:
            self._lock.acquire(timeout=PATIENCE)
        except filelock.Timeout as error:
            raise OutputError(
                f"another process is writing to {self.root}: wait for it to end, or end it, then rerun"
            ) from error
        except OSError as error:
            if error.errno not in _CANNOT_LOCK:
                with as_output_error(self.root):
                    raise
            self._remove()
            rank_zero_warn(
                f"{self.root} cannot be locked ({error.strerror}): make sure that no other predict, merge or verify "
                "--fix runs on it"
            )

    def release(self) -> None:
        """Unlock the folder; a second call does nothing."""
        if self._lock.is_locked:
            self._remove()  # while it is held: afterwards it may be that of another process
            self._lock.release()

    def __enter__(self) -> "FolderLock":
        """Lock the folder."""
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        """Unlock the folder."""
        self.release()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):  # Windows keeps an open file, and filelock removes it there
            (self.root / LOCK_FILE).unlink()
