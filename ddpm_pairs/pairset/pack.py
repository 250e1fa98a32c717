"""``ddpm-pairs pack``: copy a pairs folder into WebDataset shards, LMDB in the BasicSR layout, or a plain folder."""

from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from ddpm_pairs.errors import UserError
from ddpm_pairs.files import check_writable, lines_in, parse_line, write_atomically
from ddpm_pairs.new_folder import atomic_folder
from ddpm_pairs.pairset.folder import MANIFEST, META_INFO, PARTS, PairsFolder
from ddpm_pairs.pairset.lmdb import check_lmdb, write_lmdb
from ddpm_pairs.pairset.pairs import Sample, quote_key
from ddpm_pairs.pairset.records import KINDS, Files, Record, fault_of, file_name, is_rejected
from ddpm_pairs.pairset.shards import write_shards
from ddpm_pairs.tensors import seed_of


@dataclass(frozen=True)
class Packed:
    """Result of packing.

    Attributes:
        pairs: Number of pairs in the output.
        rejected: Number of pairs that were skipped because they are not accepted.
        files: Names of the shards, or of the folders.
    """

    pairs: int
    rejected: int
    files: list[str]


def main(arguments: Namespace) -> int:
    """``ddpm-pairs pack PAIRS OUT``.

    Args:
        arguments: ``pairs``, ``out``, ``format``, ``include_rejected``, ``shard_size`` and ``flat``.

    Returns:
        0.

    Raises:
        UserError: See ``pack``.
    """
    options = arguments.include_rejected, arguments.shard_size, arguments.flat
    packed = pack(arguments.pairs, arguments.out, arguments.format, *options)
    files = packed.files if len(packed.files) < 3 else [packed.files[0], "...", packed.files[-1]]
    print(f"{packed.pairs} pairs in {arguments.out}: {' '.join(files)}")
    if packed.rejected:
        print(f"skipped: {packed.rejected} pairs that are not accepted; give --include_rejected to include them")
    return 0


def pack(
    root: Path,
    out: Path,
    form: Literal["webdataset", "lmdb", "folder"],
    include_rejected: bool = False,
    shard_mb: int = 512,
    flat: bool = False,
) -> Packed:
    """Pack a finished pairs folder. The output appears only when it is complete.

    The folder is not locked. Its manifest stays open during packing, and packing fails if a file changes meanwhile,
    because it no longer matches its hash.

    Args:
        root: The pairs folder.
        out: The folder to create. It must not exist yet.
        form: ``webdataset`` for tar shards, ``lmdb`` for ``hq.lmdb`` and ``lq.lmdb``, ``folder`` for ``hq/``, ``lq/``
            and ``meta_info.txt``.
        include_rejected: Also pack pairs that are marked ``accepted: false``.
        shard_mb: Maximum size of a shard in MB (10^6 bytes). A larger pair gets its own shard.
        flat: Put all images of ``folder`` directly into ``hq/`` and ``lq/``.

    Raises:
        UserError: If the output exists or is inside the pairs folder, if the folder has no pairs or its run has not
            finished, if a pair is damaged, or if the ``lmdb`` package is missing.
    """
    if shard_mb < 1:
        raise UserError(f"--shard_size: got {shard_mb}; expected 1 (MB) or more")
    if flat and form != "folder":
        raise UserError(f"--flat: got --format {form}; expected --format folder")
    if out.exists():
        raise UserError(f"{out} already exists; give a new path")
    if out.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{out} is inside the pairs folder {root}; give a path outside it")
    with ExitStack() as stack:
        pairs = _Pairs(root, include_rejected, stack)
        if form == "lmdb":
            check_lmdb(pairs.names())
        check_writable(out.parent)
        folder = stack.enter_context(atomic_folder(out))
        if form == "lmdb":
            files = write_lmdb(folder, pairs.samples(sorted(pairs.positions)))
        elif form == "folder":
            files = _write_folder(folder, pairs.samples(sorted(pairs.positions)), flat)
        else:  # shuffled, so that similar pairs, such as variants of one image, are not neighbors
            shuffled = sorted(pairs.positions, key=lambda key: (seed_of("shard", key), key))
            files = write_shards(folder, pairs.samples(shuffled), shard_mb * 10**6)
    return Packed(len(pairs.positions), pairs.rejected, files)


def _write_folder(folder: Path, samples: Iterable[Sample], flat: bool) -> list[str]:
    """Write ``hq/``, ``lq/``, and a ``meta_info.txt`` that names all pairs.

    Args:
        folder: An existing folder.
        samples: The samples to pack, sorted by key.
        flat: Put all images directly into ``hq/`` and ``lq/``: BasicSR does not search folders inside them.

    Returns:
        The names of the folders.

    Raises:
        OutputError: If a file cannot be written.
    """
    lines = []
    for sample in samples:
        names = [file_name(kind, plain_key(sample.record["key"], flat)) for kind in KINDS]
        for name, content in zip(names, (sample.hq, sample.lq), strict=True):
            write_atomically(folder / name, content, sync=False)  # the whole folder is synced at the end
        lines.append(f"{names[0]}, {names[1]}\n")
    write_atomically(folder / META_INFO, "".join(lines).encode(), sync=False)
    return list(KINDS)


def plain_key(key: str, flat: bool) -> str:
    """Quote what other trainers cannot read in names: commas, which end a name in ``meta_info.txt``, and ``%`` itself.

    Args:
        key: The key of a pair.
        flat: Quote ``/`` too.
    """
    key = key.replace("%", "%25").replace(",", "%2C")
    return key.replace("/", "%2F") if flat else key


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
        self._files = Files(root)
        for position, record in lines_in(self._manifest):
            if fault := fault_of(record):
                raise self._damaged(f"{MANIFEST} has a broken line: {fault}")
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
            record = parse_line(self._manifest.readline())
            yield Sample(quote_key(key), record, *(self._content(record, kind) for kind in KINDS))

    def _content(self, record: Record, kind: str) -> bytes:
        name, expected = record[kind], record.get(f"{kind}_sha256")
        if fault := self._files.fault(name):
            raise self._damaged(f"{name} {fault}")
        content = self.folder.path(name).read_bytes()
        if expected not in (None, sha256(content).hexdigest()):
            raise self._damaged(f"{name} was modified")
        return content

    def _damaged(self, what: str) -> UserError:
        root = self.folder.root
        return UserError(
            f"{root} is damaged ({what}); run 'ddpm-pairs verify {root} --fix', then rerun the predict command"
        )
