"""Check output paths before a run: inside the output folder, unique, and never overwriting inputs."""

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from errno import EACCES, ENOTDIR
from functools import lru_cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from ddpm_pairs.data.high_quality import HighQualityImages
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import as_output_error
from ddpm_pairs.images.find import Picture
from ddpm_pairs.pairset.folder import PairsFolder
from ddpm_pairs.pairset.records import variant_keys
from ddpm_pairs.pairset.run_file import read_run


def check_variants(pictures: list[Picture], variants: int) -> None:
    """See that no image already has the key of another one's variant.

    Raises:
        UserError: In one line that names both.
    """
    if variants == 1:
        return
    keys = {picture.key: picture.source for picture in pictures}
    for picture in pictures:
        for key in variant_keys(picture.key, variants)[1:]:
            if key in keys:
                raise UserError(
                    f"--data.hq_dir: {keys[key]!r} has the key {key!r}, which a variant of {picture.source!r} gets "
                    f"with --model.variants {variants}: rename one of them"
                )


def check_places(root: Path, data: HighQualityImages, variants: int) -> None:
    """See that the folder can be written and that every pair gets a place of its own in it; nothing is left behind.

    Args:
        root: The pairs folder, which need not be there yet.
        data: The HQ pictures, found.
        variants: Pairs a picture.

    Raises:
        UserError: for an output that would be read as input or overwrite it, that cannot be written, that leads
            elsewhere by a link, or that needs one path for two files, or for a file and a folder.
    """
    target, source = root.resolve(), Path(data.hq_dir).resolve()
    read = {picture.path.parent for picture in data.pictures}  # by links, pictures may lie anywhere
    if target.is_relative_to(source) or any(
        place.is_relative_to(target / kind) for kind in ("hq", "lq") for place in {source, *map(Path.resolve, read)}
    ):
        raise UserError(f"--output_dir {root} and --data.hq_dir {data.hq_dir} lie in one another: give another folder")
    _check_rights(root)
    sources = {key: one.source for one in data.pictures for key in variant_keys(one.key, variants)}
    try:
        check_twins(sources, (True, True))
    except UserError:  # rare enough to see what the file system at hand does
        check_twins(sources, _names_as_one(root))
    folder = PairsFolder(root)
    for parent in _parents(sources):
        for kind in ("hq", "lq"):
            folder.path((kind / parent / "any.png").as_posix())


def check_sources(root: Path, data: HighQualityImages, variants: int) -> None:
    """Where the folder was made from another hq_dir, refuse keys that there belonged to other pictures.

    Raises:
        UserError: if there is one.
    """
    earlier = read_run(root)
    if earlier is None or earlier["places"]["hq_dir"] == str(Path(data.hq_dir).resolve()):
        return
    pictures = {key: one for one in data.pictures for key in variant_keys(one.key, variants)}

    @lru_cache(maxsize=1024)  # variants of one picture lie near each other
    def hash_of(path: Path) -> str:
        return sha256(path.read_bytes()).hexdigest()

    for record in PairsFolder(root).records():
        picture = pictures.get(record["key"])
        try:
            same = picture is None or hash_of(picture.path) == record.get("source_sha256")
        except OSError:  # becomes a failure later
            continue
        if not same:
            raise UserError(
                f"--output_dir {root} holds a pair {record['key']!r} made from another picture than that of "
                f"--data.hq_dir {data.hq_dir}: give another folder"
            )


def fitting_names(root: Path) -> Callable[[str], bool]:
    """Whether the file system of the pairs folder can hold the files of a key, as a function of the key."""
    longest_name, longest_path = 255, 4096
    with suppress(OSError, AttributeError, ValueError):  # where the system does not say, these hold
        longest_name, longest_path = (os.pathconf(_existing(root), f"PC_{kind}_MAX") for kind in ("NAME", "PATH"))
    room = longest_path - len(os.fsencode(root.absolute())) - len("/hq//.0123456789abcdef.00000.tmp") - 1

    def fits(key: str) -> bool:
        name = os.fsencode(f"{key}.png")
        return len(name) <= room and max(map(len, name.split(b"/"))) <= longest_name

    return fits


def check_twins(sources: dict[str, str], fold: tuple[bool, bool]) -> None:
    """Refuse two keys that get one file, or a file and a folder of one name.

    Args:
        sources: The picture of each key.
        fold: Whether the file system takes names as one that differ in case alone, and in how accents are written
            (Unicode's composed and decomposed forms).

    Raises:
        UserError: in one line that names them.
    """

    def folded(name: str) -> str:
        name = normalize("NFC", name) if fold[1] else name
        return name.casefold() if fold[0] else name

    taken: dict[str, str] = {}
    folders = {folded(one.as_posix()) for parent in _parents(sources) for one in (parent, *parent.parents)}
    for key, source in sources.items():
        name = folded(f"{key}.png")
        if name in folders:
            raise UserError(f"--data.hq_dir: {source!r} would become {key}.png, which is a folder: rename one of them")
        if name in taken:
            raise UserError(
                f"--data.hq_dir: {taken[name]!r} and {source!r} would become one file, since --output_dir lies where "
                "names that differ only in case or in how accents are written are the same: rename one of them"
            )
        taken[name] = source


def _parents(keys: Iterable[str]) -> set[PurePosixPath]:
    """The folders that hold the keys; of a million keys there are few."""
    return {PurePosixPath(folder) for folder in {key.rpartition("/")[0] for key in keys}}


def _check_rights(root: Path) -> None:
    """See that files can be made in the folder, or the folder itself.

    Raises:
        OutputError: if not.
    """
    existing = _existing(root)
    with as_output_error(root):
        if not existing.is_dir():
            raise NotADirectoryError(ENOTDIR, f"{existing} is a file")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(EACCES, f"permission denied, or read-only, at {existing}")


def _names_as_one(root: Path) -> tuple[bool, bool]:
    """Try whether the file system of a folder takes names as one; see ``check_twins``."""
    with as_output_error(root), tempfile.TemporaryDirectory(prefix=".ddpm_pairs-", dir=_existing(root)) as folder:
        (Path(folder) / "case").touch()
        (Path(folder) / "\u00e9").touch()
        return (Path(folder) / "CASE").exists(), (Path(folder) / "e\u0301").exists()


def _existing(root: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
