"""A pair of pictures, what lies in one place of pairs, and what a manifest's line says of a pair."""

import json
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ddpm_pairs.images.find import Failure, Picture


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
        return replace(picture, key=f"{name}/{picture.key}", source=f"{name}/{picture.source}")

    pairs = [replace(p, key=f"{name}/{p.key}", hq=moved(p.hq), lq=moved(p.lq)) for p in found.pairs]
    failures = [Failure(f"{name}/{failure.source}", failure.reason) for failure in found.failures]
    return replace(found, pairs=pairs, failures=failures)


def record_of(line: str | bytes) -> dict[str, Any] | None:
    """The record of a manifest's line, or None for what is no record of a pair."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    named = isinstance(record, dict) and all(isinstance(record.get(name), str) for name in ("key", "hq", "lq"))
    return record if named and record["key"] and below_any_folder(record["key"]) == record["key"] else None


def is_rejected(record: dict[str, Any]) -> bool:
    """Whether the pair is marked `accepted: false`."""
    return record.get("accepted", True) is False


def psnr_told(record: dict[str, Any]) -> float | None:
    """The record's `psnr` in dB; an infinite number is null in a manifest."""
    psnr = record.get("psnr", "unknown")
    psnr = math.inf if psnr is None else psnr
    return psnr if isinstance(psnr, int | float) else None


def content_of(key: str) -> str:
    """What the pair shows: the key without the `~<n>` of variants."""
    return re.sub(r"~\d+$", "", key)


def below_any_folder(name: str) -> str:
    """A name that cannot lead out of the folder where results are named after it."""
    return "/".join(part for part in PurePosixPath(name).parts if part not in ("/", ".."))
