"""Write, find, and read LMDB copies of pairs in the BasicSR layout.

``hq.lmdb`` and ``lq.lmdb`` have the same keys, which are the quoted keys of the pairs. Their values are the PNG files.
Each contains a ``meta_info.txt`` with lines ``<key>.png (<height>,<width>,3) <compression level>``.
"""

import errno
import importlib.util
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ddpm_pairs.errors import OutputError, UserError
from ddpm_pairs.files import PNG_COMPRESSION
from ddpm_pairs.images.decode import UnreadablePicture
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.pairset.pairs import FoundPairs, PicturePair, Sample, recorded_size, unquote_key
from ddpm_pairs.pairset.records import Files, content_of, is_key

if TYPE_CHECKING:
    import lmdb

SIDES = {"hq": "hq.lmdb", "lq": "lq.lmdb"}
"""The LMDB folder of each side of the pairs."""

LONGEST_KEY = 511
"""Maximum length of an LMDB key in bytes, in the default build."""

_META_INFO = "meta_info.txt"
_LINE = re.compile(r"([^.]+)\.png \((\d{1,6}),(\d{1,6}),3\) \d{1,2}", re.ASCII)
_AT_ONCE = 64 * 2**20
_FIRST_ROOM = 2**30


def check_lmdb(names: Iterable[str]) -> None:
    """Check that pairs can be packed into LMDB before packing starts.

    Args:
        names: The quoted keys.

    Raises:
        UserError: If the ``lmdb`` package is missing or a key is too long.
    """
    if not _installed():
        raise UserError('--format lmdb needs the lmdb package; install it with "pip install lmdb"')
    for name in names:
        if len(name) > LONGEST_KEY:
            raise UserError(
                f"key {name!r} has {len(name)} bytes; LMDB allows at most {LONGEST_KEY}; give --format webdataset"
            )


def write_lmdb(folder: Path, samples: Iterable[Sample]) -> list[str]:
    """Write ``hq.lmdb`` and ``lq.lmdb``.

    Args:
        folder: An existing folder.
        samples: The samples to pack, sorted by key.

    Returns:
        The names of the two folders.

    Raises:
        OutputError: If LMDB cannot write.
        UserError: If a record lacks the size of an image.
    """
    import lmdb

    sides = {kind: _Side(lmdb, folder / name) for kind, name in SIDES.items()}
    try:
        for sample in samples:
            for kind, content in (("hq", sample.hq), ("lq", sample.lq)):
                if (size := recorded_size(sample.record, kind)) is None:
                    raise UserError(f"the record of {sample.record['key']!r} has no {kind}_size; LMDB needs it")
                sides[kind].put(sample.name, content, size)
        for side in sides.values():
            side.commit()
            side.environment.sync(True)
    except lmdb.Error as error:
        raise OutputError(f"{folder} cannot be written ({error}); check free space and permissions") from error
    finally:
        for side in sides.values():
            side.close()
    return list(SIDES.values())


class _Side:
    """One LMDB folder that is being written, in batches."""

    def __init__(self, lmdb: ModuleType, folder: Path) -> None:
        # Synced once, at the end, because the folder gets its final name only then.
        self.environment = lmdb.open(str(folder), map_size=_FIRST_ROOM, sync=False, metasync=False)
        self.meta_info = (folder / _META_INFO).open("w", encoding="ascii", newline="\n")
        self.waiting: list[tuple[bytes, bytes]] = []
        self.waiting_bytes = 0

    def put(self, name: str, content: bytes, size: tuple[int, int]) -> None:
        """Add an image of ``size`` (height, width)."""
        self.waiting.append((name.encode("ascii"), content))
        self.waiting_bytes += len(content)
        self.meta_info.write(f"{name}.png ({size[0]},{size[1]},3) {PNG_COMPRESSION}\n")
        if self.waiting_bytes > _AT_ONCE:
            self.commit()

    def commit(self) -> None:
        """Write the waiting images, after enlarging the map. Each needs whole 4 KiB pages and space in index pages."""
        information = self.environment.info()
        used = (information["last_pgno"] + 1) * self.environment.stat()["psize"]
        room = used + 2 * self.waiting_bytes + 16384 * (len(self.waiting) + 64)
        if room > information["map_size"]:
            self.environment.set_mapsize(2 * room)
        with self.environment.begin(write=True) as transaction:
            for name, content in self.waiting:
                transaction.put(name, content)
        self.waiting, self.waiting_bytes = [], 0

    def close(self) -> None:
        """Close the files."""
        self.meta_info.close()
        self.environment.close()


