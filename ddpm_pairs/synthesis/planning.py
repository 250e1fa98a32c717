"""Preparation of a run: check its output paths, then list the missing pairs in batches. Nothing is drawn here."""

import os
import tempfile
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from itertools import filterfalse
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from unicodedata import normalize

from ddpm_pairs.data.high_quality import HighQualityImages
from ddpm_pairs.degradations.base import MIN_LQ_SIDE, too_small
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import check_writable, existing_parent
from ddpm_pairs.images.decode import UnreadablePicture, read_size
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.pairset.folder import PairsFolder
from ddpm_pairs.pairset.records import variant_keys
from ddpm_pairs.synthesis.generator import PairGenerator, chunks


def check_variants(pictures: list[Picture], variants: int) -> None:
    """Check that no image has the same key as a variant of another image.

    Args:
        pictures: HQ images.
        variants: Pairs per image.

    Raises:
        UserError: If one does; the message names both.
    """
    if variants == 1:
        return
    keys = {picture.key: picture.source for picture in pictures}
    for picture in pictures:
        for key in variant_keys(picture.key, variants)[1:]:
            if key in keys:
                raise UserError(
                    f"--data.hq_dir: {keys[key]!r} and a variant of {picture.source!r} would have the same key "
                    f"{key!r} with --model.variants {variants}; rename one of them"
                )


def check_places(folder: PairsFolder, data: HighQualityImages, variants: int) -> None:
    """Check that the folder can be written and that every pair has its own path in it; leave no files behind.

    Args:
        folder: The pairs folder, which may not exist yet.
        data: The HQ images, after ``find``.
        variants: Pairs per image.

    Raises:
        UserError: If an output would be read as input or overwrite it, would follow a link out of the folder, or would
            have the same path as another file or a folder.
        OSError: If the folder cannot be written.
    """
    root = folder.root
    target, source = root.resolve(), Path(data.hq_dir).resolve()
    read = {picture.path.parent for picture in data.pictures}  # links may point to images anywhere
    if target.is_relative_to(source) or any(
        place.is_relative_to(target / kind) for kind in ("hq", "lq") for place in {source, *map(Path.resolve, read)}
    ):
        raise UserError(
            f"--output_dir {root} and --data.hq_dir {data.hq_dir} must not contain each other; use another folder"
        )
    check_writable(root)
    sources = {key: one.source for one in data.pictures for key in variant_keys(one.key, variants)}
    try:
        check_twins(sources, (True, True))
    except UserError:  # rare, so test how this file system compares names
        check_twins(sources, _names_as_one(root))
    folder.paths([str(kind / parent / "any.png") for parent in _parents(sources) for kind in ("hq", "lq")])


def check_sources(folder: PairsFolder, earlier: dict[str, Any], data: HighQualityImages, variants: int) -> None:
    """If the folder was made from another ``hq_dir``, check that no key belonged to a different image there.

    Args:
        folder: The pairs folder.
        earlier: The content of its ``run.yaml``.
        data: The HQ images, after ``find``.
        variants: Pairs per image.

    Raises:
        UserError: If a key did.
    """
    if earlier["places"]["hq_dir"] == str(Path(data.hq_dir).resolve()):
        return
    pictures = {key: one for one in data.pictures for key in variant_keys(one.key, variants)}

    @lru_cache(maxsize=1024)  # variants of one image are near each other
    def hash_of(path: Path) -> str:
        return sha256(path.read_bytes()).hexdigest()

    for record in folder.records():
        picture = pictures.get(record["key"])
        try:
            same = picture is None or hash_of(picture.path) == record.get("source_sha256")
        except OSError:  # reported as a failure later
            continue
        if not same:
            raise UserError(
                f"--output_dir {folder.root} contains a pair {record['key']!r} made from a different image than the "
                f"one in --data.hq_dir {data.hq_dir}; use another folder"
            )


