"""The pairs folder: each pair is published on its own, so a run can be killed at any moment and resumed.

During a run, each rank appends to ``manifest.rank<r>.jsonl``. At the end of the run (and at the start of the next one),
these parts are joined into one sorted ``manifest.jsonl``. A pair exists if its line and both of its files exist. Files
are written atomically, and the line is written last.
"""

import json
from collections.abc import Collection, Container, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from ddpm_pairs.errors import OutputError
from ddpm_pairs.files import append, as_output_error, atomic_file, encode_png, write_atomically
from ddpm_pairs.images.find import Failure
from ddpm_pairs.pairset.records import (
    BROKEN,
    KINDS,
    Record,
    Summary,
    fault_of,
    file_name,
    find_pairs,
    line_at,
    line_of,
    meta_lines,
    parse_line,
    read_lines,
    records_in,
    sorted_lines,
    stays_below,
)
from ddpm_pairs.pairset.schema import read_run_file
from ddpm_pairs.run_folder import RunFolder

MANIFEST, META_INFO, RUN_FILE = "manifest.jsonl", "meta_info.txt", "run.yaml"
PARTS, MANIFESTS = "manifest.rank*.jsonl", "manifest*.jsonl"
_TEMPORARY = ("hq/**/*.tmp", "lq/**/*.tmp", f".{'[0-9a-f]' * 16}.*.tmp", "run.yaml.tmp", "contact_sheet.png.tmp")
"""Temporary files that a killed run leaves behind; only earlier versions wrote the last two."""