@dataclass(frozen=True)
class PictureInLmdb(Picture):
    """An image file stored as a value in the LMDB folder ``path``.

    The folder is opened for each read, because an LMDB environment must not be inherited by a forked process or opened
    twice in one process. This takes 0.1 ms; decoding takes 10 ms.

    Attributes:
        name: Key of the value in LMDB.
    """

    name: str

    def file(self) -> bytes:
        """Read the bytes of the image file.

        Raises:
            UnreadablePicture: If the folder cannot be read or does not contain the key.
        """
        import lmdb

        try:
            with _opened(self.path) as transaction:
                content = transaction.get(self.name.encode())
        except lmdb.Error as error:
            raise UnreadablePicture(f"{self.path.name} cannot be read: {error}; copy or pack it again") from error
        if content is None:
            raise UnreadablePicture(f"{self.path.name} no longer contains this image")
        return content


def find_in_lmdb(root: Path, option: str) -> FoundPairs:
    """Find the pairs of a folder with ``hq.lmdb`` and ``lq.lmdb`` without opening an image.

    The sizes are read from ``meta_info.txt``.

    Args:
        root: The folder.
        option: Command-line option that names it, for error messages.

    Raises:
        UserError: If the ``lmdb`` package is missing, or if an LMDB folder is missing, damaged, or truncated.
    """
    if not _installed():
        raise UserError(
            f'{option}: {str(root)!r} contains LMDB, which needs the lmdb package; install it with "pip install lmdb"'
        )
    found = FoundPairs(str(root), option)
    hq, lq = (_pictures(root / side, option, found.failures) for side in SIDES.values())
    for name in hq.keys() & lq.keys():
        key = hq[name].key
        found.pairs.append(PicturePair(key, hq[name], lq[name], content_of(key)))
    for side, other in ((hq, SIDES["lq"]), (lq, SIDES["hq"])):
        for name in side.keys() - (hq.keys() & lq.keys()):
            found.failures.append(Failure(side[name].source, f"{other} has no image with this name"))
    return found


def _installed() -> bool:
    return importlib.util.find_spec("lmdb") is not None


def _pictures(folder: Path, option: str, failures: list[Failure]) -> dict[str, PictureInLmdb]:
    """Return the images that are in both the folder and its ``meta_info.txt``, by their names in LMDB."""
    held = _names(folder, option)
    try:
        if fault := Files(folder).fault(_META_INFO):
            raise OSError(errno.EINVAL, fault)
        lines = (folder / _META_INFO).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{option}: {str(folder / _META_INFO)!r} cannot be read; copy or pack it again") from None
    pictures = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            text = f"line {number} is not `<key>.png (<height>,<width>,3) <compression level>`"
            failures.append(Failure(f"{folder.name}/{_META_INFO}", text))
            continue
        name, source, size = match[1], f"{folder.name}/{match[1]}", (int(match[2]), int(match[3]))
        key = unquote_key(name)
        if name not in held:
            failures.append(Failure(source, "data.mdb has no image with this name"))
        elif not is_key(key):
            failures.append(Failure(source, "name would lead outside an output folder"))
            held.remove(name)
        else:
            pictures[name] = PictureInLmdb(key, folder, source, name, size=size)
    for name in held - pictures.keys():
        failures.append(Failure(f"{folder.name}/{name}", f"{_META_INFO} does not contain its size"))
    return pictures


def _names(folder: Path, option: str) -> set[str]:
    """Return the keys in an LMDB folder.

    Raises:
        UserError: If the folder is missing or damaged.
    """
    import lmdb

    try:
        with _opened(folder) as transaction:
            return {bytes(key).decode(errors="replace") for key in transaction.cursor().iternext(values=False)}
    except lmdb.Error as error:
        reason = str(error).removeprefix(f"{folder}: ")
        raise UserError(f"{option}: {str(folder)!r} cannot be read ({reason}); copy or pack it again") from None


@contextmanager
def _opened(folder: Path) -> Iterator["lmdb.Transaction"]:
    """Open a read transaction. A truncated file is rejected, because reading beyond its end would kill the process.

    Raises:
        lmdb.Error: If the folder cannot be read.
    """
    import lmdb

    if (folder / "data.mdb").exists() and not (folder / "data.mdb").is_file():  # opening a pipe would wait for ever
        raise lmdb.Error("data.mdb is not a regular file")
    with lmdb.open(str(folder), readonly=True, create=False, lock=False, readahead=False) as environment:
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        held = (folder / "data.mdb").stat().st_size
        if held < needed:
            raise lmdb.Error(f"data.mdb has {held} of {needed} bytes")
        with environment.begin() as transaction:
            yield transaction
