"""Find pairs: in a pairs folder, in hq/ and lq/ of anybody's, or in a meta_info file."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ddpm_pairs.data.pictures import Failure, Picture, find_pictures

MANIFESTS = "manifest*.jsonl"
"""The manifest of a pairs folder, and the parts that it has while it is being made."""


@dataclass(frozen=True)
class PicturePair:
    """An HQ picture and its LQ picture on disk.

    Attributes:
        key: name of the pair, unlike that of any other.
        hq: the HQ file.
        lq: the LQ file.
        content: name of what the pair shows, by which it is for training or for validation: the key in its own folder
            without the `~<n>` of variants.
        psnr: HQ against LQ enlarged bicubically, in dB, where a manifest tells it; infinite where they are equal.
    """

    key: str
    hq: Picture
    lq: Picture
    content: str
    psnr: float | None = None


@dataclass
class FoundPairs:
    """What lies in one place.

    Attributes:
        place: the folder or file, as the user named it.
        option: the command line option that named it.
        pairs: sorted by key.
        failures: files and lines that are no half of a pair.
        rejected: number of pairs left out because they are marked `accepted: false`.
    """

    place: str
    option: str
    pairs: list[PicturePair] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    rejected: int = 0


def find_pairs(place: str, option: str, include_rejected: bool = False) -> FoundPairs:
    """All pairs of a place; no picture is opened.

    A folder with a manifest holds the pairs that the manifest names, finished or not; any other folder those pictures
    of `hq/` and `lq/` that share a key. Of a text file each line is `<HQ path>, <LQ path>`, relative to the file's own
    folder; the key is the HQ path without suffix and without `hq/` at its begin, further lines of one HQ picture are
    its variants `<key>~1`, `<key>~2`, ...

    Args:
        place: the folder or file.
        option: the command line option that named it, for the error texts.
        include_rejected: take pairs that the manifest marks `accepted: false` too.

    Raises:
        ValueError: the place is missing, is none of the three, or holds no pair.
    """
    root = Path(place)
    if root.is_file():
        found = _of_text(root, option)
    elif not root.is_dir():
        raise ValueError(f"{option}: there is no {place!r}; give a pairs folder or a meta_info file")
    elif any(root.glob(MANIFESTS)):
        found = _of_manifest(root, option, include_rejected)
    elif (root / "hq").is_dir() and (root / "lq").is_dir():
        found = _of_folders(root, option)
    else:
        raise ValueError(f"{option}: {place!r} holds neither manifest.jsonl nor hq/ and lq/; give a folder of pairs")
    found.pairs.sort(key=lambda pair: pair.key)
    found.failures.sort(key=lambda failure: failure.source)
    if not found.pairs and found.rejected:
        raise ValueError(
            f"{option}: all {found.rejected} pairs of {place!r} are marked as not accepted; "
            "give other pairs, or --data.include_rejected true"
        )
    if not found.pairs:
        first = f" ({found.failures[0].source}: {found.failures[0].reason})" if found.failures else ""
        raise ValueError(f"{option}: no pair in {place!r}{first}; give a folder of pairs")
    return found


def tell_apart(places: list[FoundPairs]) -> list[FoundPairs]:
    """Put the name of its place before each key and source, where there are several places."""
    if len(places) == 1:
        return places
    names = [Path(found.place).stem for found in places]
    if len(set(names)) < len(names):
        names = [f"{name}-{number}" for number, name in enumerate(names)]
    return [_below(found, name) for found, name in zip(places, names, strict=True)]


def _below(found: FoundPairs, name: str) -> FoundPairs:
    def moved(picture: Picture) -> Picture:
        return Picture(f"{name}/{picture.key}", picture.path, f"{name}/{picture.source}")

    pairs = [replace(p, key=f"{name}/{p.key}", hq=moved(p.hq), lq=moved(p.lq)) for p in found.pairs]
    failures = [Failure(f"{name}/{failure.source}", failure.reason) for failure in found.failures]
    return replace(found, pairs=pairs, failures=failures)


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
        if record.get("accepted", True) is False and not include_rejected:
            found.rejected += 1
            continue
        psnr = record.get("psnr", "unknown")
        psnr = math.inf if psnr is None else psnr  # an infinite number is null in a manifest
        _add(found, root, key, (record["hq"], record["lq"]), psnr if isinstance(psnr, int | float) else None)
    return found


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Numbers and records of a manifest's lines, None for what is no record of a pair."""
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        if not text:
            continue
        try:
            record = json.loads(text)
        except json.JSONDecodeError:
            record = None
        named = isinstance(record, dict) and all(isinstance(record.get(name), str) for name in ("key", "hq", "lq"))
        yield number, record if named and record["key"] and _below_any_folder(record["key"]) == record["key"] else None


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
    found.pairs = [PicturePair(key, sides["hq"][key], sides["lq"][key], _content(key)) for key in both]
    return found


def _of_text(path: Path, option: str) -> FoundPairs:
    found = FoundPairs(str(path), option)
    times: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{option}: {str(path)!r} is no text; give a pairs folder or a meta_info file") from None
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
        found.pairs.append(PicturePair(key, hq, lq, _content(key), psnr))


def _key(name: str) -> str:
    """The key of an HQ picture's path."""
    return _below_any_folder(name.removesuffix(PurePosixPath(name).suffix)).removeprefix("hq/")


def _below_any_folder(name: str) -> str:
    """A name that cannot lead out of the folder where results are named after it."""
    return "/".join(part for part in PurePosixPath(name).parts if part not in ("/", ".."))


def _content(key: str) -> str:
    return re.sub(r"~\d+$", "", key)
