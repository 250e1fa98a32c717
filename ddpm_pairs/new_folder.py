"""Folders that appear only when they are complete."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ddpm_pairs.files import as_output_error, beside_of, sync_folder


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Create a temporary folder next to ``path`` that is renamed to ``path`` when the block ends without an error.

    Args:
        path: The folder to create; it must not exist yet. Missing parent folders are created.

    Raises:
        OutputError: If the folder cannot be written.
    """
    beside = beside_of(path.absolute(), 0)
    with as_output_error(path):
        if beside.is_symlink():
            beside.unlink()
        elif beside.exists():  # left by a process that was killed
            shutil.rmtree(beside)
        beside.mkdir(parents=True)
        try:
            yield beside
            for inside in beside.rglob("*"):
                if inside.is_file():
                    with inside.open("r+b") as file:  # Windows flushes only files that are open for writing
                        os.fsync(file.fileno())
                else:
                    sync_folder(inside)
            sync_folder(beside)
            beside.rename(path)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        sync_folder(path.absolute().parent)
