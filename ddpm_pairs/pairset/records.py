"""The manifest record of a pair, its key and variants, and manifests: reading, sorting and summarizing them."""

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


def records_in(path: Path) -> Iterator[Record]:
    """Read the records of a manifest one by one, without the lines that are none."""
    return (record for _, record in read_records(path) if record is not None)


def find_pairs(root: Path, manifests: Iterable[Path]) -> dict[str, tuple[Path, int]]:
    """Find the pairs that exist: those with a line whose HQ and LQ files are in place.

    Args:
        root: The pairs folder.
        manifests: Its manifest and the parts, the latest last: of several lines for one key the last one counts.

    Returns:
        For each key, the file of its line and the byte at which the line begins.
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
    """Read the lines that ``find_pairs`` finds one by one, in code-point order of their keys, with line breaks."""
    found = find_pairs(root, manifests)
    with ExitStack() as stack:
        opened = {path: stack.enter_context(path.open("rb")) for path in {path for path, _ in found.values()}}
        for path, position in (found[key] for key in sorted(found)):
            opened[path].seek(position)
            yield opened[path].readline().strip() + b"\n"


def meta_lines(records: Iterable[Record]) -> Iterator[bytes]:
    """The lines of ``meta_info.txt``, one per record, with line breaks."""
    return (f"{record['hq']}, {record['lq']}\n".encode() for record in records)


def line_at(path: Path, position: int) -> bytes:
    """The line of a manifest that begins at a byte, with its line break."""
    with path.open("rb") as file:
        file.seek(position)
        return file.readline().strip() + b"\n"


def line_of(record: Record) -> str:
    """A record as a line of a manifest, with its line break."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def file_name(kind: str, key: str) -> str:
    """The name of one file of a pair inside the pairs folder."""
    return f"{kind}/{key}.png"


def is_rejected(record: Record) -> bool:
    """Whether the pair is marked ``accepted: false``."""
    return record.get("accepted", True) is False


def recorded_psnr(record: Record, name: str = "psnr") -> float | None:
    """The ``psnr`` or ``psnr_initial`` of a record in dB, infinite if the line says null; ``None`` if it is missing."""
    psnr = record.get(name, "unknown")
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


class Summary:
    """Streaming summary of pairs; 16 bytes of memory per pair. Fields that a record does not have count as zero.

    Args:
        records: Manifest records to count at once.

    Attributes:
        pairs: Number of pairs.
        accepted: Number of pairs that passed the quality gate.
        evaluations: Network evaluations of all pairs together.
        t: Sum of the t of all pairs.
        psnr: PSNR of each LQ image in dB, infinite if it equals the HQ image.
        psnr_initial: The same for each initial LQ image.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.pairs = self.accepted = self.evaluations = self.t = 0
        self.psnr, self.psnr_initial = array("d"), array("d")
        for _ in self.counted(records):
            pass

    def counted(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass records on one by one, and count each."""
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
    """A whole number of a record; 0 if it is missing or something else."""
    value = record.get(name)
    return value if isinstance(value, int) else 0


def _parsed(line: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
