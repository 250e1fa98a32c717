"""Before a run: check its output paths, then list the pairs still to make, in batches. Nothing is drawn here."""

import os
import tempfile
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import replace
from errno import EACCES, ENOTDIR
from functools import lru_cache
from hashlib import sha256
from itertools import filterfalse
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from unicodedata import normalize

from ddpm_pairs.data.high_quality import HighQualityImages
from ddpm_pairs.degradations.base import MIN_LQ_SIDE, too_small
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import UnreadablePicture, read_size
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.pairset.folder import PairsFolder
from ddpm_pairs.pairset.records import variant_keys
from ddpm_pairs.synthesis.generator import PairGenerator, chunks


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


def check_places(folder: PairsFolder, data: HighQualityImages, variants: int) -> None:
    """Check that the folder can be written and that every pair gets a path of its own in it; leave no files behind.

    Args:
        folder: The pairs folder, which may not exist yet.
        data: The HQ images, found.
        variants: Pairs per image.

    Raises:
        UserError: For an output that would be read as input or overwrite it, that leads elsewhere through a link, or
            that needs one path for two files, or for a file and a folder.
        OSError: If the folder cannot be written.
    """
    root = folder.root
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
    folder.paths([str(kind / parent / "any.png") for parent in _parents(sources) for kind in ("hq", "lq")])


def check_sources(folder: PairsFolder, earlier: dict[str, Any], data: HighQualityImages, variants: int) -> None:
    """If the folder was made from another ``hq_dir``, refuse keys that belonged to other images there.

    Args:
        folder: The pairs folder.
        earlier: The content of its ``run.yaml``.
        data: The HQ images, found.
        variants: Pairs per image.

    Raises:
        UserError: If there is such a key.
    """
    if earlier["places"]["hq_dir"] == str(Path(data.hq_dir).resolve()):
        return
    pictures = {key: one for one in data.pictures for key in variant_keys(one.key, variants)}

    @lru_cache(maxsize=1024)  # variants of one picture lie near each other
    def hash_of(path: Path) -> str:
        return sha256(path.read_bytes()).hexdigest()

    for record in folder.records():
        picture = pictures.get(record["key"])
        try:
            same = picture is None or hash_of(picture.path) == record.get("source_sha256")
        except OSError:  # becomes a failure later
            continue
        if not same:
            raise UserError(
                f"--output_dir {folder.root} contains a pair {record['key']!r} made from another image than that of "
                f"--data.hq_dir {data.hq_dir}: give another folder"
            )


def longest_names(root: Path) -> tuple[int, int]:
    """Longest file name, and longest path below ``hq/`` or ``lq/``, on the file system of a pairs folder, in bytes."""
    longest_name, longest_path = 255, 4096
    with suppress(OSError, AttributeError, ValueError):  # the system may not say
        longest_name, longest_path = (os.pathconf(_existing(root), f"PC_{kind}_MAX") for kind in ("NAME", "PATH"))
    return longest_name, longest_path - len(os.fsencode(root.absolute())) - len("/hq//.0123456789abcdef.00000.tmp") - 1


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
    """Check that files can be created in the folder, or the folder itself.

    Raises:
        OSError: If not.
    """
    existing = _existing(root)
    if not existing.is_dir():
        raise NotADirectoryError(ENOTDIR, f"{existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(EACCES, f"permission denied, or read-only, at {existing}")


def _names_as_one(root: Path) -> tuple[bool, bool]:
    """Try whether the file system of a folder takes names as one; see ``check_twins``."""
    with tempfile.TemporaryDirectory(prefix=".ddpm_pairs-", dir=_existing(root)) as folder:
        (Path(folder) / "case").touch()
        (Path(folder) / "\u00e9").touch()
        return (Path(folder) / "CASE").exists(), (Path(folder) / "e\u0301").exists()


def _existing(root: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())


class Plan(NamedTuple):
    """What is to be made.

    Attributes:
        batches: Images that share a canvas, for ``PairGenerator.arrange``; each knows its ``size`` and has its pair's
            key.
        failures: Images that cannot become pairs.
    """

    batches: list[list[Picture]]
    failures: list[Failure]


def plan(
    pictures: list[Picture], generator: PairGenerator, done: Container[str] = (), root: Path | None = None
) -> Plan:
    """Group the pairs that are not done by canvas, in batches that run together.

    Only headers are read, once per image whatever the number of variants. An image that is cut into tiles is a batch of
    its own, so that it is on disk before the next one begins.

    Args:
        pictures: HQ images.
        generator: With its walk added, on which the canvases depend.
        done: Keys of the pairs that exist.
        root: The pairs folder, whose file system may not hold every name; ``None`` where nothing is written.
    """
    todo = [(one, list(filterfalse(done.__contains__, variant_keys(one.key, generator.variants)))) for one in pictures]
    longest, failures = None if root is None else longest_names(root), []
    for picture, keys in todo:
        if keys and not _fits(keys[-1], longest):  # the longest key
            reason = f"{keys[-1]}.png is too long a name for the folder of the pairs; shorten it"
            failures.append(Failure(picture.source, reason))
            keys[:] = [one for one in keys if _fits(one, longest)]
    sized: list[Picture] = []
    for picture, keys in todo:
        try:
            size = read_size(picture.path) if keys else (0, 0)
            for key in keys:
                sized.append(replace(picture, key=key, size=size))
        except UnreadablePicture as error:
            failures.append(Failure(picture.source, str(error)))
    small = {one.source: one.size for one in sized if min(one.size) < MIN_LQ_SIDE * generator.scale}
    failures += [Failure(source, too_small(*size, generator.scale)) for source, size in small.items()]
    by_canvas: dict[tuple[int, int], list[Picture]] = {}
    for picture in sized:
        if picture.source not in small:
            by_canvas.setdefault(generator.canvas(picture.size), []).append(picture)
    batches: list[list[Picture]] = []
    for canvas in sorted(by_canvas):
        batches += chunks(by_canvas[canvas], generator.together(canvas))
    return Plan(batches, failures)


def _fits(key: str, longest: tuple[int, int] | None) -> bool:
    """Whether the files of a key can have these names; see ``longest_names``."""
    name = os.fsencode(f"{key}.png")
    return longest is None or (max(map(len, name.split(b"/"))) <= longest[0] and len(name) <= longest[1])
