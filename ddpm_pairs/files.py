"""Atomic writes, JSON lines of unknown origin, file hashes, and the PNG files of pairs."""

import contextlib
import csv
import errno
import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b, sha256
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from pydantic_core import from_json
from torch import Tensor

from ddpm_pairs.errors import OutputError

_PNG_BEGIN, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB\x60\x82"

LONGEST_LINE = 2**24
"""Maximum length of a JSON line in bytes. Any longer line counts as broken."""

MOST_SKIPPED = 2**30
"""Maximum length of a broken line in bytes. A longer one ends the file, such as a sparse file of terabytes."""

PNG_COMPRESSION = 1
# Run-length encoding only: for photographs, half the time of Pillow's level 3 and 7% fewer bytes.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)


def encode_png(image: Tensor) -> bytes:
    """Encode an image as PNG: 8 bits per sample, no interlacing, no metadata.

    OpenCV releases the GIL, so several threads can encode at once.

    Args:
        image: The image, ``(C, H, W)``, uint8, on the CPU: RGB or RGBA.

    Returns:
        The bytes of the PNG file.
    """
    # OpenCV expects BGR. NumPy reorders, because torch would start more threads in each encoding thread.
    pixels = np.ascontiguousarray(image.numpy()[[2, 1, 0, 3][: len(image)]].transpose(1, 2, 0))
    return cv2.imencode(".png", pixels, _PNG)[1].tobytes()


_CREATE = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
"""Flags for a file in a folder of unknown origin; unlike ``Path.open``, they do not follow a link."""


def append(path: Path, content: bytes) -> None:
    """Append to a file without following a link; the file and missing parent folders are created.

    Args:
        path: The file.
        content: What to append, in one write.

    Raises:
        OutputError: If the file cannot be written, or is a link or not a regular file.
    """
    with as_output_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, _CREATE | os.O_APPEND | getattr(os, "O_NONBLOCK", 0), 0o666)
        with open(descriptor, "ab") as file:  # noqa: PTH123
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            file.write(content)


def write_atomically(path: Path, content: bytes, rank: int = 0, sync: bool = True) -> None:
    """Write a file atomically: at any moment it is either unchanged (or still missing) or complete.

    Args:
        path: The file to write; missing parent folders are created.
        content: The bytes of the file.
        rank: Rank of this process, so that no two processes share a temporary file.
        sync: See ``atomic_file``.

    Raises:
        OutputError: If the file cannot be written.
    """
    with atomic_file(path, rank, sync) as file:
        file.write(content)


def write_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file atomically.

    Args:
        path: The file to write.
        rows: Its rows, the header first.

    Raises:
        OutputError: If the file cannot be written.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_atomically(path, text.getvalue().encode())


@contextlib.contextmanager
def atomic_file(path: Path, rank: int = 0, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file next to ``path`` that replaces ``path`` when the block ends without an error.

    Args:
        path: The file to write; missing parent folders are created.
        rank: Rank of this process, so that no two processes share a temporary file.
        sync: Flush the file and its folder to disk, so that a power failure cannot leave an empty file. This takes
            milliseconds; turn it off only for many files that can be made again.

    Raises:
        OutputError: If the file cannot be written.
    """
    temporary = temporary_path(path, rank)
    with as_output_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # a killed process may leave one; it may also be a planted link
        with open(os.open(temporary, _CREATE | os.O_EXCL, 0o666), "wb") as file:  # noqa: PTH123 - see _CREATE
            try:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
                file.close()
                temporary.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):  # closing may report a full disk again
                    file.close()
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        if sync:
            sync_folder(path.parent)


def temporary_path(path: Path, rank: int) -> Path:
    """Return the temporary name for ``path``; it is short, because the name of ``path`` may already have 255 bytes."""
    short = blake2b(os.fsencode(path.name), digest_size=8).hexdigest()
    return path.with_name(f".{short}.{rank}.tmp")


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk if the system supports it (Windows cannot open a folder)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Turn system errors inside the block (disk full, no permission, name too long) into ``OutputError``.

    Args:
        path: The file or folder being written, for the message.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise OutputError(
            f"{path} cannot be written ({reason}): check free space and permissions, then rerun"
        ) from error


def check_writable(path: Path) -> None:
    """Check, before any work, that files can be created in a folder, or that the folder can be created.

    Raises:
        OutputError: If they cannot.
    """
    with as_output_error(path):
        existing = existing_parent(path)
        if not existing.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{existing} is a file")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"permission denied, or read-only, at {existing}")


def existing_parent(path: Path) -> Path:
    """Return the path, or its nearest parent that exists."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())


def is_whole_png(path: Path) -> bool:
    """Check whether a file begins and ends as a PNG does, unlike one that a power failure emptied or cut off."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            begin = file.read(len(_PNG_BEGIN))
            file.seek(-len(_PNG_END), os.SEEK_END)
            return (begin, file.read()) == (_PNG_BEGIN, _PNG_END)
    except OSError:  # shorter than that
        return False


def parse_line(line: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse a JSON line; return ``None`` if it is broken, nested deeper than about 200 levels, or contains NaN."""
    try:
        return from_json(line, allow_inf_nan=False)
    except ValueError:
        return None


def lines_in(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Read an open JSONL file line by line, with only a few lines in memory.

    Args:
        file: The file, positioned at its beginning.

    Returns:
        The byte offset of each line and its value. The value is ``None`` if the line is not JSON, such as the truncated
        last line of a process that was killed.
    """
    return chain.from_iterable(_blocks_in(file))


def _blocks_in(file: BinaryIO) -> Iterator[list[tuple[int, Any]]]:
    """Yield the lines of about 1 MiB at a time."""
    position, block, begin = 0, [], 0
    while line := file.readline(LONGEST_LINE):
        length = len(line)
        while not line.endswith(b"\n") and length <= MOST_SKIPPED and (more := file.readline(LONGEST_LINE)):
            line, length = more, length + len(more)
        block.append((position, parse_line(line) if length <= LONGEST_LINE else None))
        position += length
        if position - begin >= 2**20:
            yield block
            if length > MOST_SKIPPED:
                return
            block, begin = [], position
    yield block


def sha256_of(path: str | Path | None) -> str | None:
    """SHA-256 of a file, or of all files in a folder sorted by path; ``None`` if ``path`` is ``None``."""
    if path is None:
        return None
    path = Path(path)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest = sha256()
    for file in files:
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
