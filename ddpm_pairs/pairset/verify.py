"""``ddpm-pairs verify``: check every file of a pairs folder against its manifest, and repair what does not match."""

from argparse import Namespace
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from ddpm_pairs.files import as_output_error, atomic_file
from ddpm_pairs.pairset.folder import MANIFEST, PARTS, PairsFolder
from ddpm_pairs.pairset.inspect import Damage, Inspection, inspect_folder
from ddpm_pairs.run_folder import FAILURES, FolderLock, read_failures


def main(arguments: Namespace) -> int:
    """``ddpm-pairs verify PAIRS``.

    Args:
        arguments: ``pairs`` and ``fix`` of the command line.

    Returns:
        0 if the folder is intact when this returns, 1 if not.

    Raises:
        UserError: For a folder without pairs, or, with ``fix``, one that another process writes to.
    """
    found = verify(arguments.pairs, arguments.fix)
    _print(arguments.pairs, found, arguments.fix)
    left = [damage for damage in found.damages if not (arguments.fix and damage.mendable)]
    return int(bool(left))


def verify(root: Path, fix: bool = False) -> Inspection:
    """Inspect every byte of a pairs folder, and repair it if asked to.

    The repair drops broken and duplicate lines, the lines and files of damaged pairs, and files without a line; it
    rewrites manifest, ``meta_info.txt`` and ``failures.jsonl``. ``predict`` makes again what was dropped. Of the files
    only those below ``hq/`` and ``lq/`` that belong to a pairs folder are removed (``.png``, and ``.tmp`` of an
    interrupted write).

    Args:
        root: The pairs folder.
        fix: Repair it.

    Returns:
        What was found.

    Raises:
        UserError: If the folder has no pairs; with ``fix`` if another process writes to it or it cannot be written.
    """
    with FolderLock(root) if fix else nullcontext():
        found = inspect_folder(root)
        if fix and found.damages:
            _mend(root, found)
        return found


def _mend(root: Path, found: Inspection) -> None:
    """Rewrite the lines first: should this be interrupted, a file without a line is found again as an orphan."""
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


def _print(root: Path, found: Inspection, fix: bool) -> None:
    """Print how many damages of each kind there are, and each of them."""
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
