"""Read every line and hash every file of a pairs folder, and report what does not match the manifest."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from ddpm_pairs.errors import OutputError, UserError
from ddpm_pairs.files import LONGEST_LINE, lines_in
from ddpm_pairs.pairset.check_pair import Damage, Line, check_pair
from ddpm_pairs.pairset.folder import MANIFEST, META_INFO, RUN_FILE, PairsFolder, read_run
from ddpm_pairs.pairset.records import (
    KINDS,
    Files,
    fault_of,
    file_name,
    is_rejected,
    line_at,
    meta_line,
    read_lines,
)
from ddpm_pairs.run_folder import FAILURE_PARTS, FAILURES, as_failure

_AT_ONCE = 512


@dataclass
class Inspection:
    """The state of a pairs folder.

    Attributes:
        damages: Everything that is wrong.
        notes: Observations that are not damage.
        pairs: Number of keys that have a line.
        whole: Number of intact pairs, whose files match their lines.
        rejected: Keys of pairs that are not accepted.
        dropped: Keys of damaged pairs, which must be remade.
        removable: Files that were written for the pairs folder but belong to no intact pair, relative to the folder.
        lines: The line of each pair that is not dropped, by key.
    """

    damages: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pairs: int = 0
    whole: int = 0
    rejected: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    removable: list[str] = field(default_factory=list)
    lines: dict[str, Line] = field(default_factory=dict)

    def kept(self) -> Iterator[bytes]:
        """Return the lines of the pairs that are not dropped, unchanged and sorted by key."""
        return (line_at(*self.lines[key]) for key in sorted(self.lines))


def inspect_folder(root: Path) -> Inspection:
    """Read a whole pairs folder without changing it.

    Args:
        root: The pairs folder.

    Raises:
        UserError: If it is not a pairs folder.
    """
    folder, found = PairsFolder(root), Inspection()
    if not folder.manifests() and not (root / RUN_FILE).is_file():
        raise UserError(f"{root} contains no {MANIFEST}; expected a pairs folder that `lightning predict` wrote")
    lines = _read_manifests(folder, found)
    found.pairs = len(lines)
    hq_dir = _check_run(root, found)
    _check_pairs(root, hq_dir, lines, found)
    _check_meta_info(root, lines, found)
    claimed = {file_name(kind, key) for key in lines for kind in KINDS}
    _check_strays(folder, claimed, found)
    for key in sorted(found.dropped):
        names = (file_name(kind, key) for kind in KINDS)
        found.removable += [name for name in names if _is_own(folder, name)]
    return found


def _read_manifests(folder: PairsFolder, found: Inspection) -> dict[str, list[Line]]:
    """Collect all lines that are records of pairs, by key. Report every other line as damage."""
    lines: dict[str, list[Line]] = {}
    for path in folder.manifests():
        last, unsorted = "", False
        for number, (position, record) in enumerate(read_lines(path), 1):
            if fault := _fault(record):
                found.damages.append(Damage("broken", f"{path.name}:{number}", fault))
                continue
            unsorted, last = unsorted or record["key"] < last, record["key"]
            lines.setdefault(record["key"], []).append((path, position))
            found.rejected.discard(record["key"])
            if is_rejected(record):
                found.rejected.add(record["key"])
        if path.name != MANIFEST:
            found.damages.append(Damage("unfinished", path.name, "written by a run that did not finish"))
        elif unsorted:
            found.damages.append(Damage("unsorted", path.name, "the lines are not sorted by key"))
    if not folder.manifests():
        found.damages.append(Damage("missing", MANIFEST, "the file does not exist"))
    return lines


def _fault(record: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """Return what is wrong with a single line, without looking at any file."""
    if fault := fault_of(record):
        return fault
    if any(record[kind] != file_name(kind, record["key"]) for kind in KINDS):
        return "not the record of a pair; expected a key and files named after it"
    return None


def _check_pairs(root: Path, hq_dir: Path | None, lines: dict[str, list[Line]], found: Inspection) -> None:
    """Hash the files of all pairs in parallel."""
    keys, without_hash, files = sorted(lines), 0, Files(root)
    groups = [keys[first : first + _AT_ONCE] for first in range(0, len(keys), _AT_ONCE)]
    shown = {"console": Console(stderr=True), "transient": True, "disable": not sys.stderr.isatty()}
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for group in track(groups, f"hashing {len(keys)} pairs", **shown):
            results = pool.map(partial(check_pair, files, hq_dir), (lines[key] for key in group))
            for key, result in zip(group, results, strict=True):
                line, damages, hashed = result
                found.damages += damages
                found.whole += not any(damage.kind != "doubled" for damage in damages) and line is not None
                without_hash += not hashed
                if line is None:
                    found.dropped.add(key)
                else:
                    found.lines[key] = line
    if without_hash:
        found.notes.append(
            f"{without_hash} lines, of an earlier version or another program, have no hq_sha256; of their HQ, only the "
            "size was compared, if the line has one"
        )
    if found.rejected:
        found.notes.append(
            f"{len(found.rejected)} pairs are not accepted; {META_INFO} does not name them, but a trainer that reads "
            f"hq/ and lq/ uses them; 'ddpm-pairs pack {root} OUT --format folder' copies only the others"
        )


def _check_meta_info(root: Path, lines: dict[str, list[Line]], found: Inspection) -> None:
    """Compare ``meta_info.txt`` with the manifest. It is not checked while a run is unfinished."""
    path = root / META_INFO
    if any(damage.kind == "unfinished" for damage in found.damages):
        return
    if not path.is_file():
        found.damages.append(Damage("meta_info", META_INFO, "the file does not exist"))
        return
    keys = (key for key in sorted(lines) if key not in found.rejected)
    expected = filter(None, (meta_line({kind: file_name(kind, key) for kind in KINDS}) for key in keys))
    with path.open("rb") as file:
        has_lines = iter(partial(file.readline, LONGEST_LINE), b"")
        for number, (has, wanted) in enumerate(zip_longest(has_lines, expected, fillvalue=b""), 1):
            if has != wanted:
                shown = repr(wanted.decode().strip()) if wanted.strip() else "the end of the file"
                reason = f"differs from the manifest at line {number}; expected {shown}"
                found.damages.append(Damage("meta_info", META_INFO, reason))
                return


def _check_run(root: Path, found: Inspection) -> Path | None:
    """Check ``run.yaml`` and the files that list failures; return the folder of the sources, if it is known."""
    run = None
    try:
        run = read_run(root)
        if run is None:
            reason = "the file does not exist; rerun the predict command, which writes it"
            found.damages.append(Damage("run.yaml", RUN_FILE, reason, mendable=False))
    except UserError as error:
        reason = f"{error}; delete the file and rerun the predict command, which writes it again"
        found.damages.append(Damage("run.yaml", RUN_FILE, reason, mendable=False))
    if (root / FAILURES).is_file():
        with (root / FAILURES).open("rb") as file:
            for number, (_, value) in enumerate(lines_in(file), 1):
                if as_failure(value) is None:
                    found.damages.append(Damage("broken", f"{FAILURES}:{number}", "expected a source and a reason"))
    for path in sorted(root.glob(FAILURE_PARTS)):
        found.damages.append(Damage("unfinished", path.name, "written by a run that did not finish"))
    return None if run is None else Path(run["places"]["hq_dir"])


def _check_strays(folder: PairsFolder, claimed: set[str], found: Inspection) -> None:
    """Find the files below ``hq/`` and ``lq/`` that no line names."""
    for kind in KINDS:
        for above, folders, names in os.walk(folder.root / kind):
            folders.sort()
            for file in sorted(names):
                name = (Path(above) / file).relative_to(folder.root).as_posix()
                if name in claimed:
                    continue
                shown = name if name.isprintable() else ascii(name)[1:-1]
                if not name.endswith((".png", ".tmp")) or not _is_own(folder, name):
                    found.notes.append(f"{shown} does not belong to the pairs folder and is left alone")
                elif name.endswith(".tmp"):
                    found.damages.append(Damage("leftover", shown, "partial file of an interrupted run"))
                    found.removable.append(name)
                elif not claimed:
                    reason = "no line names it; it is kept because the manifest has no valid line"
                    found.damages.append(Damage("orphan", shown, reason, mendable=False))
                else:
                    found.damages.append(Damage("orphan", shown, "no line names it"))
                    found.removable.append(name)


def _is_own(folder: PairsFolder, name: str) -> bool:
    """Check that a name is a regular file inside the folder, not a link and not reached through a link outside it."""
    try:
        path = folder.path(name)
    except OutputError:
        return False
    return path.is_file() and not path.is_symlink()
