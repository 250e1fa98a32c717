"""Safetensors files with a checksum, so that a damaged result is computed again and never used."""

from hashlib import blake2b
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, uint8

_CHECKSUM = "blake2b"


def encode_tensors(tensors: dict[str, Tensor]) -> bytes:
    """Encode tensors with their checksum.

    Args:
        tensors: The tensors by name, on the CPU.

    Returns:
        The bytes of a safetensors file.
    """
    tensors = {name: values.contiguous() for name, values in tensors.items()}
    return save(tensors, {_CHECKSUM: _checksum(tensors)})  # safetensors would store two texts in any order


def read_tensors(path: Path) -> dict[str, Tensor] | None:
    """Read a file written with ``encode_tensors``, or by an earlier version without a checksum.

    Args:
        path: The file.

    Returns:
        The tensors by name; ``None`` if there is no such file, or it is torn or damaged.
    """
    try:
        if not path.is_file():
            return None
        with safe_open(path, "pt") as file:
            checksum = (file.metadata() or {}).get(_CHECKSUM)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dictionary
    except (OSError, SafetensorError):
        return None
    return tensors if checksum in (None, _checksum(tensors)) else None


def _checksum(tensors: dict[str, Tensor]) -> str:
    """Hash names, types, shapes, and values."""
    digest = blake2b(digest_size=16)
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(uint8).numpy())
    return digest.hexdigest()
