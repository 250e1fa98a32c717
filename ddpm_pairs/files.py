"""Files that are written whole or not at all, and known by their hash."""

import contextlib
import os
from collections.abc import Iterator
from hashlib import blake2b, sha256
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from torch import Tensor

from ddpm_pairs.errors import OutputError

PNG_COMPRESSION = 1
# Run lengths, no search for repeats: of photographs, half the time of Pillow's level 3 and 7% fewer bytes.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)


def encode_png(picture: Tensor) -> bytes:
    """A PNG file of a picture: 8 bits a sample, no interlacing, and nothing beside the pixels.

    Several threads can encode at once: other Python code runs meanwhile.

    Args:
        picture: (C, H, W), uint8, on the CPU: RGB, or RGB and alpha.
    """
    # OpenCV wants blue first. By NumPy, because a thread's torch would start threads of its own.
    pixels = np.ascontiguousarray(picture.numpy()[[2, 1, 0, 3][: len(picture)]].transpose(1, 2, 0))
    return cv2.imencode(".png", pixels, _PNG)[1].tobytes()


def write_atomically(path: Path, content: bytes, rank: int = 0) -> None:
    """Write a file beside its place and move it there, so that it is either absent or whole.

    Args:
        path: Where to; folders on the way are made.
        content: The file's bytes.
        rank: Of this process, so that no two write beside the same place.

    Raises:
        OutputError: if the system refuses.
    """
    with atomic_file(path, rank) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_file(path: Path, rank: int = 0) -> Iterator[BinaryIO]:
    """A file to be filled inside the block, which comes to its place when the block has ended well.

    Args:
        path: Where to; folders on the way are made.
        rank: Of this process, so that no two write beside the same place.

    Raises:
        OutputError: if the system refuses.
    """
    # The name beside it is short where that of the file itself may have all the 255 bytes that a name can have.
    short = blake2b(os.fsencode(path.name), digest_size=8).hexdigest()
    beside = path.with_name(f".{short}.{rank}.tmp")
    with as_output_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(beside, flags, 0o666), "wb") as file:  # noqa: PTH123 - a link there is not followed
            try:
                yield file
                file.close()
                beside.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):  # of a full disk, closing may say again that it is full
                    file.close()
                with contextlib.suppress(OSError):
                    beside.unlink()
                raise


@contextlib.contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Turn what the system refuses inside the block (no room, no right, too long a name) into an ``OutputError``.

    Args:
        path: What is written, for the text.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise OutputError(
            f"{path} cannot be written ({reason}): see to its disk and its rights, then type the same command again"
        ) from error


def sha256_of(path: str | Path | None) -> str | None:
    """SHA-256 of a file, or of all files of a folder in the order of their names; ``None`` without one."""
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
