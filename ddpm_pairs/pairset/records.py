"""Manifest records, keys, and variants of pairs; reading, sorting, and summarizing manifests."""

import json
import math
import re
from array import array
from collections.abc import Container, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from stat import S_ISLNK, S_ISREG
from typing import Any

from pydantic import ValidationError

from ddpm_pairs.files import lines_in, parse_line
from ddpm_pairs.pairset.schema import RECORD, fault

KINDS = ("hq", "lq")
"""The two sides of a pair. Folders, record fields, and suffixes in packed copies have these names."""

MOST_BYTES = 2**31
"""Maximum size of an image file; 500 million pixels fit, and a sparse file of terabytes does not."""

BROKEN = "not valid JSON"
"""The fault of a line that was truncated when a process was killed, or damaged."""

_VARIANT = re.compile(r"~\d+$")
_LEAVES = re.compile(r"/|(?:.*/)?\.\.(?:/|$)|(?:\.?/)*\.?$|.*[\0-\x1f\x7f-\x9f\ud800-\udfff]", re.DOTALL)
"""An absolute name, a part ``..``, no part at all, or a character that cannot be written."""
_LOOSE = re.compile(r".*(?://|/$)|(?:.*/)?\.(?:/|$)", re.DOTALL)
"""A name with empty parts or parts ``.``."""

Record = dict[str, Any]
"""One line of a manifest. Only ``key``, ``hq``, and ``lq`` are required for the pair to be found."""


def fault_of(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """Return in one line why a JSON value is not the record of a pair, or ``None`` if it is one.

    Its key and file names must stay inside their folder, its files must be below ``hq/`` and ``lq/``, and all fields
    that this package knows must have the right type.
    """
    if value is None:
        return BROKEN
    try:
        RECORD.validate_python(value)
    except ValidationError as error:
        return fault(error)
    for kind in KINDS:
        if not (value[kind].startswith(f"{kind}/") and stays_below(value[kind])):
            return f"{kind}: got {ascii(value[kind])}; expected a file below {kind}/"
    return None if is_key(value["key"]) else f"key: got {ascii(value['key'])}; expected a relative name without .."


def parse_record(line: bytes) -> Record | None:
    """Parse a manifest line. Return ``None`` if the line is broken or not the record of a pair."""
    value = parse_line(line)
    return None if fault_of(value) else value


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Read a JSONL file; see ``lines_in``."""
    with path.open("rb") as file:
        yield from lines_in(file)


def read_records(path: Path) -> Iterator[tuple[int, Record | None]]:
    """Read a manifest like ``read_lines``, with ``None`` for each line that is not the record of a pair."""
    return ((position, None if fault_of(value) else value) for position, value in read_lines(path))


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
    files = Files(root)
    for path in manifests:
        for position, record in read_records(path):
            if record is not None:
                found[record["key"]] = (path, position)
                if files.fault(record["hq"]) or files.fault(record["lq"]):
                    del found[record["key"]]
    return found


class Files:
    """The files of a pairs folder that may be read: regular files, and links to regular files inside the folder.

    Links to folders are followed, so that ``hq/`` may lie on another disk.

    Args:
        root: The pairs folder.
        most_bytes: Maximum size of a file.
    """

    def __init__(self, root: Path, most_bytes: int = MOST_BYTES) -> None:
        self.root, self.most_bytes, self._real = root, most_bytes, root.resolve()

    def fault(self, name: str) -> str | None:
        """Return why a file must not be read, or ``None`` if it may be; takes 10 microseconds.

        Args:
            name: Its name relative to the folder, for which ``stays_below`` holds.
        """
        path = self.root / name
        try:
            found = path.lstat()
            if S_ISLNK(found.st_mode):
                if not path.resolve(strict=True).is_relative_to(self._real):
                    return "is a link to a file outside the folder"
                found = path.stat()
        except (OSError, RuntimeError):  # links in a circle
            return "does not exist"
        if not S_ISREG(found.st_mode):
            return "is not a regular file"
        return None if found.st_size <= self.most_bytes else f"has {found.st_size} bytes, too many"


def sorted_lines(root: Path, manifests: Iterable[Path], without: Container[str] = ()) -> Iterator[bytes]:
    """Yield the lines that ``find_pairs`` finds, in code-point order of their keys, with line breaks.

    Args:
        root: See ``find_pairs``.
        manifests: See ``find_pairs``.
        without: Keys to leave out.
    """
    found = find_pairs(root, manifests)
    with ExitStack() as stack:
        opened = {path: stack.enter_context(path.open("rb")) for path in {path for path, _ in found.values()}}
        for path, position in (found[key] for key in sorted(found) if key not in without):
            opened[path].seek(position)
            yield opened[path].readline().strip() + b"\n"


def meta_line(record: Record) -> bytes:
    """Return the line of a pair in ``meta_info.txt``, with its line break; empty if the file does not name the pair.

    The file names accepted pairs only, because its readers do not look at the manifest, and no name with a comma,
    because they split lines at commas.
    """
    if is_rejected(record) or "," in record["hq"] or "," in record["lq"]:
        return b""
    return f"{record['hq']}, {record['lq']}\n".encode()


def meta_lines(records: Iterable[Record], summary: "Summary") -> Iterator[bytes]:
    """Yield the lines of ``meta_info.txt``, and count the accepted pairs that it cannot name."""
    for record in records:
        line = meta_line(record)
        summary.unnamed += not line and not is_rejected(record)
        yield line


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
    """Return ``psnr`` or ``psnr_initial`` in dB: infinity if it is null, ``None`` if it is missing."""
    if name not in record:
        return None
    return math.inf if record[name] is None else record[name]


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


def is_key(name: str) -> bool:
    """Check whether a name can be the key of a pair, from which file names in any folder are made."""
    return not _LEAVES.match(name) and not _LOOSE.match(name)


def stays_below(name: str) -> bool:
    """Check that a relative name with ``/`` does not lead outside its folder; links are not checked.

    Names with control characters or lone surrogates are refused, because they cannot be written to text files and
    terminals.
    """
    return not _LEAVES.match(name)


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
        unnamed: Number of these that ``meta_info.txt`` cannot name; counted by ``meta_lines``.
        evaluations: Network evaluations of all pairs together.
        t: Sum of t over all pairs.
        psnr: PSNR of each LQ image in dB, infinity if it equals the HQ image.
        psnr_initial: PSNR of each initial LQ image in dB, in the same way.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.pairs = self.accepted = self.unnamed = self.evaluations = self.t = 0
        self.psnr, self.psnr_initial = array("d"), array("d")
        for _ in self.counted(records):
            pass

    def counted(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records unchanged and count each of them."""
        for record in records:
            self.pairs += 1
            self.accepted += not is_rejected(record)
            self.evaluations += record.get("evaluations", 0)
            self.t += record.get("t", 0)
            for name, values in (("psnr", self.psnr), ("psnr_initial", self.psnr_initial)):
                if (psnr := recorded_psnr(record, name)) is not None:
                    values.append(psnr)
            yield record
