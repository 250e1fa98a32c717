"""Features of a folder kept on disk, so that reference pictures go through the network once."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from ddpm_pairs.files import write_atomically

Features = dict[str, Tensor]


def cached_features(
    paths: Sequence[Path], settings: dict[str, Any], compute: Callable[[], Features], rows: int
) -> Features:
    """Look up the features of some files, or compute and keep them.

    They lie in ``$XDG_CACHE_HOME/ddpm_pairs`` (``~/.cache/ddpm_pairs``) under a hash of the list of files (path, size
    and time of change) and the settings; the folder may be deleted at any time.

    Args:
        paths: The files.
        settings: All else that the features depend on, such as patches and the network's identity.
        compute: Gives the features where none are kept.
        rows: How many rows they have if no file failed; with fewer they are not kept, so that a file that cannot be
            read is met, and reported, every time.
    """
    listed = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    described = json.dumps([listed, settings], sort_keys=True)
    name = hashlib.blake2b(described.encode(), digest_size=16).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ddpm_pairs" / "features"
    kept = folder / f"{name}.safetensors"
    if kept.exists():
        return load_file(kept)
    features = compute()
    if any(len(values) != rows for values in features.values()):
        return features
    # runs share the cache, so each process needs a temporary file of its own
    write_atomically(kept, save({key: values.contiguous() for key, values in features.items()}), rank=os.getpid())
    return features
