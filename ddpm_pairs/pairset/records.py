"""Manifest records, keys, and variants of pairs; reading, sorting, and summarizing manifests."""

import json
import math
import re
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

KINDS = ("hq", "lq")
"""The two sides of a pair. Folders, record fields, and suffixes in packed copies have these names."""

LONGEST_LINE = 2**24
"""Maximum length of a JSON line in bytes. Any longer line counts as broken."""

_VARIANT = re.compile(r"~\d+$")

Record = dict[str, Any]
"""One line of a manifest. Only ``key``, ``hq``, and ``lq`` are required for the pair to be found."""


def is_record(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Check whether a JSON value is the record of a pair.

    Its key and file names must stay inside their folder, and its files must be below ``hq/`` and ``lq/``.
    """
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in ("key", *KINDS)):
        return False
    inside = all(value[kind].startswith(f"{kind}/") and stays_below(value[kind]) for kind in KINDS)
    return inside and is_key(value["key"])


def parse_record(line: bytes) -> Record | None:
    """Parse a manifest line. Return ``None`` if the line is broken or not the record of a pair."""
    value = _parsed(line)
    return value if is_record(value) else None


def lines_in(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Read an open JSONL file line by line, with only one line in memory.

    Args:
        file: The file, positioned at its beginning.

    Yields:
        The byte offset of each line and its value. The value is ``None`` if the line is not JSON, such as the truncated
        last line of a process that was killed.
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
    """Read a manifest like ``read_lines``, with ``None`` for each line that is not the record of a pair."""
    return ((position, value if is_record(value) else None) for position, value in read_lines(path))


def records_in(path: Path) -> Iterator[Record]:
    """Read the records of a manifest one by one, skipping lines that are not records."""
    return (record for _, record in read_records(path) if record is not None)


def find_pairs(root: Path, manifests: Iterable[Path]) -> dict[str, tuple[Path, int]]:
    """Find the pairs that exist: those with a line whose HQ and LQ files both exist.

    Args:
        root: The pairs folder.
        manifests: Its manifest and the parts, the latest last. If a key has several lines, the last one counts.

    Returns:
        For each key, the file that contains its line and the byte offset of the line.
    """
    found: dict[str, tuple[Path, int]] = {}
    for path in manifests:
        for position, record in read_records(path):
            if record is not None:
                found[record["key"]] = (path, position)
                if not ((root / record["hq"]).is_file() and (root / record["lq"]).is_file()):
                    del found[record["key"]]
    return found


def sorted_lines(root: Path, manifests: Iterable[Path]) -> Iterator[bytes]:
    """Yield the lines that ``find_pairs`` finds, in code-point order of their keys, with line breaks."""
    found = find_pairs(root, manifests)
    with ExitStack() as stack:
        opened = {path: stack.enter_context(path.open("rb")) for path in {path for path, _ in found.values()}}
        for path, position in (found[key] for key in sorted(found)):
            opened[path].seek(position)
            yield opened[path].readline().strip() + b"\n"


def meta_lines(records: Iterable[Record]) -> Iterator[bytes]:
    """Return the lines of ``meta_info.txt``, one per record, with line breaks."""
    return (f"{record['hq']}, {record['lq']}\n".encode() for record in records)


def line_at(path: Path, position: int) -> bytes:
    """Read the manifest line at a byte offset, with its line break."""
    with path.open("rb") as file:
        file.seek(position)
        return file.readline().strip() + b"\n"


def line_of(record: Record) -> str:
    """Format a record as a manifest line, with its line break."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def file_name(kind: str, key: str) -> str:
    """Return the name of one file of a pair inside the pairs folder."""
    return f"{kind}/{key}.png"


def is_rejected(record: Record) -> bool:
    """Check whether the pair is marked ``accepted: false``."""
    return record.get("accepted", True) is False


def recorded_psnr(record: Record, name: str = "psnr") -> float | None:
    """Return ``psnr`` or ``psnr_initial`` in dB: infinity if it is null, ``None`` if it is missing or invalid."""
    psnr = record.get(name, "unknown")
    psnr = math.inf if psnr is None else psnr
    return psnr if isinstance(psnr, int | float) else None


def recorded_size(record: Record, kind: str) -> tuple[int, int] | None:
    """Return the (height, width) of one side of a pair, or ``None`` if the record has no valid size."""
    size = record.get(f"{kind}_size")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size)):
        return None
    return size[1], size[0]


# Keys


def variant_key(key: str, number: int) -> str:
    """Return the key of a variant: the key of the image for number 0, then ``<key>~1``, ``<key>~2``, ..."""
    return f"{key}~{number}" if number else key


def variant_keys(key: str, variants: int) -> list[str]:
    """Return the keys of all pairs made from one image, starting with the key of the image."""
    return [variant_key(key, number) for number in range(variants)]


def content_of(key: str) -> str:
    """Return the key without the ``~<n>`` of variants. It identifies the content of the pair."""
    return _VARIANT.sub("", key)


def quote_key(key: str) -> str:
    """Quote a key for packed copies: ASCII without dots, because both formats start the suffix at the first dot.

    ``/`` and ``~`` are not changed.
    """
    return quote(key, safe="/~").replace(".", "%2E")


def unquote_key(name: str) -> str:
    """Invert ``quote_key``."""
    return unquote(name)


def is_key(name: str) -> bool:
    """Check whether a name can be the key of a pair, from which file names in any folder are made."""
    return stays_below(name) and below_any_folder(name) == name


def stays_below(name: str) -> bool:
    """Check that a relative name with ``/`` does not lead outside its folder; links are not checked."""
    parts = PurePosixPath(name).parts
    unwritable = any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in name)
    return bool(parts) and "/" not in parts and ".." not in parts and not unwritable


def below_any_folder(name: str) -> str:
    """Drop the parts of a name that could lead outside the folder in which results are named after it."""
    return "/".join(part for part in PurePosixPath(name).parts if part not in ("/", ".."))


class Summary:
    """Streaming summary of pairs that takes 16 bytes of memory per pair.

    If a record lacks ``evaluations`` or ``t``, it counts as zero.

    Args:
        records: Manifest records to count immediately.

    Attributes:
        pairs: Number of pairs.
        accepted: Number of pairs that passed the quality gate.
        evaluations: Network evaluations of all pairs together.
        t: Sum of t over all pairs.
        psnr: PSNR of each LQ image in dB, infinity if it equals the HQ image.
        psnr_initial: PSNR of each initial LQ image in dB, in the same way.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.pairs = self.accepted = self.evaluations = self.t = 0
        self.psnr, self.psnr_initial = array("d"), array("d")
        for _ in self.counted(records):
            pass

    def counted(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records unchanged and count each of them."""
        for record in records:
            self.pairs += 1
            self.accepted += not is_rejected(record)
            self.evaluations += _count(record, "evaluations")
            self.t += _count(record, "t")
            for name, values in (("psnr", self.psnr), ("psnr_initial", self.psnr_initial)):
                if (psnr := recorded_psnr(record, name)) is not None:
                    values.append(psnr)
            yield record


def _count(record: Record, name: str) -> int:
    """Return an integer field of a record, or 0 if it is missing or not an integer."""
    value = record.get(name)
    return value if isinstance(value, int) else 0


def _parsed(line: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
