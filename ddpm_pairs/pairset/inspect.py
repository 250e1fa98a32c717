"""Read every line and hash every file of a pairs folder, and report what does not match the manifest."""

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from ddpm_pairs.errors import OutputError, UserError
from ddpm_pairs.images.decode import UnreadablePicture, decode_picture
from ddpm_pairs.pairset.folder import MANIFEST, META_INFO, RUN_FILE, PairsFolder, read_run
from ddpm_pairs.pairset.records import KINDS, Record, file_name, is_record, line_at, meta_lines, read_lines
from ddpm_pairs.run_folder import FAILURE_PARTS, FAILURES, parse_failure

_AT_ONCE = 512

Line = tuple[Path, int]
"""A line of a manifest: the file and the byte offset of the line in it."""


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong in a pairs folder.

    Attributes:
        kind: For lines ``broken``, ``doubled`` (duplicate), or ``unsorted``; for the files of a pair ``missing``,
            ``torn`` (not a complete image), ``altered`` (not the image that was written), or ``unreadable``; ``orphan``
            (an image without a line), ``leftover`` (a partial file), ``unfinished`` (a run that did not finish),
            ``meta_info``, or ``run.yaml``.
        name: The file, relative to the folder, or the line, such as ``manifest.jsonl:12``.
        reason: What is wrong, in one line.
        mendable: Whether ``verify --fix`` repairs it.
    """

    kind: str
    name: str
    reason: str
    mendable: bool = True


@dataclass
class Inspection:
    """The state of a pairs folder.

    Attributes:
        damages: Everything that is wrong.
        notes: Observations that are not damage.
        pairs: Number of keys that have a line.
        whole: Number of intact pairs, whose files match their lines.
        dropped: Keys of damaged pairs, which must be remade.
        removable: Files that were written for the pairs folder but belong to no intact pair, relative to the folder.
        lines: The line of each pair that is not dropped, by key.
    """

    damages: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pairs: int = 0
    whole: int = 0
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
    _check_pairs(root, lines, found)
    _check_meta_info(root, lines, found)
    _check_run(root, found)
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
        if path.name != MANIFEST:
            found.damages.append(Damage("unfinished", path.name, "written by a run that did not finish"))
        elif unsorted:
            found.damages.append(Damage("unsorted", path.name, "the lines are not sorted by key"))
    if not folder.manifests():
        found.damages.append(Damage("missing", MANIFEST, "the file does not exist"))
    return lines


def _fault(record: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """Return what is wrong with a single line, without looking at any file."""
    if record is None:
        return "not valid JSON"
    if not is_record(record) or any(record[kind] != file_name(kind, record["key"]) for kind in KINDS):
        return "not the record of a pair; expected a key and files named after it"
    if not isinstance(record.get("lq_sha256", ""), str):  # a line of another program may have none
        return "lq_sha256 is not a text"
    return None


def _check_pairs(root: Path, lines: dict[str, list[Line]], found: Inspection) -> None:
    """Hash the files of all pairs in parallel."""
    keys, without_hash = sorted(lines), 0
    groups = [keys[first : first + _AT_ONCE] for first in range(0, len(keys), _AT_ONCE)]
    shown = {"console": Console(stderr=True), "transient": True, "disable": not sys.stderr.isatty()}
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for group in track(groups, f"hashing {len(keys)} pairs", **shown):
            for key, result in zip(
                group, pool.map(partial(_check_pair, root), (lines[key] for key in group)), strict=True
            ):
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


def _check_pair(root: Path, lines: list[Line]) -> tuple[Line | None, list[Damage], bool]:
    """Compare the files of a pair with its lines. If there are several lines, at most one is kept.

    Args:
        root: The pairs folder.
        lines: All lines of one key.

    Returns:
        The line to keep, or ``None`` if the pair is dropped; the damages; and whether the HQ was compared by hash.
    """
    records = [json.loads(line_at(*line)) for line in lines]
    unlike = [n for n, record in enumerate(records) if record not in records[:n]]
    faults = {n: _faults_of_files(root, records[n]) for n in unlike}
    true = [n for n in unlike if not faults[n]]
    damages, key, hashed = [], records[0]["key"], "hq_sha256" in records[-1]
    if len(lines) > 1:
        reason = "all identical" if len(unlike) == 1 else f"{len(true)} of them match the files"
        places = ", ".join(sorted({path.name for path, _ in lines}))
        damages.append(Damage("doubled", places, f"{len(lines)} lines for {key!r}, {reason}"))
    if len(true) == 1:
        return lines[true[0]], damages, hashed
    damages += [] if true else faults[unlike[-1]]
    unsure = any(damage.kind == "unreadable" for damage in damages)
    return lines[-1] if unsure else None, damages, hashed


def _faults_of_files(root: Path, record: Record) -> list[Damage]:
    """Return what is wrong with the files of a record."""
    faults = []
    for kind in KINDS:
        name, expected = record[kind], record.get(f"{kind}_sha256")
        try:
            content = (root / name).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            faults.append(Damage("missing", name, f"the file does not exist, but {record['key']!r} has a line"))
            continue
        except OSError as error:
            faults.append(Damage("unreadable", name, f"cannot be read: {error.strerror}", mendable=False))
            continue
        if expected is not None and sha256(content).hexdigest() == expected:
            continue
        try:
            size = list(decode_picture(content).shape[1::-1])
        except UnreadablePicture as error:
            faults.append(Damage("torn", name, str(error)))
            continue
        if expected is not None:
            faults.append(
                Damage("altered", name, f"not the image that was written: its SHA-256 differs from {kind}_sha256")
            )
        elif size != record.get(f"{kind}_size", size):
            expected = record[f"{kind}_size"]
            faults.append(Damage("altered", name, f"got {size[0]}x{size[1]} pixels; expected {expected}"))
    return faults


def _check_meta_info(root: Path, lines: dict[str, list[Line]], found: Inspection) -> None:
    """Compare ``meta_info.txt`` with the manifest. It is not checked while a run is unfinished."""
    path = root / META_INFO
    if any(damage.kind == "unfinished" for damage in found.damages):
        return
    if not path.is_file():
        found.damages.append(Damage("meta_info", META_INFO, "the file does not exist"))
        return
    expected = meta_lines({kind: file_name(kind, key) for kind in KINDS} for key in sorted(lines))
    with path.open("rb") as file:
        for number, (has, wanted) in enumerate(zip_longest(file, expected, fillvalue=b""), 1):
            if has != wanted:
                shown = repr(wanted.decode().strip()) if wanted.strip() else "the end of the file"
                reason = f"differs from the manifest at line {number}; expected {shown}"
                found.damages.append(Damage("meta_info", META_INFO, reason))
                return


def _check_run(root: Path, found: Inspection) -> None:
    """Check ``run.yaml`` and the files that list failures."""
    try:
        if read_run(root) is None:
            reason = "the file does not exist; rerun the predict command, which writes it"
            found.damages.append(Damage("run.yaml", RUN_FILE, reason, mendable=False))
    except UserError as error:
        reason = f"{error}; delete the file and rerun the predict command, which writes it again"
        found.damages.append(Damage("run.yaml", RUN_FILE, reason, mendable=False))
    if (root / FAILURES).is_file():
        with (root / FAILURES).open("rb") as file:
            for number, line in enumerate(file, 1):
                if parse_failure(line) is None:
                    found.damages.append(Damage("broken", f"{FAILURES}:{number}", "expected a source and a reason"))
    for path in sorted(root.glob(FAILURE_PARTS)):
        found.damages.append(Damage("unfinished", path.name, "written by a run that did not finish"))


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
