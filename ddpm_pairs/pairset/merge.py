"""``ddpm-pairs merge``: join the per-rank manifests of an interrupted run, as ``predict`` does at the end."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ddpm_pairs.errors import UserError
from ddpm_pairs.files import as_output_error
from ddpm_pairs.pairset.folder import MANIFEST, PARTS, PairsFolder
from ddpm_pairs.pairset.records import read_records
from ddpm_pairs.run_folder import FAILURES, FolderLock, read_failures


@dataclass(frozen=True)
class Merged:
    """Result of a merge.

    Attributes:
        parts: Number of per-rank manifests that were joined.
        pairs: Number of pairs in the folder.
        broken: Number of lines that were dropped because they are truncated or not records.
        incomplete: Number of pairs that were dropped because a file is missing.
        failures: Number of sources without a pair.
    """

    parts: int
    pairs: int
    broken: int
    incomplete: int
    failures: int


def main(arguments: Namespace) -> int:
    """``ddpm-pairs merge PAIRS``.

    Args:
        arguments: ``pairs`` of the command line.

    Returns:
        0.

    Raises:
        UserError: See ``merge``.
    """
    merged = merge(arguments.pairs)
    print(f"{arguments.pairs}: {merged.parts} parts joined, {merged.pairs} pairs, {merged.failures} failed sources")
    for number, what in ((merged.broken, "broken lines"), (merged.incomplete, "pairs without both files")):
        if number:
            print(f"dropped: {number} {what}; rerun the predict command to remake these pairs")
    return 0


def merge(root: Path) -> Merged:
    """Join the parts of the manifest into one file and write ``meta_info.txt`` and ``failures.jsonl``.

    A folder that is already merged does not change. Pairs that the run has not made yet are missing from the result.
    Rerun the ``predict`` command to make them.

    Args:
        root: The pairs folder.

    Raises:
        UserError: If the folder has no manifest, if another process is writing to it, or if it cannot be written.
    """
    folder = PairsFolder(root)
    with as_output_error(root):
        if not folder.manifests():
            raise UserError(
                f"{root} contains no {MANIFEST} and no parts of it; expected a folder that `lightning predict` wrote"
            )
        with FolderLock(root):
            parts, keys = len(list(root.glob(PARTS))), [key for path in folder.manifests() for key in _keys(path)]
            made = folder.keys()
            _, sources = folder.join(read_failures(root / FAILURES))
    return Merged(parts, len(made), keys.count(None), len({*keys} - made - {None}), len(sources))


def _keys(path: Path) -> Iterator[str | None]:
    """Yield the key of each manifest line, or ``None`` for a line that is not a record."""
    return (None if record is None else record["key"] for _, record in read_records(path))
