"""``ddpm-pairs merge``: join what the ranks of an interrupted run wrote, as ``predict`` does at its end."""

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
        parts: Manifests of single ranks that were joined.
        pairs: Pairs in the folder.
        broken: Lines that were left out because they are torn or no records.
        incomplete: Pairs that were left out because a file is missing.
        failures: Sources without a pair.
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
    print(
        f"{arguments.pairs}: {merged.parts} parts joined, {merged.pairs} pairs, {merged.failures} sources without one"
    )
    for number, what in ((merged.broken, "broken lines"), (merged.incomplete, "pairs without both files")):
        if number:
            print(f"left out: {number} {what}; the predict command makes those pairs again")
    return 0


def merge(root: Path) -> Merged:
    """Join the parts of the manifest into one, and write ``meta_info.txt`` and ``failures.jsonl``.

    A folder that is merged already does not change. Pairs that the run has not made yet are missing from the result;
    ``predict`` still makes them when its command is rerun.

    Args:
        root: The pairs folder.

    Raises:
        UserError: For a folder without pairs, one that another process writes to, or one that cannot be written.
    """
    folder = PairsFolder(root)
    with as_output_error(root):
        if not folder.manifests():
            raise UserError(f"{root} holds no {MANIFEST} and no parts of it; expected a folder that predict wrote")
        with FolderLock(root):
            parts, keys = len(list(root.glob(PARTS))), [key for path in folder.manifests() for key in _keys(path)]
            made = folder.keys()
            _, sources = folder.join(read_failures(root / FAILURES))
    return Merged(parts, len(made), keys.count(None), len({*keys} - made - {None}), len(sources))


def _keys(path: Path) -> Iterator[str | None]:
    """The keys of a manifest's lines, ``None`` for a line that is no record."""
    return (None if record is None else record["key"] for _, record in read_records(path))
