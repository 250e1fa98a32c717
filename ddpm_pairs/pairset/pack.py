"""``ddpm-pairs pack``: a pairs folder as WebDataset shards, or as LMDB in the layout of BasicSR."""

import json
import shutil
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from ddpm_pairs.errors import UserError
from ddpm_pairs.files import as_output_error
from ddpm_pairs.pairset.folder import MANIFEST, PARTS, PairsFolder, is_record, read_lines
from ddpm_pairs.pairset.lmdb_folders import check_lmdb, write_lmdb
from ddpm_pairs.pairset.lock import FolderLock
from ddpm_pairs.pairset.sample import Sample
from ddpm_pairs.pairset.shards import write_shards
from ddpm_pairs.seeding import seed_of


@dataclass(frozen=True)
class Packed:
    """What was packed.

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
        UserError: see ``pack``.
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
    """Pack a finished pairs folder; the output appears whole, or not at all.

    Args:
        root: The pairs folder.
        out: The folder to make; it must not be there yet.
        form: ``webdataset`` for tar shards, ``lmdb`` for ``hq.lmdb`` and ``lq.lmdb``.
        include_rejected: Take pairs that are marked ``accepted: false`` too.
        shard_mb: Size of a shard in MB (10^6 bytes) at most; a larger pair gets a shard of its own.

    Raises:
        UserError: for an output that is there already or lies in the pairs folder; for a folder without pairs, or
            whose run has not ended; for a damaged pair; or where the ``lmdb`` package is missing.
    """
    if shard_mb < 1:
        raise UserError(f"--shard_size is {shard_mb}: expected 1 MB or more")
    if out.exists():
        raise UserError(f"{out} is there already: expected a new name")
    if out.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{out} lies in the pairs folder {root}: expected a place outside it")
    with ExitStack() as stack:
        lock = FolderLock(root)
        lock.share()
        stack.callback(lock.release)
        pairs = _Pairs(root, include_rejected, stack)
        if form == "lmdb":
            check_lmdb(pairs.names())
        beside = out.absolute().with_name(f".{sha256(out.name.encode()).hexdigest()[:16]}.packing")
        with as_output_error(out):
            if beside.exists():  # of a process that was killed
                shutil.rmtree(beside)
            beside.mkdir(parents=True)
            try:
                if form == "lmdb":
                    files = write_lmdb(beside, pairs.samples(sorted(pairs.positions)))
                else:  # mixed, so that neighbours in a shard, and variants of one picture, are unlike each other
                    mixed = sorted(pairs.positions, key=lambda key: (seed_of("shard", key), key))
                    files = write_shards(beside, pairs.samples(mixed), shard_mb * 10**6)
                beside.rename(out)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
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
        for position, record in read_lines(root / MANIFEST):
            if not is_record(record):
                raise self._damaged(f"a line of {MANIFEST} is broken")
            if record.get("accepted", True) is False and not include_rejected:
                self.rejected += 1
            else:
                self.positions[record["key"]] = position
        if not self.positions:
            held = f"only {self.rejected} pairs that are not accepted" if self.rejected else "no pairs"
            raise UserError(f"{root} holds {held}: there is nothing to pack")

    def names(self) -> Iterator[str]:
        """The escaped keys."""
        return map(escaped, self.positions)

    def samples(self, keys: list[str]) -> Iterator[Sample]:
        """The pairs of these keys, each compared with its hashes.

        Raises:
            UserError: for a damaged pair.
        """
        for key in keys:
            self._manifest.seek(self.positions[key])
            record = json.loads(self._manifest.readline())
            yield Sample(escaped(key), record, self._content(record, "hq"), self._content(record, "lq"))

    def _content(self, record: dict[str, Any], kind: str) -> bytes:
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


def escaped(key: str) -> str:
    """A key as packed files carry it: ASCII without dots, since both formats take what follows a dot for a suffix.

    ``/`` stays; ``urllib.parse.unquote`` gives the key back.
    """
    return quote(key, safe="/~").replace(".", "%2E")
