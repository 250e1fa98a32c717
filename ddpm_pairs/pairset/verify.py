"""``ddpm-pairs verify``: whether a pairs folder still holds what its manifest says, and mending what does not."""

from argparse import Namespace
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from ddpm_pairs.files import as_output_error, atomic_file
from ddpm_pairs.pairset.folder import MANIFEST, PARTS, PairsFolder
from ddpm_pairs.pairset.inspect import Damage, Inspection, inspect_folder
from ddpm_pairs.pairset.lock import FolderLock
from ddpm_pairs.run_folder import FAILURES, read_failures


def main(arguments: Namespace) -> int:
    """``ddpm-pairs verify PAIRS``.

    Args:
        arguments: ``pairs`` and ``fix`` of the command line.

    Returns:
        0 if the folder is whole when this returns, 1 if not.

    Raises:
        UserError: for a folder that holds no pairs, or, with ``fix``, one that another process writes to.
    """
    found = verify(arguments.pairs, arguments.fix)
    _tell(arguments.pairs, found, arguments.fix)
    left = [damage for damage in found.damages if not (arguments.fix and damage.mendable)]
    return int(bool(left))


def verify(root: Path, fix: bool = False) -> Inspection:
    """Inspect a pairs folder, every byte of it, and mend it if asked to.

    Mending drops broken and doubled lines, the lines and files of damaged pairs, and files without a line; manifest,
    ``meta_info.txt`` and ``failures.jsonl`` are written anew. What was dropped is made again by ``predict``. Only files
    below ``hq/`` and ``lq/`` that a pairs folder has (``.png``, and ``.tmp`` of interrupted writing) are removed.

    Args:
        root: The pairs folder.
        fix: Mend it.

    Returns:
        What was found.

    Raises:
        UserError: if the folder holds no pairs; with ``fix`` if another process writes to it or it cannot be written.
    """
    with FolderLock(root) if fix else nullcontext():
        found = inspect_folder(root)
        if fix and found.damages:
            _mend(root, found)
        return found


def _mend(root: Path, found: Inspection) -> None:
    """Lines first: a file without a line is no pair, and found again should this be interrupted."""
    folder = PairsFolder(root)
    with as_output_error(root):
        with atomic_file(root / MANIFEST) as manifest:
            for line in found.kept():
                manifest.write(line)
        for part in root.glob(PARTS):
            part.unlink()
        for name in found.removable:
            path = folder.path(name)
            path.unlink(missing_ok=True)
            for parent in path.relative_to(root).parents:
                if len(parent.parts) > 1 and not any((root / parent).iterdir()):
                    (root / parent).rmdir()
    folder.join(read_failures(root / FAILURES))


def _tell(root: Path, found: Inspection, fix: bool) -> None:
    """The table and the list."""
    print(f"{root}: {found.pairs} pairs, {found.whole} of them whole")
    for kind, number in Counter(damage.kind for damage in found.damages).items():
        print(f"  {kind:<12}{number:>8}")
    for line in [*(f"note: {note}" for note in found.notes), *map(_line, found.damages)]:
        print(line)
    left = [damage for damage in found.damages if not damage.mendable]
    if not found.damages:
        print("whole: lines, files and hashes agree")
    elif not fix:
        print(f"not whole: type 'ddpm-pairs verify {root} --fix', then the predict command again")
    else:
        print(f"mended: {len(found.lines)} pairs stay; the predict command makes again what was dropped")
        for damage in left:
            print(f"not mended: {_line(damage)}")


def _line(damage: Damage) -> str:
    return f"{damage.kind:<12}{damage.name}: {damage.reason}"
