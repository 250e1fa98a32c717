"""Cache features on disk, so reference images go through the network only once."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ddpm_pairs.files import write_atomically
from ddpm_pairs.metrics.features import LAYERS
from ddpm_pairs.metrics.tensor_file import encode_tensors, read_tensors

Features = dict[str, Tensor]


def cached_features(
    paths: Sequence[Path], settings: dict[str, Any], compute: Callable[[], Features], rows: int
) -> Features:
    """Look up the features of files, or compute and cache them.

    They are stored in ``$XDG_CACHE_HOME/ddpm_pairs`` (``~/.cache/ddpm_pairs``) under a hash of the settings and of
    every file's path, size and modification time. The folder may be deleted at any time. A file in it that is
    torn or damaged, or contains something else, is replaced.

    Args:
        paths: The files.
        settings: Everything else the features depend on, such as patches and the network's identity.
        compute: Computes the features if they are not cached.
        rows: Number of rows if no file failed. With fewer, nothing is cached, so an unreadable file is reported every
            time.

    Returns:
        The features by name.
    """
    listed = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    described = json.dumps([listed, settings], sort_keys=True)
    name = hashlib.blake2b(described.encode(), digest_size=16).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ddpm_pairs" / "features"
    kept = folder / f"{name}.safetensors"
    if (features := _load(kept, rows)) is not None:
        return features
    features = compute()
    if any(len(values) != rows for values in features.values()):
        return features
    # runs share the cache, so each process needs a temporary file of its own
    write_atomically(kept, encode_tensors(features), rank=os.getpid())
    return features


def _load(path: Path, rows: int) -> Features | None:
    """Read cached features; ``None`` if there are none, or the file is damaged or contains something else."""
    features = read_tensors(path)
    if features is None:
        return None
    shapes = [(values.ndim, len(values) if values.ndim else 0) for values in features.values()]
    fits = features.keys() == set(LAYERS) and shapes == [(2, rows)] * len(LAYERS)
    finite = fits and all(values.is_floating_point() and values.isfinite().all() for values in features.values())
    return features if finite else None
