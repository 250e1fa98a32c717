"""LMDB in the layout of BasicSR: ``hq.lmdb`` and ``lq.lmdb`` with equal keys, each with a ``meta_info.txt``."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from ddpm_pairs.errors import OutputError, UserError
from ddpm_pairs.files import PNG_COMPRESSION
from ddpm_pairs.pairset.sample import Sample

LONGEST_KEY = 511
"""Bytes of a key in LMDB as it is built everywhere."""

_AT_ONCE = 64 * 2**20
_FIRST_ROOM = 2**30


def check_lmdb(names: Iterable[str]) -> None:
    """Find every reason not to begin.

    Args:
        names: The escaped keys.

    Raises:
        UserError: if the ``lmdb`` package is missing, or a key is too long.
    """
    if importlib.util.find_spec("lmdb") is None:
        raise UserError('--format lmdb needs the lmdb package: install it by "pip install lmdb"')
    for name in names:
        if len(name) > LONGEST_KEY:
            raise UserError(
                f"the key {name!r} has {len(name)} bytes, LMDB takes {LONGEST_KEY}: take --format webdataset"
            )


def write_lmdb(folder: Path, samples: Iterable[Sample]) -> list[str]:
    """Write ``hq.lmdb`` and ``lq.lmdb``.

    A line of ``meta_info.txt`` is ``<key>.png (<height>,<width>,3) <compression level>``; the values are the PNG files.

    Args:
        folder: Where to; it is there.
        samples: What to pack, sorted by key.

    Returns:
        The names of the two.

    Raises:
        OutputError: if LMDB cannot write.
    """
    import lmdb

    names = {kind: f"{kind}.lmdb" for kind in ("hq", "lq")}
    sides = {kind: _Side(lmdb, folder / name) for kind, name in names.items()}
    try:
        for sample in samples:
            for kind, content in (("hq", sample.hq), ("lq", sample.lq)):
                sides[kind].put(sample.name, content, sample.record[f"{kind}_size"])
        for side in sides.values():
            side.commit()
            side.environment.sync(True)
    except lmdb.Error as error:
        raise OutputError(f"{folder} cannot be written ({error}): see to its disk and its rights") from error
    finally:
        for side in sides.values():
            side.close()
    return list(names.values())


class _Side:
    """One LMDB folder under construction; what was put is written in portions."""

    def __init__(self, lmdb: ModuleType, folder: Path) -> None:
        # Synced once, at the end: the folder has its name only then.
        self.environment = lmdb.open(str(folder), map_size=_FIRST_ROOM, sync=False, metasync=False)
        self.meta_info = (folder / "meta_info.txt").open("w", encoding="ascii", newline="\n")
        self.waiting: list[tuple[bytes, bytes]] = []
        self.waiting_bytes = 0

    def put(self, name: str, content: bytes, size: list[int]) -> None:
        """Add a picture; ``size`` is [width, height]."""
        self.waiting.append((name.encode("ascii"), content))
        self.waiting_bytes += len(content)
        self.meta_info.write(f"{name}.png ({size[1]},{size[0]},3) {PNG_COMPRESSION}\n")
        if self.waiting_bytes > _AT_ONCE:
            self.commit()

    def commit(self) -> None:
        """Write what waits, after making room for it: pages of 4 KiB, one of them to find it by."""
        information: dict[str, Any] = self.environment.info()
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
