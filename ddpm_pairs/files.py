"""Atomic writes, file hashes, and the PNG files of pairs."""

import contextlib
import csv
import io
import os
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from torch import Tensor

from ddpm_pairs.errors import OutputError

PNG_COMPRESSION = 1
# Run-length encoding only: for photographs, half the time of Pillow's level 3 and 7% fewer bytes.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT_RGB = bytes((8, 2, 0, 0, 0))  # bits, color type, compression, filter, interlacing (PNG 1.2, 11.2.2)
# Chunks, besides the required ones, that do not change the meaning of the pixels.
_HARMLESS = {b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"sRGB"}
# Overridden by an sRGB chunk (11.3.3.5); without one, some readers change the colors by them.
_SUPERSEDED = {b"gAMA", b"cHRM"}
# Text that programs read as EXIF or XMP, which may contain an orientation.
_TURNING = (b"Raw profile type", b"XML:com.adobe.xmp")


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


def is_plain_png(data: bytes) -> bool:
    """Check whether a file is a complete PNG with nothing but an 8-bit RGB image in sRGB.

    A profile, another gamma, transparency, EXIF, XMP, interlacing, further frames, unknown chunks, a wrong checksum, or
    bytes after the end disqualify a file. The compressed data is not checked.

    Args:
        data: The bytes of the file.
    """
    kinds = []
    for kind, content in _chunks(data):
        if kind in (b"tEXt", b"zTXt", b"iTXt") and content.startswith(_TURNING):
            return False
        if not kinds and (kind != b"IHDR" or content[8:] != _EIGHT_BIT_RGB):
            return False
        kinds.append(kind)
    allowed = _HARMLESS | (_SUPERSEDED if b"sRGB" in kinds else set())
    return kinds[-1:] == [b"IEND"] and set(kinds[1:-1]) - allowed == {b"IDAT"}


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and content of each chunk; a damaged file ends with a chunk whose type is empty."""
    position = len(_SIGNATURE)
    if data[:position] != _SIGNATURE:
        yield b"", b""
        return
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\0"))
        content = data[position + 8 : position + 8 + length]
        if data[position + 8 + length : position + 12 + length] != struct.pack(">I", zlib.crc32(kind + content)):
            yield b"", b""
            return
        yield kind, content
        position += 12 + length


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
    beside = _beside(path, rank)
    with as_output_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(beside, flags, 0o666), "wb") as file:  # noqa: PTH123 - Path.open would follow a link
            try:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
                file.close()
                beside.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):  # closing may report a full disk again
                    file.close()
                with contextlib.suppress(OSError):
                    beside.unlink()
                raise
        if sync:
            _sync_folder(path.parent)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Create a temporary folder next to ``path`` that is renamed to ``path`` when the block ends without an error.

    Args:
        path: The folder to create; it must not exist yet. Missing parent folders are created.

    Raises:
        OutputError: If the folder cannot be written.
    """
    beside = _beside(path.absolute(), 0)
    with as_output_error(path):
        if beside.exists():  # left by a process that was killed
            shutil.rmtree(beside)
        beside.mkdir(parents=True)
        try:
            yield beside
            for inside in beside.rglob("*"):
                if inside.is_file():
                    with inside.open("r+b") as file:  # Windows flushes only files that are open for writing
                        os.fsync(file.fileno())
                else:
                    _sync_folder(inside)
            _sync_folder(beside)
            beside.rename(path)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        _sync_folder(path.absolute().parent)


def _beside(path: Path, rank: int) -> Path:
    """Return the temporary name for ``path``; it is short, because the name of ``path`` may already have 255 bytes."""
    short = blake2b(os.fsencode(path.name), digest_size=8).hexdigest()
    return path.with_name(f".{short}.{rank}.tmp")


def _sync_folder(folder: Path) -> None:
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
