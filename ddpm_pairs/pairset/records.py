"""The manifest record of a pair, its key and variants, and a pair as sources and packed copies hold it."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

from ddpm_pairs.images.find import Failure, Picture

KINDS = ("hq", "lq")
"""The two sides of a pair: folders, fields of a record, and suffixes in packed copies."""

LONGEST_LINE = 2**24
"""Bytes of a line of JSON that are read; a longer one counts as broken, whatever it holds."""

_VARIANT = re.compile(r"~\d+$")

Record = dict[str, Any]
"""One line of a manifest. Only ``key``, ``hq`` and ``lq`` must be there for the pair to be found."""


def is_record(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Whether a JSON value is the record of a pair.

    Its key and names must stay inside the folder that holds them, and its files must be below ``hq/`` and ``lq/``.
    """
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in ("key", *KINDS)):
        return False
    inside = all(value[kind].startswith(f"{kind}/") and stays_below(value[kind]) for kind in KINDS)
    return inside and is_key(value["key"])


def parse_record(line: bytes) -> Record | None:
    """The record of a manifest line, or ``None`` for a line that is broken or no record of a pair."""
    value = _parsed(line)
    return value if is_record(value) else None


def lines_in(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Read an opened JSONL file from its beginning, line by line, in the memory of one line.

    Yields:
        Where each line begins, in bytes, and its value; ``None`` for what is no JSON, such as the torn last line of a
        process that was killed.
    """
    position = 0
    while line := file.readline(LONGEST_LINE):
        length = len(line)
        while not line.endswith(b"\n") and (more := file.readline(LONGEST_LINE)):
            line, length = more, length + len(more)
        yield position, _parsed(line) if length <= LONGEST_LINE else None
        position += length


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Read a JSONL file; see ``lines_in``."""
    with path.open("rb") as file:
        yield from lines_in(file)


def read_records(path: Path) -> Iterator[tuple[int, Record | None]]:
    """Read a manifest as ``read_lines`` does; ``None`` stands for lines that are no record of a pair."""
    return ((position, value if is_record(value) else None) for position, value in read_lines(path))


def line_at(path: Path, position: int) -> bytes:
    """The line of a manifest that begins at a byte, with its line break."""
    with path.open("rb") as file:
        file.seek(position)
        return file.readline().strip() + b"\n"


def line_of(record: Record) -> str:
    """A record as a line of a manifest, with its line break."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def meta_line(record: Record) -> str:
    """A record as a line of ``meta_info.txt``, with its line break."""
    return f"{record['hq']}, {record['lq']}\n"


def file_name(kind: str, key: str) -> str:
    """The name of one file of a pair inside the pairs folder."""
    return f"{kind}/{key}.png"


def is_rejected(record: Record) -> bool:
    """Whether the pair is marked ``accepted: false``."""
    return record.get("accepted", True) is False


def recorded_psnr(record: Record) -> float | None:
    """The ``psnr`` of a record in dB, infinite where the line says null; ``None`` where it says nothing."""
    psnr = record.get("psnr", "unknown")
    psnr = math.inf if psnr is None else psnr
    return psnr if isinstance(psnr, int | float) else None


def recorded_size(record: Record, kind: str) -> tuple[int, int] | None:
    """(height, width) of one side of a pair; ``None`` where the record does not say them."""
    size = record.get(f"{kind}_size")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size)):
        return None
    return size[1], size[0]


# Keys


def variant_key(key: str, number: int) -> str:
    """The key of a variant of an image: the image's own key for number 0, then ``<key>~1``, ``<key>~2``, ..."""
    return f"{key}~{number}" if number else key


def variant_keys(key: str, variants: int) -> list[str]:
    """The keys of all pairs made from one image, its own first."""
    return [variant_key(key, number) for number in range(variants)]


def content_of(key: str) -> str:
    """What a pair shows: its key without the ``~<n>`` of variants."""
    return _VARIANT.sub("", key)


def quote_key(key: str) -> str:
    """A key as packed copies carry it: ASCII without dots, since both formats start the suffix at the first dot.

    ``/`` and ``~`` stay as they are.
    """
    return quote(key, safe="/~").replace(".", "%2E")


def unquote_key(name: str) -> str:
    """The key that ``quote_key`` quoted."""
    return unquote(name)


def is_key(name: str) -> bool:
    """Whether a name can be the key of a pair, after which files are named in any folder."""
    return stays_below(name) and below_any_folder(name) == name


def stays_below(name: str) -> bool:
    """Whether a relative name with ``/`` cannot lead out of its folder, as far as the name itself can show."""
    parts = PurePosixPath(name).parts
    unwritable = any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in name)
    return bool(parts) and "/" not in parts and ".." not in parts and not unwritable


def below_any_folder(name: str) -> str:
    """A name without what could lead out of the folder where results are named after it."""
    return "/".join(part for part in PurePosixPath(name).parts if part not in ("/", ".."))


# Pairs


@dataclass(frozen=True)
class Sample:
    """A pair in memory, on its way into a packed copy.

    Attributes:
        name: Quoted key.
        record: Manifest record.
        hq: PNG file of the HQ image.
        lq: PNG file of the LQ image.
    """

    name: str
    record: Record
    hq: bytes
    lq: bytes


@dataclass(frozen=True)
class PicturePair:
    """A pair on disk.

    Attributes:
        key: Unique key of the pair.
        hq: HQ file.
        lq: LQ file.
        content: What the pair shows, which decides whether it is used for training or for validation: the key within
            its own source without the ``~<n>`` of variants.
        psnr: HQ against LQ enlarged bicubically, in dB, where a record says it; infinite where they are equal.
    """

    key: str
    hq: Picture
    lq: Picture
    content: str
    psnr: float | None = None


@dataclass
class FoundPairs:
    """The pairs of one source.

    Attributes:
        place: Folder or file, as the user named it.
        option: Command line option that named it.
        pairs: Sorted by key.
        failures: Files and lines that are no half of a pair.
        rejected: Number of pairs left out because they are marked ``accepted: false``.
    """

    place: str
    option: str
    pairs: list[PicturePair] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    rejected: int = 0


def _parsed(line: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
