"""``ddpm-pairs verify``: check every file of a pairs folder against its manifest, and repair what does not match."""

from argparse import Namespace
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from ddpm_pairs.files import as_output_error, atomic_file
from ddpm_pairs.pairset.check_pair import Damage
from ddpm_pairs.pairset.folder import MANIFEST, PARTS, PairsFolder
from ddpm_pairs.pairset.inspect import Inspection, inspect_folder
from ddpm_pairs.plain_text import print_plain
from ddpm_pairs.run_folder import FAILURES, FolderLock, read_failures


def main(arguments: Namespace) -> int:
    """``ddpm-pairs verify PAIRS``.

    Args:
        arguments: ``pairs`` and ``fix`` of the command line.

    Returns:
        0 if the folder is intact when this returns, 1 otherwise.

    Raises:
        UserError: See ``verify``.
    """
    found = verify(arguments.pairs, arguments.fix)
    _print(arguments.pairs, found, arguments.fix)
    left = [damage for damage in found.damages if not (arguments.fix and damage.mendable)]
    return int(bool(left))


def verify(root: Path, fix: bool = False) -> Inspection:
    """Check every byte of a pairs folder and repair it if ``fix`` is set.

    The repair drops broken and duplicate lines, the lines and files of damaged pairs, and files without a line. It
    rewrites the manifest, ``meta_info.txt``, and ``failures.jsonl``. ``predict`` remakes the dropped pairs. The repair
    removes only files below ``hq/`` and ``lq/`` that belong to a pairs folder: ``.png`` files and the ``.tmp`` files of
    interrupted writes.

    Args:
        root: The pairs folder.
        fix: Repair the folder.

    Returns:
        The state of the folder before the repair.

    Raises:
        UserError: If the folder contains no pairs; with ``fix``, also if another process is writing to the folder or
            if it cannot be written.
    """
    with FolderLock(root) if fix else nullcontext():
        found = inspect_folder(root)
        if fix and found.damages:
            _mend(root, found)
        return found


def _mend(root: Path, found: Inspection) -> None:
    """Rewrite the lines first. If this is interrupted, the next run finds the remaining files as orphans."""
    folder = PairsFolder(root)
    with as_output_error(root):
        with atomic_file(root / MANIFEST) as manifest:
            for line in found.kept():
                manifest.write(line)
        for part in root.glob(PARTS):
            if part.is_symlink() or not part.is_dir():
                part.unlink()
        for name in found.removable:
            path = folder.path(name)
            path.unlink(missing_ok=True)
            for parent in path.relative_to(root).parents:
                if len(parent.parts) > 1 and not any((root / parent).iterdir()):
                    (root / parent).rmdir()
    folder.join(read_failures(root / FAILURES))


def _print(root: Path, found: Inspection, fix: bool) -> None:
    """Print the number of damages of each kind, then every damage."""
    print(f"{root}: {found.pairs} pairs, {found.whole} intact")
    for kind, number in Counter(damage.kind for damage in found.damages).items():
        print(f"  {kind:<12}{number:>8}")
    for line in [*(f"note: {note}" for note in found.notes), *map(_line, found.damages)]:
        print_plain(line)
    left = [damage for damage in found.damages if not damage.mendable]
    if not found.damages:
        print("intact: lines, files, and hashes match")
    elif not fix and left == found.damages:
        print("damaged: see the reasons above; 'verify --fix' does not repair this")
    elif not fix:
        print(f"damaged: run 'ddpm-pairs verify {root} --fix', then rerun the predict command")
    else:
        print(f"repaired: kept {len(found.lines)} pairs; rerun the predict command to remake the dropped ones")
        for damage in left:
            print_plain(f"not repaired: {_line(damage)}")


def _line(damage: Damage) -> str:
    return f"{damage.kind:<12}{damage.name}: {damage.reason}"
