"""A resumable output folder: its settings, its lock, and the failures of all ranks."""

import contextlib
import errno
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import filelock
import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_warn

from ddpm_pairs.bounded_yaml import MOST_BYTES, parse_yaml
from ddpm_pairs.differences import differences, differs, plain_values
from ddpm_pairs.errors import OutputError, UserError
from ddpm_pairs.files import append, as_output_error, check_writable, lines_in, parse_line, write_atomically
from ddpm_pairs.images.find import Failure

FAILURES, FAILURE_PARTS = "failures.jsonl", "failures.rank*.jsonl"
LOCK_FILE = ".lock"
PATIENCE = 5.0
"""Seconds to wait for a process that is about to end."""

_CANNOT_LOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF}
"""Errors of file systems without locks, such as NFS without its lock service or Lustre without ``flock``."""


class RunFolder:
    """The folder of one run. A later run with the same settings resumes it; a run with other settings is refused.

    Args:
        root: The folder; created by ``begin``.
        record: Name of the settings file, ``.yaml`` or ``.json``.
        contents: What the folder contains, for error messages, such as ``a t study``.
        rank: Rank of this process. Each rank reports failures in its own file, a part of ``failures.jsonl``.
    """

    def __init__(self, root: Path, record: str, contents: str, rank: int = 0) -> None:
        self.root, self.record, self.contents, self.rank = root, root / record, contents, rank

    def settings(self) -> dict[str, Any] | None:
        """Return the settings that the run was started with, or ``None`` if no run was started.

        Raises:
            UserError: If the settings file cannot be read.
        """
        if not self.record.is_file():
            return None
        try:
            with self.record.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
            settings = parse_yaml(content) if self.record.suffix == ".yaml" else parse_line(content)
        except (UserError, OSError):
            settings = None
        if not isinstance(settings, dict):
            raise UserError(
                f"{self.record} cannot be read; give another --output_dir, or delete this file if the rest of the "
                "folder was made with the same settings"
            )
        return settings

    def is_torn(self) -> bool:
        """Check whether a run was started but its settings cannot be read, as after a power failure.

        Nobody knows which settings its results were made with, so they must be removed before ``begin``.
        """
        try:
            self.settings()
        except UserError:
            return True
        return False

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse a folder that cannot be resumed with these settings.

        Raises:
            UserError: If the folder is a file or cannot be written, or its run was started with other settings. The
                message names the first setting that differs.
        """
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"--output_dir {self.root} is a file; give a folder or a new name")
        check_writable(self.root)
        earlier = self.settings()
        if earlier is not None and (changed := differences(earlier, settings)):
            raise UserError(f"{differs(self.root, self.contents, changed)}; give another folder, or the same settings")

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Create the folder, write the settings, and discard the failures of an interrupted run; for rank 0 only.

        Raises:
            OutputError: If the folder cannot be written.
        """
        plain = plain_values(settings)
        text = json.dumps(plain, indent=2) + "\n"
        if self.record.suffix == ".yaml":
            text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
        write_atomically(self.record, text.encode())
        self.clear()

    def report(self, failures: Iterable[Failure]) -> None:
        """Append sources without a result to the part of this rank.

        Raises:
            OutputError: If the part cannot be written.
        """
        path = self.root / f"failures.rank{self.rank}.jsonl"
        if lines := failure_lines(failures):
            append(path, lines)

    def reported(self) -> list[Failure]:
        """Return the failures that all ranks reported."""
        return [failure for path in sorted(self.root.glob(FAILURE_PARTS)) for failure in read_failures(path)]

    def join(self, failures: Iterable[Failure]) -> list[Failure]:
        """Merge the parts of all ranks into ``failures.jsonl`` and remove them; for rank 0 only.

        Args:
            failures: Further sources without a result.

        Returns:
            All failures, sorted by source.

        Raises:
            OutputError: If the file cannot be written.
        """
        by_source = {failure.source: failure for failure in (*failures, *self.reported())}
        joined = [by_source[source] for source in sorted(by_source)]
        write_atomically(self.root / FAILURES, failure_lines(joined))
        self.clear()
        return joined

    def clear(self) -> None:
        """Remove the parts of all ranks."""
        for path in self.root.glob(FAILURE_PARTS):
            if path.is_symlink() or not path.is_dir():
                with as_output_error(path):
                    path.unlink()


class FolderLock:
    """A lock on a folder, released when its process ends for any reason; forked loader workers do not keep it.

    Only one of ``predict``, ``merge``, and ``verify --fix`` can run on a folder at a time. In a run with several ranks,
    only rank 0 takes the lock: the other ranks only add files and lines, and two processes that make the same pair
    write identical bytes.

    The locked file is ``.lock`` inside the folder, because any process that can write to the folder can create it
    there. It is removed when the lock is released. A ``.lock`` left by a killed process is not locked, and the next run
    removes it.

    Args:
        root: The folder.
        wait: Whether to wait until another process releases the lock, however long it takes.
    """

    def __init__(self, root: Path, wait: bool = False) -> None:
        self.root, self.wait = root, wait
        self._lock = filelock.FileLock(root / LOCK_FILE, thread_local=False, fallback_to_soft=False)

    def acquire(self) -> None:
        """Lock the folder. Does nothing if the folder does not exist, and only warns if the file system has no locks.

        Raises:
            OutputError: If another process keeps the lock for longer than ``PATIENCE``, unless ``wait`` is set, or the
                folder cannot be written.
        """
        if not self.root.is_dir() or self._lock.is_locked:
            return
        try:
            self._lock.acquire(timeout=-1 if self.wait else PATIENCE)
        except filelock.Timeout as error:
            raise OutputError(
                f"another process is writing to {self.root}: wait for it to end, or stop it, then rerun"
            ) from error
        except OSError as error:
            if error.errno not in _CANNOT_LOCK:
                with as_output_error(self.root):
                    raise
            self._remove()
            rank_zero_warn(
                f"{self.root} cannot be locked ({error.strerror}): make sure that no other process writes to it"
            )

    def release(self) -> None:
        """Unlock the folder; a second call does nothing."""
        if self._lock.is_locked:
            self._remove()  # before the release: after it, the file may belong to another process
            self._lock.release()

    def __enter__(self) -> "FolderLock":
        """Lock the folder."""
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        """Unlock the folder."""
        self.release()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):  # Windows cannot remove an open file; filelock does it after closing
            (self.root / LOCK_FILE).unlink()


def failure_lines(failures: Iterable[Failure]) -> bytes:
    """Encode failures as lines of ``failures.jsonl``."""
    lines = [{"source": failure.source, "reason": failure.reason} for failure in failures]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def as_failure(value: Any) -> Failure | None:  # noqa: ANN401 - any JSON value
    """Convert the value of a line of ``failures.jsonl``; return ``None`` if the line is broken or not a failure."""
    fields = [value.get(name) for name in ("source", "reason")] if isinstance(value, dict) else [None]
    return Failure(*fields) if all(isinstance(field, str) for field in fields) else None


def read_failures(path: Path) -> list[Failure]:
    """Read the failures in a file. Invalid lines are skipped, and a missing file has no failures."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return [failure for _, value in lines_in(file) if (failure := as_failure(value)) is not None]
