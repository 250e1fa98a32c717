"""Folders that appear only when they are complete."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ddpm_pairs.files import as_output_error, sync_folder, temporary_path


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Create a temporary folder next to ``path`` that is renamed to ``path`` when the block ends without an error.

    Args:
        path: The folder to create; it must not exist yet. Missing parent folders are created.

    Raises:
        OutputError: If the folder cannot be written.
    """
    temporary = temporary_path(path.absolute(), 0)
    with as_output_error(path):
        if temporary.is_symlink():
            temporary.unlink()
        elif temporary.exists():  # left by a process that was killed
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for inside in temporary.rglob("*"):
                if inside.is_file():
                    with inside.open("r+b") as file:  # Windows flushes only files that are open for writing
                        os.fsync(file.fileno())
                else:
                    sync_folder(inside)
            sync_folder(temporary)
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(path.absolute().parent)
