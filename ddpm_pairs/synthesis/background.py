"""Publishing pairs in the background: files are encoded and placed by threads, while the next pairs are being made."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ddpm_pairs.data.high_quality import Work
from ddpm_pairs.pairset.folder import PairsFolder


class Publisher:
    """Puts pairs into a folder, several at a time, and no more than ``depth`` of them at once in memory.

    The line of a pair is appended as soon as its files and all lines before it are in place, so that lines stand in
    the order of submission. An error of a thread is raised in the caller, at the next ``submit``, ``drain`` or
    ``close``; the pairs submitted after the one that failed then get no line, and are made again by the next run.

    Args:
        folder: Where to.
        workers: Threads that encode.
        depth: Pairs under way at most, 1 or more.
    """

    def __init__(self, folder: PairsFolder, workers: int, depth: int) -> None:
        self.folder, self.depth = folder, depth
        self._pool = ThreadPoolExecutor(workers, "publisher")
        self._changed = threading.Condition()
        self._submitted = self._noted = 0
        self._stored: dict[int, dict[str, Any]] = {}  # lines that wait for one before them
        self._error: BaseException | None = None

    @property
    def waiting(self) -> int:
        """Pairs that were submitted and have no line yet."""
        return self._submitted - self._noted

    def submit(self, pair: Work) -> None:
        """Have a pair published; waits while ``depth`` pairs are under way.

        Raises:
            OutputError: if an earlier pair could not be written.
        """
        self._wait(self.depth - 1)
        self._pool.submit(self._publish, self._submitted, pair)
        self._submitted += 1

    def drain(self) -> None:
        """Wait until all pairs are published.

        Raises:
            OutputError: if a pair could not be written.
        """
        self._wait(0)

    def close(self) -> None:
        """``drain``, and end the threads; no thread writes any more when this returns or raises.

        Raises:
            OutputError: if a pair could not be written.
        """
        try:
            self.drain()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _wait(self, most: int) -> None:
        """Until at most so many pairs are under way, or one has failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self.waiting <= most)
            if self._error is not None:
                raise self._error

    def _publish(self, number: int, pair: Work) -> None:
        """Place the files of a pair, and append all lines whose turn has come. Runs in a thread."""
        try:
            line = self.folder.store(pair.png or pair.hq, pair.lq, pair.record)
            with self._changed:
                self._stored[number] = line
                while self._noted in self._stored:
                    # Taken out for good: after a line that was torn by a full disk, none may follow.
                    self.folder.append(self._stored.pop(self._noted))
                    self._noted += 1
                self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()
