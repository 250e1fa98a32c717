"""Find the images below a folder and assign their keys."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from unicodedata import category

from ddpm_pairs.errors import UserError

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".avifs",
    ".heic", ".heif", ".hif", ".jxl",
)  # fmt: skip
"""Suffixes of image files in lower case; matching ignores case."""


@dataclass(frozen=True)
class Picture:
    """An image file.

    Attributes:
        key: Name of the image: ``source`` without its suffix, including any ``/``.
        path: Path of the file.
        source: Path relative to the searched folder, with ``/`` as separator.
        size: (height, width), if known without opening the file.
    """

    key: str
    path: Path
    source: str
    size: tuple[int, int] | None = field(default=None, kw_only=True)

    def file(self) -> Path | bytes:
        """Return the argument of ``decode_picture``: the path, or the file's bytes if it is inside another file."""
        return self.path


@dataclass(frozen=True)
class Failure:
    """A file that cannot be used.

    Attributes:
        source: Path relative to the searched folder, with ``/`` as separator.
        reason: The reason, in one line.
    """

    source: str
    reason: str


def find_pictures(root: Path, option: str) -> tuple[list[Picture], list[Failure]]:
    """Find all images below a folder.

    Links to folders are followed, except to a folder that contains the link. Hidden files and folders (with a leading
    dot) are ignored. All other files without an image suffix become failures.

    Args:
        root: Folder to search.
        option: The command-line option that named the folder, for error messages, such as ``--data.lq_dir``.

    Returns:
        The images sorted by key (code points), and the failures sorted by source.

    Raises:
        UserError: If the folder is missing, is not a folder, contains no images, or contains two files with the same
            key.
    """
    if not root.exists():
        raise UserError(f"{option}: there is no folder {str(root)!r}; give a folder of images")
    if not root.is_dir():
        raise UserError(f"{option}: {str(root)!r} is not a folder; give the folder that contains the images")

    pictures: dict[str, Picture] = {}
    failures = []
    for found in _walk(root, "", (os.path.realpath(root),)):
        if isinstance(found, Failure):
            failures.append(found)
        elif found.key in pictures:
            first, second = sorted((pictures[found.key].source, found.source))
            raise UserError(
                f"{option}: {first!r} and {second!r} would have the same key {found.key!r}; rename one of them"
            )
        else:
            pictures[found.key] = found
    if not pictures:
        others = f" ({len(failures)} other files)" if failures else ""
        raise UserError(f"{option}: no images in {str(root)!r}{others}; give a folder of {', '.join(SUFFIXES)} files")
    return sorted(pictures.values(), key=lambda p: p.key), sorted(failures, key=lambda f: f.source)


def _walk(folder: Path, prefix: str, inside: tuple[str, ...]) -> Iterator[Picture | Failure]:
    """Yield images and failures below ``folder``, whose real path is the last entry of ``inside``."""
    try:
        with os.scandir(folder) as scan:
            entries = list(scan)
    except OSError as error:
        yield Failure(prefix.rstrip("/") or ".", f"folder cannot be read: {error.strerror}")
        return
    for entry in entries:
        source = prefix + entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            real = os.path.realpath(entry.path)
            if real not in inside:
                yield from _walk(Path(entry.path), source + "/", (*inside, real))
        else:
            yield _judge(entry, source)


def _judge(entry: os.DirEntry, source: str) -> Picture | Failure:
    """Classify a file by its name and type only, without opening it."""
    if any(
        category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in source
    ):  # keys are written to UTF-8 text files, one per line
        escaped = source.encode("unicode_escape").decode()
        return Failure(
            escaped, "its name contains a line break, a control character, or bytes that are not UTF-8; rename it"
        )
    suffix = PurePosixPath(source).suffix
    if suffix.lower() not in SUFFIXES:
        return Failure(source, f"no image suffix; expected one of {', '.join(SUFFIXES)}")
    if not entry.is_file():
        return Failure(source, "broken link" if entry.is_symlink() else "not a regular file")
    return Picture(key=source.removesuffix(suffix), path=Path(entry.path), source=source)
