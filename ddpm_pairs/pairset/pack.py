"""``ddpm-pairs pack``: copy a pairs folder into WebDataset shards or into LMDB in the BasicSR layout."""

import json
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from ddpm_pairs.errors import UserError
from ddpm_pairs.files import atomic_folder
from ddpm_pairs.pairset.folder import MANIFEST, PARTS, PairsFolder
from ddpm_pairs.pairset.lmdb import check_lmdb, write_lmdb
from ddpm_pairs.pairset.pairs import Sample
from ddpm_pairs.pairset.records import KINDS, Record, is_record, is_rejected, lines_in, quote_key
from ddpm_pairs.pairset.shards import write_shards
from ddpm_pairs.tensors import seed_of


@dataclass(frozen=True)
class Packed:
    """Result of packing.

    Attributes:
        pairs: Number of pairs in the output.
        rejected: Number of pairs that were skipped because they are not accepted.
        files: Names of the shards, or of the LMDB folders.
    """

    pairs: int
    rejected: int
    files: list[str]


def main(arguments: Namespace) -> int:
    """``ddpm-pairs pack PAIRS OUT``.

    Args:
        arguments: ``pairs``, ``out``, ``format``, ``include_rejected`` and ``shard_size`` of the command line.

    Returns:
        0.

    Raises:
        UserError: See ``pack``.
    """
    options = arguments.include_rejected, arguments.shard_size
    packed = pack(arguments.pairs, arguments.out, arguments.format, *options)
    files = packed.files if len(packed.files) < 3 else [packed.files[0], "...", packed.files[-1]]
    print(f"{packed.pairs} pairs in {arguments.out}: {' '.join(files)}")
    if packed.rejected:
        print(f"skipped: {packed.rejected} pairs that are not accepted; give --include_rejected to include them")
    return 0


def pack(
    root: Path,
    out: Path,
    form: Literal["webdataset", "lmdb"],
    include_rejected: bool = False,
    shard_mb: int = 512,
) -> Packed:
    """Pack a finished pairs folder. The output appears only when it is complete.

    The folder is not locked. Its manifest stays open during packing, and packing fails if a file changes meanwhile,
    because it no longer matches its hash.

    Args:
        root: The pairs folder.
        out: The folder to create. It must not exist yet.
        form: ``webdataset`` for tar shards, ``lmdb`` for ``hq.lmdb`` and ``lq.lmdb``.
        include_rejected: Also pack pairs that are marked ``accepted: false``.
        shard_mb: Maximum size of a shard in MB (10^6 bytes). A larger pair gets its own shard.

    Raises:
        UserError: If the output exists or is inside the pairs folder, if the folder has no pairs or its run has not
            finished, if a pair is damaged, or if the ``lmdb`` package is missing.
    """
    if shard_mb < 1:
        raise UserError(f"--shard_size: got {shard_mb}; expected 1 (MB) or more")
    if out.exists():
        raise UserError(f"{out} already exists; give a new path")
    if out.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{out} is inside the pairs folder {root}; give a path outside it")
    with ExitStack() as stack:
        pairs = _Pairs(root, include_rejected, stack)
        if form == "lmdb":
            check_lmdb(pairs.names())
        folder = stack.enter_context(atomic_folder(out))
        if form == "lmdb":
            files = write_lmdb(folder, pairs.samples(sorted(pairs.positions)))
        else:  # shuffled, so that similar pairs, such as variants of one image, are not neighbors
            shuffled = sorted(pairs.positions, key=lambda key: (seed_of("shard", key), key))
            files = write_shards(folder, pairs.samples(shuffled), shard_mb * 10**6)
    return Packed(len(pairs.positions), pairs.rejected, files)


class _Pairs:
    """The pairs to pack. Only their keys are in memory, and the manifest stays open."""

    def __init__(self, root: Path, include_rejected: bool, stack: ExitStack) -> None:
        self.folder, self.rejected = PairsFolder(root), 0
        if any(root.glob(PARTS)):
            raise UserError(
                f"{root} contains an unfinished run; rerun the predict command, or run 'ddpm-pairs merge {root}'"
            )
        if not (root / MANIFEST).is_file():
            raise UserError(f"{root} contains no {MANIFEST}; expected a pairs folder that `lightning predict` wrote")
        self.positions: dict[str, int] = {}
        self._manifest = stack.enter_context((root / MANIFEST).open("rb"))
        for position, record in lines_in(self._manifest):
            if not is_record(record):
                raise self._damaged(f"{MANIFEST} has a broken line")
            if is_rejected(record) and not include_rejected:
                self.rejected += 1
            else:
                self.positions[record["key"]] = position
        if not self.positions:
            if self.rejected:
                raise UserError(
                    f"{root} contains only {self.rejected} pairs that are not accepted; give --include_rejected"
                )
            raise UserError(f"{root} contains no pairs; rerun the predict command")

    def names(self) -> Iterator[str]:
        """Return the quoted keys."""
        return map(quote_key, self.positions)

    def samples(self, keys: list[str]) -> Iterator[Sample]:
        """Yield the pairs with these keys after comparing their files with the hashes.

        Raises:
            UserError: If a pair is damaged.
        """
        for key in keys:
            self._manifest.seek(self.positions[key])
            record = json.loads(self._manifest.readline())
            yield Sample(quote_key(key), record, *(self._content(record, kind) for kind in KINDS))

    def _content(self, record: Record, kind: str) -> bytes:
        name, expected = record[kind], record.get(f"{kind}_sha256")
        path = self.folder.path(name)
        if not path.is_file():
            raise self._damaged(f"{name} is missing")
        content = path.read_bytes()
        if expected not in (None, sha256(content).hexdigest()):
            raise self._damaged(f"{name} was modified")
        return content

    def _damaged(self, what: str) -> UserError:
        root = self.folder.root
        return UserError(
            f"{root} is damaged ({what}); run 'ddpm-pairs verify {root} --fix', then rerun the predict command"
        )
