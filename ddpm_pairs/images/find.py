"""Find pictures below a folder and give each its key."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from unicodedata import category

from ddpm_pairs.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of picture files, in lower case; files are matched in any case."""


@dataclass(frozen=True)
class Picture:
    """A picture file.

    Attributes:
        key: name of the picture: `source` without its suffix, `/` kept.
        path: where the file lies.
        source: the file's path relative to the folder that was searched, with `/`.
        size: (height, width), where it is known without opening the file.
    """

    key: str
    path: Path
    source: str
    size: tuple[int, int] | None = field(default=None, kw_only=True)

    def file(self) -> Path | bytes:
        """What `decode_picture` takes: the path, or the file's bytes where it lies inside another file."""
        return self.path


@dataclass(frozen=True)
class Failure:
    """A file that cannot be used.

    Attributes:
        source: the file's path relative to the folder that was searched, with `/`.
        reason: why, in one line.
    """

    source: str
    reason: str


def find_pictures(root: Path, option: str) -> tuple[list[Picture], list[Failure]]:
    """All pictures below a folder.

    Links to folders are followed, except into a folder that the search is already inside of. Hidden files and folders
    (a leading dot) are ignored. Whatever else is no picture by its suffix becomes a failure.

    Args:
        root: folder to search.
        option: the command line option that named the folder, for the error texts, such as `--data.lq_dir`.

    Returns:
        The pictures sorted by key (code points), and the failures sorted by source.

    Raises:
        UserError: the folder is missing, is no folder, holds no pictures, or holds two files of one key.
    """
    if not root.exists():
        raise UserError(f"{option}: there is no folder {str(root)!r}; give a folder of pictures")
    if not root.is_dir():
        raise UserError(f"{option}: {str(root)!r} is not a folder; give the folder that holds the pictures")

    pictures: dict[str, Picture] = {}
    failures = []
    for found in _walk(root, "", (os.path.realpath(root),)):
        if isinstance(found, Failure):
            failures.append(found)
        elif found.key in pictures:
            first, second = sorted((pictures[found.key].source, found.source))
            raise UserError(f"{option}: {first!r} and {second!r} would share the key {found.key!r}; rename one of them")
        else:
            pictures[found.key] = found
    if not pictures:
        others = f" ({len(failures)} other files)" if failures else ""
        raise UserError(f"{option}: no picture in {str(root)!r}{others}; give a folder of {', '.join(SUFFIXES)} files")
    return sorted(pictures.values(), key=lambda p: p.key), sorted(failures, key=lambda f: f.source)


def _walk(folder: Path, prefix: str, inside: tuple[str, ...]) -> Iterator[Picture | Failure]:
    """Pictures and failures below `folder`, whose real path is the last of `inside`."""
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
    """A file by its name and kind alone; it is not opened."""
    if any(category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in source):  # keys go to UTF-8 lines of text
        escaped = source.encode("unicode_escape").decode()
        return Failure(
            escaped, "its name holds a line break, a control character or bytes that are not UTF-8; rename it"
        )
    suffix = PurePosixPath(source).suffix
    if suffix.lower() not in SUFFIXES:
        return Failure(source, f"not a picture by its suffix ({', '.join(SUFFIXES)})")
    if not entry.is_file():
        return Failure(source, "broken link" if entry.is_symlink() else "not a regular file")
    return Picture(key=source.removesuffix(suffix), path=Path(entry.path), source=source)
