"""Find pairs in the LMDB folders that `ddpm-pairs pack` writes, and read their pictures by key."""

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import UnreadablePicture
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.pairset.records import FoundPairs, PicturePair, content_of

if TYPE_CHECKING:
    import lmdb

SIDES = ("hq.lmdb", "lq.lmdb")

_META_INFO = "meta_info.txt"
_LINE = re.compile(r"([^.]+)\.png \((\d+),(\d+),3\) \d+")


@dataclass(frozen=True)
class PictureInLmdb(Picture):
    """A picture file as a value of an LMDB folder, which is `path`.

    The folder is opened for each reading, which takes 0.1 ms where decoding takes 10: LMDB must neither be passed on to
    a forked process nor be opened twice in one.

    Attributes:
        name: the value's key in LMDB.
    """

    name: str

    def file(self) -> bytes:
        """The picture file's bytes.

        Raises:
            UnreadablePicture: the folder cannot be read, or has no such key.
        """
        import lmdb

        try:
            with _opened(self.path) as transaction:
                content = transaction.get(self.name.encode())
        except lmdb.Error as error:
            raise UnreadablePicture(f"{self.path.name} cannot be read: {error}; copy or pack it again") from error
        if content is None:
            raise UnreadablePicture(f"{self.path.name} does not hold it any more")
        return content


def of_lmdb(root: Path, option: str) -> FoundPairs:
    """The pairs of a folder with hq.lmdb and lq.lmdb; pictures are not opened, sizes are those of `meta_info.txt`.

    Args:
        root: the folder.
        option: the command line option that named it, for the error texts.

    Raises:
        UserError: the `lmdb` package is missing, or one of the two is missing, damaged or shorter than it was.
    """
    if importlib.util.find_spec("lmdb") is None:
        raise UserError(
            f'{option}: {str(root)!r} holds LMDB, which needs the lmdb package; install it by "pip install lmdb"'
        )
    found = FoundPairs(str(root), option)
    hq, lq = (_pictures(root / side, option, found.failures) for side in SIDES)
    for name in hq.keys() & lq.keys():
        key = hq[name].key
        found.pairs.append(PicturePair(key, hq[name], lq[name], content_of(key)))
    for side, other in ((hq, SIDES[1]), (lq, SIDES[0])):
        for name in side.keys() - (hq.keys() & lq.keys()):
            found.failures.append(Failure(side[name].source, f"{other} has no picture of this name"))
    return found


def _pictures(folder: Path, option: str, failures: list[Failure]) -> dict[str, PictureInLmdb]:
    """The pictures that both the folder and its meta_info.txt name, by their names in LMDB."""
    held = _names(folder, option)
    try:
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
        if name in held:
            pictures[name] = PictureInLmdb(unquote(name), folder, source, name, size=size)
        else:
            failures.append(Failure(source, "data.mdb has no picture of this name"))
    for name in held - pictures.keys():
        failures.append(Failure(f"{folder.name}/{name}", f"{_META_INFO} does not tell its size"))
    return pictures


def _names(folder: Path, option: str) -> set[str]:
    """The keys in an LMDB folder.

    Raises:
        UserError: it is missing or damaged.
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
    """A transaction that reads; what is beyond the end of a shortened file would end the process, so it is refused.

    Raises:
        lmdb.Error: the folder cannot be read.
    """
    import lmdb

    with lmdb.open(str(folder), readonly=True, create=False, lock=False, readahead=False) as environment:
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        held = (folder / "data.mdb").stat().st_size
        if held < needed:
            raise lmdb.Error(f"data.mdb has {held} of {needed} bytes")
        with environment.begin() as transaction:
            yield transaction
