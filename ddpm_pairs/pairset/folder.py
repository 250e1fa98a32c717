"""The pairs folder: pairs are published one by one, so that a run may die at any moment and be resumed.

While a run is under way each rank appends to ``manifest.rank<r>.jsonl``; at its end (and at the start of the next run)
the parts become one sorted ``manifest.jsonl``. A pair exists when its line and both its files do. Files are written
atomically, and the line follows last.
"""

import json
import math
from array import array
from collections.abc import Container, Iterable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from ddpm_pairs.errors import OutputError
from ddpm_pairs.files import as_output_error, atomic_file, encode_png, write_atomically
from ddpm_pairs.images.find import Failure
from ddpm_pairs.pairset.records import KINDS, Record, line_of, meta_line, read_records, stays_below
from ddpm_pairs.pairset.run_file import RUN_FILE
from ddpm_pairs.run_folder import RunFolder

MANIFEST, META_INFO = "manifest.jsonl", "meta_info.txt"
PARTS, MANIFESTS = "manifest.rank*.jsonl", "manifest*.jsonl"
_TEMPORARY = ("hq/**/*.tmp", "lq/**/*.tmp", f".{'[0-9a-f]' * 16}.*.tmp", "run.yaml.tmp", "contact_sheet.png.tmp")
"""What a killed run leaves half written; the last two by earlier versions."""


class PairsFolder:
    """One folder of pairs on disk.

    Args:
        root: The folder; made when the first file is written.
        rank: Whose part of the manifest this process appends to.
    """

    def __init__(self, root: str | Path, rank: int = 0) -> None:
        self.root, self.rank = Path(root), rank
        self.run = RunFolder(self.root, RUN_FILE, "pairs", rank)

    def keys(self) -> set[str]:
        """The keys of ``records()``, in the memory of the keys alone."""
        keys = set()
        for path in self.manifests():
            for _, record in read_records(path):
                if record is not None:
                    (keys.add if self._has_files(record) else keys.discard)(record["key"])
        return keys

    def records(self) -> Iterator[Record]:
        """Manifest records of the pairs that exist, read one by one in code-point order of their keys.

        Torn or foreign lines, and those whose HQ or LQ file is missing, count as absent.
        """
        return map(json.loads, self._sorted_lines())

    def record(self, key: str) -> Record | None:
        """The manifest record of one pair; ``None`` where there is no such pair."""
        found = None
        for path in self.manifests():
            for _, record in read_records(path):
                if record is not None and record["key"] == key:
                    found = record if self._has_files(record) else None
        return found

    def manifests(self) -> list[Path]:
        """The manifest and its parts, as far as they exist; of several lines for one key the last counts."""
        return [path for path in (self.root / MANIFEST, *sorted(self.root.glob(PARTS))) if path.is_file()]

    def path(self, name: str) -> Path:
        """The path of a file of the folder.

        Args:
            name: As in a manifest record: relative, with ``/``.

        Raises:
            OutputError: For a name that leads out of the folder, by a link too.
        """
        path = self.root / name
        if not stays_below(name) or not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise OutputError(f"{name!r} leads out of {self.root}; expected a name below it, and no links to elsewhere")
        return path

    def store(self, hq: Tensor | bytes, lq: Tensor | bytes, record: Record) -> Record:
        """Write the files of a pair. Several threads may do so at once, for different pairs.

        Args:
            hq: uint8 (3, H, W), or the bytes of a PNG file.
            lq: uint8 (3, h, w), or the bytes of a PNG file.
            record: The manifest record without the hashes of the files; ``hq`` and ``lq`` name the files.

        Returns:
            The complete record, for ``append``.

        Raises:
            OutputError: If a file cannot be written, or its name leads out of the folder.
        """
        pngs = {
            kind: one if isinstance(one, bytes) else encode_png(one) for kind, one in zip(KINDS, (hq, lq), strict=True)
        }
        for kind, png in pngs.items():
            # Not synced: two flushes a pair would take longer than making it, and a pair that a power cut tears is
            # found by its hash (`verify`) and made again to the last bit. What cannot be made again is synced.
            write_atomically(self.path(record[kind]), png, self.rank, sync=False)
        return record | {f"{kind}_sha256": sha256(png).hexdigest() for kind, png in pngs.items()}

    def append(self, record: Record) -> None:
        """Append the line of a pair whose files are in place; the pair exists when this returns.

        Raises:
            OutputError: If it cannot be written.
        """
        path = self.root / f"manifest.rank{self.rank}.jsonl"
        with as_output_error(path):
            self.root.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(line_of(record).encode())

    def report(self, failures: Iterable[Failure]) -> None:
        """Append sources that gave no pair to this rank's part of the failures; see ``RunFolder.report``."""
        self.run.report(failures)

    def compact(self) -> None:
        """Join the parts of the manifest, and remove what an interrupted run left half done. One process at a time.

        Raises:
            OutputError: If the manifest cannot be written.
        """
        if not self.root.is_dir():
            return
        with as_output_error(self.root):
            with atomic_file(self.root / MANIFEST, self.rank) as manifest:
                manifest.writelines(self._sorted_lines())
            for pattern in (PARTS, *_TEMPORARY):
                for path in self.root.glob(pattern):
                    if path.is_file():  # a folder of keys may be called x.tmp
                        self.path(path.relative_to(self.root).as_posix()).unlink()
        self.run.clear()

    def join(self, failures: Iterable[Failure]) -> list[Failure]:
        """End a run on disk: one sorted manifest, ``meta_info.txt`` and ``failures.jsonl``. One process at a time.

        Args:
            failures: Sources known to give no pair; those that ranks reported are added.

        Returns:
            All failures, sorted by source.

        Raises:
            OutputError: If a file cannot be written.
        """
        failures = [*failures, *self.run.reported()]
        with as_output_error(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        self.compact()
        with atomic_file(self.root / META_INFO, self.rank) as file:
            file.writelines(meta_line(record).encode() for record in self.joined())
        return self.run.join(failures)

    def joined(self) -> Iterator[Record]:
        """The records of a folder that ``join`` has joined, read one by one in the order of the file."""
        return (record for _, record in read_records(self.root / MANIFEST) if record is not None)

    def joined_at(self, numbers: Container[int]) -> list[Record]:
        """Some records of a folder that ``join`` has joined, by the number of their line from 0."""
        with (self.root / MANIFEST).open("rb") as file:
            return [json.loads(line) for number, line in enumerate(file) if number in numbers]

    def _sorted_lines(self) -> Iterator[bytes]:
        """The lines of the pairs that exist, with their line breaks, in the memory of keys and positions."""
        lines: dict[str, tuple[Path, int]] = {}
        for path in self.manifests():
            for position, record in read_records(path):
                if record is not None:
                    lines[record["key"]] = (path, position)
                    if not self._has_files(record):
                        del lines[record["key"]]
        with ExitStack() as stack:
            opened = {path: stack.enter_context(path.open("rb")) for path in {path for path, _ in lines.values()}}
            for path, position in (lines[key] for key in sorted(lines)):
                opened[path].seek(position)
                yield opened[path].readline().strip() + b"\n"

    def _has_files(self, record: Record) -> bool:
        return all((self.root / record[kind]).is_file() for kind in KINDS)


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