class PairsFolder:
    """One folder of pairs on disk.

    Args:
        root: The folder. It is created when the first file is written.
        rank: Rank of this process, which selects the part of the manifest that it appends to.
    """

    def __init__(self, root: str | Path, rank: int = 0) -> None:
        self.root, self.rank = Path(root), rank
        self.run = RunFolder(self.root, RUN_FILE, "pairs", rank)

    def keys(self) -> set[str]:
        """Return the keys of the pairs that exist."""
        return set(find_pairs(self.root, self.manifests()))

    def records(self) -> Iterator[Record]:
        """Yield the manifest records of the pairs that exist, in code-point order of their keys.

        Lines that are truncated or not records, and lines whose HQ or LQ file is missing, are skipped.
        """
        return map(parse_line, sorted_lines(self.root, self.manifests()))

    def record(self, key: str) -> Record | None:
        """Return the manifest record of one pair, or ``None`` if the pair does not exist."""
        place = find_pairs(self.root, self.manifests()).get(key)
        return None if place is None else parse_line(line_at(*place))

    def manifests(self) -> list[Path]:
        """Return the manifest and its parts that exist. If a key has several lines, the last one counts."""
        return [path for path in (self.root / MANIFEST, *sorted(self.root.glob(PARTS))) if path.is_file()]

    def path(self, name: str) -> Path:
        """Return the path of one file in the folder; see ``paths``."""
        return self.paths([name])[0]

    def paths(self, names: Iterable[str]) -> list[Path]:
        """Return the paths of files in the folder.

        Args:
            names: Names as in a manifest record: relative, with ``/``.

        Raises:
            OutputError: If a name leads outside the folder, directly or through a link.
        """
        paths, root = [], self.root.resolve()
        for name in names:
            paths.append(self.root / name)
            if not stays_below(name) or not paths[-1].parent.resolve().is_relative_to(root):
                raise OutputError(
                    f"{name!r} leads outside {self.root}; expected a name inside it and no links to other folders"
                )
        return paths

    def store(self, hq: Tensor | bytes, lq: Tensor | bytes, record: Record) -> Record:
        """Write the files of a pair. Several threads may call this at once for different pairs.

        Args:
            hq: uint8 (3, H, W), or the bytes of a PNG file.
            lq: uint8 (3, h, w), or the bytes of a PNG file.
            record: The manifest record without the file hashes; ``hq`` and ``lq`` name the files.

        Returns:
            The complete record, for ``append``.

        Raises:
            OutputError: If a file cannot be written, or if its name leads outside the folder.
        """
        places = self.paths([record["hq"], record["lq"]])
        hq = hq if isinstance(hq, bytes) else encode_png(hq)
        lq = lq if isinstance(lq, bytes) else encode_png(lq)
        for place, png in zip(places, (hq, lq), strict=True):
            # Not synced: two flushes per pair would take longer than making the pair. If a power failure truncates a
            # file, `verify` finds it by its hash, and the pair is remade bit for bit. Files that cannot be remade are
            # synced.
            write_atomically(place, png, self.rank, sync=False)
        return record | {"hq_sha256": sha256(hq).hexdigest(), "lq_sha256": sha256(lq).hexdigest()}

    def append(self, record: Record) -> None:
        """Append the line of a pair whose files are already written. The pair exists when this returns.

        Raises:
            OutputError: If the line cannot be written.
        """
        append(self.root / f"manifest.rank{self.rank}.jsonl", line_of(record).encode())

    def report(self, failures: Iterable[Failure]) -> None:
        """Append sources that did not yield a pair to this rank's failures; see ``RunFolder.report``."""
        self.run.report(failures)

    def compact(self, changed: Collection[str] = ()) -> None:
        """Join the parts of the manifest and remove the temporary files of an interrupted run.

        Only one process may call this at a time. Lines of the manifest that are not records are dropped with a warning;
        the truncated last line of a killed run is dropped without one.

        Args:
            changed: Keys of pairs to remove, lines first.

        Raises:
            OutputError: If the manifest cannot be written.
        """
        self._warn_of_faults()
        self._join_manifests(changed, create=False)
        self.run.clear()
        if changed:
            _remove(self.paths(file_name(kind, key) for key in changed for kind in KINDS))

    def _warn_of_faults(self) -> None:
        faults = [fault for path in self.manifests() for _, line in read_lines(path) if (fault := fault_of(line))]
        faults = [fault for fault in faults if fault != BROKEN]
        if faults:
            rank_zero_warn(
                f"{self.root}: dropped {len(faults)} lines of the manifest that are not records of pairs "
                f"({faults[0]}); their pairs are made again"
            )

    def _join_manifests(self, changed: Container[str] = (), create: bool = True) -> None:
        """Replace the manifest and its parts with one sorted manifest, and remove temporary files.

        Args:
            changed: Keys to leave out.
            create: Write a manifest even if there is none yet.
        """
        if create or self.manifests():
            lines = sorted_lines(self.root, self.manifests(), changed)
            with atomic_file(self.root / MANIFEST, self.rank) as manifest:
                manifest.writelines(lines)
        parts, left = self._left(PARTS), self._left(*_TEMPORARY)
        _remove([*parts, *self.paths(path.relative_to(self.root).as_posix() for path in left)])

    def _left(self, *patterns: str) -> list[Path]:
        """Return the files and links of these names; a folder may be named x.tmp."""
        found = [path for pattern in patterns for path in self.root.glob(pattern)]
        return [path for path in found if path.is_symlink() or not path.is_dir()]

    def join(self, failures: Iterable[Failure]) -> tuple[Summary, list[Failure]]:
        """Finish a run on disk: write one sorted manifest, ``meta_info.txt``, and ``failures.jsonl``.

        Only one process may call this at a time.

        Args:
            failures: Sources known to yield no pair. Sources that ranks reported are added.

        Returns:
            The summary of all pairs in the folder, and all failures sorted by source.

        Raises:
            OutputError: If a file cannot be written.
        """
        self._join_manifests()
        with atomic_file(self.root / META_INFO, self.rank) as file:
            summary = Summary()
            file.writelines(meta_lines(summary.counted(records_in(self.root / MANIFEST)), summary))
        return summary, self.run.join(failures)

    def joined(self) -> Iterator[Record]:
        """Yield the records in file order, after ``join`` has written the manifest."""
        return records_in(self.root / MANIFEST)


def _remove(paths: Iterable[Path]) -> None:
    """Remove files; links are removed, not followed."""
    for path in paths:
        with as_output_error(path):
            path.unlink(missing_ok=True)


def joined_at(root: Path, numbers: Container[int]) -> list[Record]:
    """Return records by line number (from 0), after ``PairsFolder.join`` has written the manifest."""
    with (root / MANIFEST).open("rb") as file:
        return [json.loads(line) for number, line in enumerate(file) if number in numbers]


def read_run(root: Path) -> dict[str, Any] | None:
    """Return the content of ``run.yaml``, or ``None`` if the file does not exist.

    Raises:
        UserError: If the file is not the ``run.yaml`` of a pairs folder.
    """
    path = root / RUN_FILE
    return read_run_file(path) if path.is_file() else None


def write_run_file(root: Path, content: dict[str, Any]) -> None:
    """Write ``run.yaml``.

    Raises:
        OutputError: If the file cannot be written.
    """
    write_atomically(root / RUN_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())
