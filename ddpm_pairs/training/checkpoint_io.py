"""Write checkpoints so that a kill, a full disk, or a power failure leaves the earlier file complete."""

from pathlib import Path
from typing import Any

import torch
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import Strategy

from ddpm_pairs.files import atomic_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints next to their place, flush them to disk, and rename them.

    Lightning's own way serializes to memory and writes a copy to the folder of temporary files. If that folder is on
    another disk, it then overwrites the earlier checkpoint in place.
    """

    @classmethod
    def install(cls, strategy: Strategy) -> None:
        """Use this class in a strategy, unless it has another plugin, chosen by the user or by the strategy itself."""
        if type(strategy.checkpoint_io) is TorchCheckpointIO:
            strategy.checkpoint_io = cls()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401
        """Save a checkpoint; a path on object storage, such as ``s3://``, is left to Lightning.

        Raises:
            OutputError: If the file cannot be written.
        """
        filesystem, local = url_to_fs(str(path))
        if storage_options is not None or not isinstance(filesystem, LocalFileSystem):
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            save_atomically(checkpoint, Path(local))


def save_atomically(content: Any, path: Path) -> None:  # noqa: ANN401 - whatever torch saves
    """Save with ``torch.save``; at any moment, the file is either unchanged (or still missing) or complete.

    Args:
        content: What to save.
        path: The file to write; missing parent folders are created.

    Raises:
        OutputError: If the file cannot be written.
    """
    with atomic_file(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # After a failed write, torch fails again when it closes the archive.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
