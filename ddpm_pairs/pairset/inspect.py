"""What of a pairs folder is as its manifest says, and what is not: every line is read and every file hashed."""

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
from ddpm_pairs.pairset.damage import KINDS, Damage, Line, check_pair, read_at
from ddpm_pairs.pairset.folder import FAILURE_PARTS, FAILURES, MANIFEST, META_INFO, PairsFolder, is_record, read_lines
from ddpm_pairs.pairset.run_file import RUN_FILE, read_run

_AT_ONCE = 512


@dataclass
class Inspection:
    """What was found in a folder.

    Attributes:
        damages: What is not as it should be.
        notes: What is worth knowing and no damage.
        pairs: Number of keys that have a line.
        whole: Number of pairs that are as their lines say.
        dropped: Keys whose pair is damaged and must be made again.
        removable: Files, relative to the folder, that belong to no whole pair and are the folder's own.
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
        """The lines of whole pairs, sorted by key, as they stand in the files."""
        return (read_at(self.lines[key]).strip() + b"\n" for key in sorted(self.lines))


def inspect_folder(root: Path) -> Inspection:
    """Read all of a pairs folder; nothing is changed.

    Raises:
        UserError: if it is none.
    """
    folder, found = PairsFolder(root), Inspection()
    if not folder.manifests() and not (root / RUN_FILE).is_file():
        raise UserError(f"{root} holds no {MANIFEST}: expected a pairs folder that `lightning predict` wrote")
    lines = _read_manifests(folder, found)
    found.pairs = len(lines)
    _check_pairs(root, lines, found)
    _check_meta_info(root, lines, found)
    _check_run(root, found)
    claimed = {f"{kind}/{key}.png" for key in lines for kind in KINDS}
    _check_strays(folder, claimed, found)
    for key in sorted(found.dropped):
        found.removable += [f"{kind}/{key}.png" for kind in KINDS if _is_own(folder, f"{kind}/{key}.png")]
    return found


def _read_manifests(folder: PairsFolder, found: Inspection) -> dict[str, list[Line]]:
    """All lines that are records of pairs, by key; the others are damages."""
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
            found.damages.append(Damage("unfinished", path.name, "a run wrote this and did not come to its end"))
        elif unsorted:
            found.damages.append(Damage("unsorted", path.name, "its lines are not in the order of their keys"))
    if not folder.manifests():
        found.damages.append(Damage("missing", MANIFEST, "there is no such file"))
    return lines


def _fault(record: Any) -> str | None:  # noqa: ANN401 - whatever stood in the file
    """What is wrong with a line by itself."""
    if record is None:
        return "no JSON"
    if not is_record(record) or any(record[kind] != f"{kind}/{record['key']}.png" for kind in KINDS):
        return "no record of a pair: expected a key and files named after it"
    if not isinstance(record.get("lq_sha256"), str):
        return "it holds no lq_sha256"
    return None


def _check_pairs(root: Path, lines: dict[str, list[Line]], found: Inspection) -> None:
    """Hash the files of all pairs, several at once."""
    keys, without_hash = sorted(lines), 0
    groups = [keys[first : first + _AT_ONCE] for first in range(0, len(keys), _AT_ONCE)]
    shown = {"console": Console(stderr=True), "transient": True, "disable": not sys.stderr.isatty()}
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for group in track(groups, f"hashing {len(keys)} pairs", **shown):
            for key, result in zip(
                group, pool.map(partial(check_pair, root), (lines[key] for key in group)), strict=True
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
            f"{without_hash} lines are older and hold no hq_sha256: of their HQ only the size was compared"
        )


def _check_meta_info(root: Path, lines: dict[str, list[Line]], found: Inspection) -> None:
    """Compare ``meta_info.txt`` with the manifest; while a run has not ended there need not be one."""
    path = root / META_INFO
    if any(damage.kind == "unfinished" for damage in found.damages):
        return
    if not path.is_file():
        found.damages.append(Damage("meta_info", META_INFO, "there is no such file"))
        return
    expected = (f"hq/{key}.png, lq/{key}.png\n".encode() for key in sorted(lines))
    with path.open("rb") as file:
        for number, (has, wanted) in enumerate(zip_longest(file, expected, fillvalue=b""), 1):
            if has != wanted:
                said = wanted.decode().strip() or "its end"
                reason = f"it disagrees with the manifest from line {number} on, where {said!r} is expected"
                found.damages.append(Damage("meta_info", META_INFO, reason))
                return


def _check_run(root: Path, found: Inspection) -> None:
    """``run.yaml`` and what tells of failures."""
    try:
        if read_run(root) is None:
            reason = "there is no such file; the predict command writes it"
            found.damages.append(Damage("run.yaml", RUN_FILE, reason, mendable=False))
    except UserError as error:
        reason = f"{error}; delete it, and the predict command writes it anew"
        found.damages.append(Damage("run.yaml", RUN_FILE, reason, mendable=False))
    if (root / FAILURES).is_file():
        for number, (_, line) in enumerate(read_lines(root / FAILURES), 1):
            if not isinstance(line, dict) or not {"source", "reason"} <= line.keys():
                found.damages.append(Damage("broken", f"{FAILURES}:{number}", "no source with a reason"))
    for path in sorted(root.glob(FAILURE_PARTS)):
        found.damages.append(Damage("unfinished", path.name, "a run wrote this and did not come to its end"))


def _check_strays(folder: PairsFolder, claimed: set[str], found: Inspection) -> None:
    """Files below ``hq/`` and ``lq/`` that no line names."""
    for kind in KINDS:
        for above, folders, names in os.walk(folder.root / kind):
            folders.sort()
            for file in sorted(names):
                name = (Path(above) / file).relative_to(folder.root).as_posix()
                if name in claimed:
                    continue
                shown = name if name.isprintable() else ascii(name)[1:-1]
                if not name.endswith((".png", ".tmp")) or not _is_own(folder, name):
                    found.notes.append(f"{shown} is no file of a pairs folder, and is left alone")
                elif name.endswith(".tmp"):
                    found.damages.append(Damage("leftover", shown, "half a file of a run that was interrupted"))
                    found.removable.append(name)
                elif not claimed:
                    reason = "no line names it; since no line is whole at all, nothing tells whose it is, and it stays"
                    found.damages.append(Damage("orphan", shown, reason, mendable=False))
                else:
                    found.damages.append(Damage("orphan", shown, "no line names it"))
                    found.removable.append(name)


def _is_own(folder: PairsFolder, name: str) -> bool:
    """Whether a file is a regular one below the folder, reached through no link that leaves it."""
    try:
        path = folder.path(name)
    except OutputError:
        return False
    return path.is_file() and not path.is_symlink()
