"""Find pairs: in a pairs folder, in hq/ and lq/ of anybody's, in a meta_info file, or packed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.find import Failure, Picture, find_pictures
from ddpm_pairs.pairset.lmdb_sources import SIDES, of_lmdb
from ddpm_pairs.pairset.records import (
    FoundPairs,
    PicturePair,
    below_any_folder,
    content_of,
    is_rejected,
    psnr_told,
    record_of,
)
from ddpm_pairs.pairset.shard_sources import INDEX, of_shards

MANIFESTS = "manifest*.jsonl"
"""The manifest of a pairs folder, and the parts that it has while it is being made."""


def find_pairs(place: str, option: str, include_rejected: bool = False) -> FoundPairs:
    """All pairs of a place; no picture is opened.

    A folder with a manifest holds the pairs that the manifest names, finished or not; any other folder those pictures
    of `hq/` and `lq/` that share a key. Of a text file each line is `<HQ path>, <LQ path>`, relative to the file's own
    folder; the key is the HQ path without suffix and without `hq/` at its begin, further lines of one HQ picture are
    its variants `<key>~1`, `<key>~2`, ...

    What `ddpm-pairs pack` wrote holds the pairs that were packed, by the keys that they had in their folder. Shards
    tell PSNR and which pairs are not accepted; LMDB does not, so all that were packed are taken.

    Args:
        place: the folder or file.
        option: the command line option that named it, for the error texts.
        include_rejected: take pairs that the manifest marks `accepted: false` too.

    Raises:
        UserError: the place is missing, is none of these, cannot be read, or holds no pair.
    """
    root = Path(place)
    if root.is_file():
        found = _of_text(root, option)
    elif not root.is_dir():
        raise UserError(f"{option}: there is no {place!r}; give a pairs folder, packed pairs or a meta_info file")
    elif (root / INDEX).is_file():
        found = of_shards(root, option, include_rejected)
    elif any((root / side).is_dir() for side in SIDES):
        found = of_lmdb(root, option)
    elif any(root.glob(MANIFESTS)):
        found = _of_manifest(root, option, include_rejected)
    elif (root / "hq").is_dir() and (root / "lq").is_dir():
        found = _of_folders(root, option)
    else:
        raise UserError(
            f"{option}: {place!r} holds neither manifest.jsonl nor hq/ and lq/, nor packed pairs "
            f"({INDEX}, {' and '.join(SIDES)}); give a folder of pairs"
        )
    found.pairs.sort(key=lambda pair: pair.key)
    found.failures.sort(key=lambda failure: failure.source)
    if not found.pairs and found.rejected:
        raise UserError(
            f"{option}: all {found.rejected} pairs of {place!r} are marked as not accepted; "
            "give other pairs, or --data.include_rejected true"
        )
    if not found.pairs:
        first = f" ({found.failures[0].source}: {found.failures[0].reason})" if found.failures else ""
        raise UserError(f"{option}: no pair in {place!r}{first}; give a folder of pairs")
    return found


def _of_manifest(root: Path, option: str, include_rejected: bool) -> FoundPairs:
    found = FoundPairs(str(root), option)
    records: dict[str, dict[str, Any]] = {}
    for path in sorted(root.glob(MANIFESTS)):
        for number, record in _records(path):
            if record is None:
                found.failures.append(Failure(path.name, f"line {number} is no line of a manifest"))
            else:
                records[record["key"]] = record
    for key, record in records.items():
        if is_rejected(record) and not include_rejected:
            found.rejected += 1
        else:
            _add(found, root, key, (record["hq"], record["lq"]), psnr_told(record))
    return found


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Numbers and records of a manifest's lines, None for what is no record of a pair."""
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        if text:
            yield number, record_of(text)


def _of_folders(root: Path, option: str) -> FoundPairs:
    found = FoundPairs(str(root), option)
    sides = {}
    for side in ("hq", "lq"):
        pictures, failures = find_pictures(root / side, option)
        sides[side] = {picture.key: replace(picture, source=f"{side}/{picture.source}") for picture in pictures}
        found.failures += [Failure(f"{side}/{failure.source}", failure.reason) for failure in failures]
    for side, other in (("hq", "lq"), ("lq", "hq")):
        for key in sides[side].keys() - sides[other].keys():
            found.failures.append(Failure(sides[side][key].source, f"{other}/ has no picture of this name"))
    both = sides["hq"].keys() & sides["lq"].keys()
    found.pairs = [PicturePair(key, sides["hq"][key], sides["lq"][key], content_of(key)) for key in both]
    return found


def _of_text(path: Path, option: str) -> FoundPairs:
    found = FoundPairs(str(path), option)
    times: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{option}: {str(path)!r} is no text; give a folder of pairs or a meta_info file") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        names = [name.strip() for name in line.split(",")]
        if len(names) != 2 or not all(names):
            found.failures.append(Failure(path.name, f"line {number} is not `<HQ path>, <LQ path>`"))
            continue
        key = _key(names[0])
        times[key] = times.get(key, -1) + 1
        _add(found, path.parent, f"{key}~{times[key]}" if times[key] else key, names, None)
    return found


def _add(found: FoundPairs, root: Path, key: str, names: tuple[str, str] | list[str], psnr: float | None) -> None:
    """Add the pair of two files, or say which of them is missing."""
    hq, lq = (Picture(key, root / name, name) for name in names)
    missing = [one for one in (hq, lq) if not one.path.is_file()]
    for one in missing:
        found.failures.append(Failure(one.source, f"there is no such file for the pair {key!r}"))
    if not missing:
        found.pairs.append(PicturePair(key, hq, lq, content_of(key), psnr))


def _key(name: str) -> str:
    """The key of an HQ picture's path."""
    return below_any_folder(name.removesuffix(PurePosixPath(name).suffix)).removeprefix("hq/")
