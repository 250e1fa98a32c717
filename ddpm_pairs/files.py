"""Files that are written whole or not at all, and known by their hash."""

from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor


def encode_png(picture: Tensor) -> bytes:
    """A PNG file of a uint8 picture (C, H, W): RGB, or RGB and alpha."""
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).numpy())).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def place(path: Path, content: bytes, rank: int = 0) -> None:
    """Write a file beside its place and move it there, so that it is either absent or whole.

    Args:
        path: Where to; folders on the way are made.
        content: The file's bytes.
        rank: Of this process, so that no two write beside the same place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{rank}.tmp")
    beside.write_bytes(content)
    beside.replace(path)


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