def longest_names(root: Path) -> tuple[int, int]:
    """Return the maximum lengths of a file name and of a path below ``hq/`` or ``lq/`` in a pairs folder, in bytes."""
    longest_name, longest_path = 255, 4096
    with suppress(OSError, AttributeError, ValueError):  # not every system reports them
        existing = root if root.is_dir() else existing_parent(root)
        longest_name, longest_path = (os.pathconf(existing, f"PC_{kind}_MAX") for kind in ("NAME", "PATH"))
    return longest_name, longest_path - len(os.fsencode(root.absolute())) - len("/hq//.0123456789abcdef.00000.tmp") - 1


def check_twins(sources: dict[str, str], fold: tuple[bool, bool]) -> None:
    """Check that no two keys share a file, and that no file has the name of a folder.

    Args:
        sources: The source image of each key.
        fold: Whether the file system treats names as equal that differ only in case, and only in the encoding of
            accents (Unicode's composed and decomposed forms).

    Raises:
        UserError: If two do; the message names them.
    """

    def folded(name: str) -> str:
        name = normalize("NFC", name) if fold[1] else name
        return name.casefold() if fold[0] else name

    taken: dict[str, str] = {}
    folders = {folded(one.as_posix()) for parent in _parents(sources) for one in (parent, *parent.parents)}
    for key, source in sources.items():
        name = folded(f"{key}.png")
        if name in folders:
            raise UserError(f"--data.hq_dir: {source!r} would become {key}.png, which is a folder; rename one of them")
        if name in taken:
            raise UserError(
                f"--data.hq_dir: {taken[name]!r} and {source!r} would become the same file, because the file system "
                "of --output_dir ignores case or the encoding of accents; rename one of them"
            )
        taken[name] = source


def _parents(keys: Iterable[str]) -> set[PurePosixPath]:
    """Return the folders that contain the keys; even a million keys have few."""
    return {PurePosixPath(folder) for folder in {key.rpartition("/")[0] for key in keys}}


def _names_as_one(root: Path) -> tuple[bool, bool]:
    """Test which differences in names the file system of a folder ignores; see ``check_twins``."""
    with tempfile.TemporaryDirectory(prefix=".ddpm_pairs-", dir=existing_parent(root)) as folder:
        (Path(folder) / "case").touch()
        (Path(folder) / "\u00e9").touch()
        return (Path(folder) / "CASE").exists(), (Path(folder) / "e\u0301").exists()


class Plan(NamedTuple):
    """The pairs to make.

    Attributes:
        batches: Images that share a canvas, for ``PairGenerator.arrange``; each has its ``size`` and the key of its
            pair.
        failures: Images that cannot become pairs.
    """

    batches: list[list[Picture]]
    failures: list[Failure]


def plan(
    pictures: list[Picture], generator: PairGenerator, done: Container[str] = (), root: Path | None = None
) -> Plan:
    """Group the missing pairs by canvas, in batches that run together.

    Only headers are read, once per image for all its variants. An image that is cut into tiles has its own batch, so
    that its pair is on disk before the next one begins.

    Args:
        pictures: HQ images.
        generator: The generator, with its walk added, because canvases depend on it.
        done: Keys of the pairs that exist.
        root: The pairs folder, whose file system limits the length of names; ``None`` if nothing is written.

    Returns:
        The batches, and the images that cannot become pairs.
    """
    todo = [(one, list(filterfalse(done.__contains__, variant_keys(one.key, generator.variants)))) for one in pictures]
    longest, failures = None if root is None else longest_names(root), []
    for picture, keys in todo:
        if keys and not _fits(keys[-1], longest):  # the longest key
            reason = f"the name {keys[-1]}.png is too long for the pairs folder; shorten it"
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
    """Return whether the file names of a key are short enough; see ``longest_names``."""
    name = os.fsencode(f"{key}.png")
    return longest is None or (max(map(len, name.split(b"/"))) <= longest[0] and len(name) <= longest[1])
