"""``ddpm-pairs pack``: copy a pairs folder into WebDataset shards, or into LMDB in the layout of BasicSR."""

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
from ddpm_pairs.seeding import seed_of


@dataclass(frozen=True)
class Packed:
    """Result of packing.

    Attributes:
        pairs: Pairs in the output.
        rejected: Pairs that were left out because they are not accepted.
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
        print(f"left out: {packed.rejected} pairs that are not accepted (--include_rejected takes them too)")
    return 0


def pack(
    root: Path,
    out: Path,
    form: Literal["webdataset", "lmdb"],
    include_rejected: bool = False,
    shard_mb: int = 512,
) -> Packed:
    """Pack a finished pairs folder; the output appears complete, or not at all.

    The folder is not locked: its manifest is kept open as it was found, and a file that changes meanwhile does not fit
    its hash and ends the packing.

    Args:
        root: The pairs folder.
        out: The folder to make; it must not exist yet.
        form: ``webdataset`` for tar shards, ``lmdb`` for ``hq.lmdb`` and ``lq.lmdb``.
        include_rejected: Also pack pairs that are marked ``accepted: false``.
        shard_mb: Largest size of a shard in MB (10^6 bytes); a larger pair gets a shard of its own.

    Raises:
        UserError: For an output that exists already or is inside the pairs folder; for a folder without pairs, or
            whose run has not ended; for a damaged pair; or where the ``lmdb`` package is missing.
    """
    if shard_mb < 1:
        raise UserError(f"--shard_size is {shard_mb}: expected 1 MB or more")
    if out.exists():
        raise UserError(f"{out} exists already; give a new name")
    if out.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{out} is inside the pairs folder {root}; give a path outside it")
    with ExitStack() as stack:
        pairs = _Pairs(root, include_rejected, stack)
        if form == "lmdb":
            check_lmdb(pairs.names())
        folder = stack.enter_context(atomic_folder(out))
        if form == "lmdb":
            files = write_lmdb(folder, pairs.samples(sorted(pairs.positions)))
        else:  # shuffled, so that neighbors in a shard, and variants of one image, are unlike each other
            shuffled = sorted(pairs.positions, key=lambda key: (seed_of("shard", key), key))
            files = write_shards(folder, pairs.samples(shuffled), shard_mb * 10**6)
    return Packed(len(pairs.positions), pairs.rejected, files)


class _Pairs:
    """The pairs to be packed, in the memory of their keys; the manifest stays open as it was found."""

    def __init__(self, root: Path, include_rejected: bool, stack: ExitStack) -> None:
        self.folder, self.rejected = PairsFolder(root), 0
        if any(root.glob(PARTS)):
            raise UserError(
                f"{root} holds a run that has not ended: type the predict command again, or 'ddpm-pairs merge {root}'"
            )
        if not (root / MANIFEST).is_file():
            raise UserError(f"{root} holds no {MANIFEST}: expected a pairs folder that `lightning predict` wrote")
        self.positions: dict[str, int] = {}
        self._manifest = stack.enter_context((root / MANIFEST).open("rb"))
        for position, record in lines_in(self._manifest):
            if not is_record(record):
                raise self._damaged(f"a line of {MANIFEST} is broken")
            if is_rejected(record) and not include_rejected:
                self.rejected += 1
            else:
                self.positions[record["key"]] = position
        if not self.positions:
            held = f"only {self.rejected} pairs that are not accepted" if self.rejected else "no pairs"
            raise UserError(f"{root} holds {held}: there is nothing to pack")

    def names(self) -> Iterator[str]:
        """The quoted keys."""
        return map(quote_key, self.positions)

    def samples(self, keys: list[str]) -> Iterator[Sample]:
        """The pairs of these keys, each compared with its hashes.

        Raises:
            UserError: For a damaged pair.
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
            raise self._damaged(f"{name} is not the file that was written")
        return content

    def _damaged(self, what: str) -> UserError:
        root = self.folder.root
        return UserError(f"{root} is damaged ({what}): type 'ddpm-pairs verify {root} --fix', then predict again")
