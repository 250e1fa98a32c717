"""The pairs folder: publishing pairs one by one, so that a run may die at any moment and go on later.

While a run is under way each rank appends to ``manifest.rank<r>.jsonl``; at the end (and at the start of the next run)
the parts become one sorted ``manifest.jsonl``. A pair exists when its line and both its files do: files are written
beside their place and moved there whole, and the line follows last.
"""

import json
import math
from array import array
from collections.abc import Container, Iterable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from ddpm_pairs.errors import OutputError
from ddpm_pairs.files import as_output_error, atomic_file, encode_png, write_atomically
from ddpm_pairs.images.find import Failure

MANIFEST, FAILURES, META_INFO = "manifest.jsonl", "failures.jsonl", "meta_info.txt"
PARTS, FAILURE_PARTS = "manifest.rank*.jsonl", "failures.rank*.jsonl"
_TEMPORARY = ("hq/**/*.tmp", "lq/**/*.tmp", f".{'[0-9a-f]' * 16}.*.tmp", "run.yaml.tmp", "contact_sheet.png.tmp")


class PairsFolder:
    """One folder of pairs on disk.

    Args:
        root: The folder; made when the first thing is written.
        rank: Whose part of the manifest this process appends to.
    """

    def __init__(self, root: str | Path, rank: int = 0) -> None:
        self.root, self.rank = Path(root), rank

    def keys(self) -> set[str]:
        """The keys of ``records()``, in the memory of the keys alone."""
        keys = set()
        for path in self.manifests():
            for _, record in read_lines(path):
                if is_record(record):
                    (keys.add if self._has_files(record) else keys.discard)(record["key"])
        return keys

    def records(self) -> Iterator[dict[str, Any]]:
        """Manifest lines of the pairs that exist, read one by one in code-point order of their keys.

        Torn or foreign lines, and those whose HQ or LQ file is missing, count as absent.
        """
        return map(json.loads, self._sorted_lines())

    def record(self, key: str) -> dict[str, Any] | None:
        """The manifest line of one pair; ``None`` where there is no such pair."""
        found = None
        for path in self.manifests():
            for _, record in read_lines(path):
                if is_record(record) and record["key"] == key:
                    found = record if self._has_files(record) else None
        return found

    def manifests(self) -> list[Path]:
        """The manifest and its parts, as far as there are any; of one key the last line counts."""
        return [path for path in (self.root / MANIFEST, *sorted(self.root.glob(PARTS))) if path.is_file()]

    def path(self, name: str) -> Path:
        """Where a file of the folder lies.

        Args:
            name: As in a manifest line: relative, with ``/``.

        Raises:
            OutputError: for a name that leads out of the folder, also where a link lets it.
        """
        path = self.root / name
        if not stays_below(name) or not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise OutputError(f"{name!r} leads out of {self.root}: expected a name below it, and no links to elsewhere")
        return path

    def store(self, hq: Tensor | bytes, lq: Tensor | bytes, record: dict[str, Any]) -> dict[str, Any]:
        """Place the files of a pair. Several threads may do so at once, for different pairs.

        Args:
            hq: (3, H, W), uint8, or a PNG file's bytes.
            lq: (3, h, w), uint8, or a PNG file's bytes.
            record: The manifest line without the files' hashes; ``hq`` and ``lq`` name the files.

        Returns:
            The whole line, for ``append``.

        Raises:
            OutputError: if a file cannot be written, or its name leads out of the folder.
        """
        hq_png, lq_png = (one if isinstance(one, bytes) else encode_png(one) for one in (hq, lq))
        write_atomically(self.path(record["hq"]), hq_png, self.rank)
        write_atomically(self.path(record["lq"]), lq_png, self.rank)
        return record | {"hq_sha256": sha256(hq_png).hexdigest(), "lq_sha256": sha256(lq_png).hexdigest()}

    def append(self, line: dict[str, Any]) -> None:
        """Append the line of a pair whose files are in place; the pair exists when this returns.

        Raises:
            OutputError: if it cannot be written.
        """
        self._append(f"manifest.rank{self.rank}.jsonl", line)

    def report(self, failures: Iterable[Failure]) -> None:
        """Note sources that gave no pair in this rank's part of the failures."""
        for failure in failures:
            self._append(f"failures.rank{self.rank}.jsonl", {"source": failure.source, "reason": failure.reason})

    def compact(self) -> None:
        """Join the parts of the manifest, and remove what an interrupted run left half done. One process at a time."""
        if not self.root.is_dir():
            return
        with as_output_error(self.root):
            with atomic_file(self.root / MANIFEST, self.rank) as manifest:
                manifest.writelines(self._sorted_lines())
            for pattern in (PARTS, FAILURE_PARTS, *_TEMPORARY):
                for path in self.root.glob(pattern):
                    if path.is_file():  # a folder of keys may be called x.tmp
                        self.path(path.relative_to(self.root).as_posix()).unlink()

    def join(self, failures: Iterable[Failure]) -> list[Failure]:
        """End a run on disk: one sorted manifest, ``meta_info.txt`` and ``failures.jsonl``. One process at a time.

        Args:
            failures: Sources known to give no pair; those that ranks reported are added.

        Returns:
            All failures, sorted by source.

        Raises:
            OutputError: if a file cannot be written.
        """
        gathered = {failure.source: failure for failure in failures}
        for path in self.root.glob(FAILURE_PARTS):
            gathered.update({failure.source: failure for failure in read_failures(path)})
        failed = [gathered[source] for source in sorted(gathered)]
        with as_output_error(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        self.compact()
        with atomic_file(self.root / META_INFO, self.rank) as file:
            file.writelines(meta_line(record).encode() for record in self.joined())
        lines = [line_of({"source": failure.source, "reason": failure.reason}) for failure in failed]
        write_atomically(self.root / FAILURES, "".join(lines).encode(), self.rank)
        return failed

    def joined(self) -> Iterator[dict[str, Any]]:
        """The records of a folder that ``join`` has joined, read one by one, as they stand there."""
        return (record for _, record in read_lines(self.root / MANIFEST))

    def joined_at(self, numbers: Container[int]) -> list[dict[str, Any]]:
        """Some records of a folder that ``join`` has joined, by their line's number from 0; only those are parsed."""
        with (self.root / MANIFEST).open("rb") as file:
            return [json.loads(line) for number, line in enumerate(file) if number in numbers]

    def _sorted_lines(self) -> Iterator[bytes]:
        """The lines of the pairs that exist, with their line breaks; of each key only its line's place is kept."""
        lines: dict[str, tuple[Path, int]] = {}
        for path in self.manifests():
            for position, record in read_lines(path):
                if is_record(record):
                    lines[record["key"]] = (path, position)
                    if not self._has_files(record):
                        del lines[record["key"]]
        with ExitStack() as stack:
            opened = {path: stack.enter_context(path.open("rb")) for path in {path for path, _ in lines.values()}}
            for path, position in (lines[key] for key in sorted(lines)):
                opened[path].seek(position)
                yield opened[path].readline().strip() + b"\n"

    def _has_files(self, record: dict[str, Any]) -> bool:
        return (self.root / record["hq"]).is_file() and (self.root / record["lq"]).is_file()

    def _append(self, name: str, line: dict[str, Any]) -> None:
        path = self.root / name
        with as_output_error(path):
            self.root.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(line_of(line).encode())


class Summary:
    """Streaming summary of the pairs of a folder; 16 bytes of memory per pair.

    Args:
        records: Manifest records, read once.

    Attributes:
        pairs: Number of pairs.
        accepted: Number of pairs that passed the quality gate.
        evaluations: Network evaluations of all pairs together.
        t: Sum of the t of all pairs.
        psnr: PSNR of each LQ image in dB, infinite where it equals the HQ image.
        psnr_initial: The same for each initial LQ image.
    """

    def __init__(self, records: Iterable[dict[str, Any]] = ()) -> None:
        self.pairs = self.accepted = self.evaluations = self.t = 0
        self.psnr, self.psnr_initial = array("d"), array("d")
        for record in records:
            self.pairs += 1
            self.accepted += record["accepted"]
            self.evaluations += record["evaluations"]
            self.t += record["t"]
            for name, values in (("psnr", self.psnr), ("psnr_initial", self.psnr_initial)):
                values.append(math.inf if record[name] is None else record[name])


def line_of(record: dict[str, Any]) -> str:
    """A record as a line of a manifest, its line break included."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def meta_line(record: dict[str, Any]) -> str:
    """A record as a line of ``meta_info.txt``, its line break included."""
    return f"{record['hq']}, {record['lq']}\n"


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The lines of a JSONL file: where each begins, in bytes, and its value; ``None`` for what is no JSON."""
    with path.open("rb") as file:
        position = 0
        for text in file:
            try:
                yield position, json.loads(text.decode())
            except (ValueError, RecursionError):  # the last line of a killed process may be torn
                yield position, None
            position += len(text)


def read_failures(path: Path) -> list[Failure]:
    """The failures that a file holds; torn lines count as absent."""
    lines = [line for _, line in read_lines(path) if isinstance(line, dict)]
    return [Failure(line["source"], line["reason"]) for line in lines if {"source", "reason"} <= line.keys()]


def is_record(record: Any) -> bool:  # noqa: ANN401 - whatever stood in the file
    """Whether a line's value is the record of a pair whose files lie where pairs lie."""
    if not isinstance(record, dict) or not all(isinstance(record.get(name), str) for name in ("key", "hq", "lq")):
        return False
    places = all(record[kind].startswith(f"{kind}/") for kind in ("hq", "lq"))
    return places and all(stays_below(record[name]) for name in ("key", "hq", "lq"))


def stays_below(name: str) -> bool:
    """Whether a relative name with ``/`` cannot lead out of its folder, as far as the name itself tells."""
    parts = PurePosixPath(name).parts
    return bool(parts) and "/" not in parts and ".." not in parts and not any(map(_unwritable, name))


def _unwritable(letter: str) -> bool:
    return letter == "\0" or "\ud800" <= letter <= "\udfff"
