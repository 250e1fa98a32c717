"""Write, find, and read tar shards of pairs, in the format of the webdataset package.

Each pair is ``<key>.hq.png``, ``<key>.lq.png``, and ``<key>.json``, where the key is quoted. ``shards.json`` lists the
shards. ``datasets.load_dataset`` needs the same keys and types in all samples, but the parameters of random
degradations differ, and some fields may be null. So the JSON has the fields that are always of one type, and the whole
manifest line as the text ``manifest_line``.
"""

import errno
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lightning.fabric.utilities.rank_zero import rank_zero_warn
from pydantic import ValidationError

from ddpm_pairs.errors import UserError
from ddpm_pairs.files import LONGEST_LINE, parse_line, write_atomically
from ddpm_pairs.images.decode import UnreadablePicture
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.pairset.pairs import FoundPairs, PicturePair, Sample, recorded_size
from ddpm_pairs.pairset.records import (
    KINDS,
    Files,
    Record,
    content_of,
    fault_of,
    is_rejected,
    line_of,
    recorded_psnr,
)
from ddpm_pairs.pairset.schema import SHARDS, fault

INDEX = "shards.json"
"""Name of the file that lists the shards of a folder, with the number of pairs and bytes of each."""

MOST_SHARD = 2**50
"""Maximum size of a shard in bytes; only its headers are read to find pairs."""

_ONE_TYPE = {"key", "hq", "lq", "source", "source_sha256", "seed", "t", "scale", "hq_size", "lq_size", "accepted"}
_ONE_TYPE |= {"hq_sha256", "lq_sha256"}
"""Fields of a manifest line that are never null."""

_SUFFIXES = {"hq": "hq.png", "lq": "lq.png", "record": "json"}


def write_shards(folder: Path, samples: Iterable[Sample], size: int) -> list[str]:
    """Write ``pairs-000000.tar``, ``pairs-000001.tar``, ... and the index.

    The same samples give the same bytes, because the members have no owner or time.

    Args:
        folder: An existing folder.
        samples: The samples to pack, in this order; at least one.
        size: Maximum size of a shard in bytes. A larger sample gets its own shard.

    Returns:
        The names of the shards.
    """
    shards: list[dict[str, str | int]] = []
    tar = None
    try:
        for sample in samples:
            members = [(_header(name, content), content) for name, content in _members(sample)]
            need = sum(len(header.tobuf()) + -(-len(content) // 512) * 512 for header, content in members)
            # closing a tar file pads its last record
            if tar is None or (shards[-1]["pairs"] and tar.offset + need + tarfile.RECORDSIZE > size):
                if tar is not None:
                    tar.close()
                name = f"pairs-{len(shards):06d}.tar"
                tar = tarfile.open(folder / name, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed below
                shards.append({"name": name, "pairs": 0})
            for header, content in members:
                tar.addfile(header, io.BytesIO(content))
            shards[-1]["pairs"] += 1
    finally:
        if tar is not None:
            tar.close()
    for shard in shards:
        shard["bytes"] = (folder / shard["name"]).stat().st_size
    index = {"pairs": sum(shard["pairs"] for shard in shards), "shards": shards}
    write_atomically(folder / INDEX, (json.dumps(index, indent=1) + "\n").encode())
    return [shard["name"] for shard in shards]


def _members(sample: Sample) -> list[tuple[str, bytes]]:
    fields = {name: value for name, value in sample.record.items() if name in _ONE_TYPE}
    fields["manifest_line"] = line_of(sample.record).rstrip()
    contents = {"hq": sample.hq, "lq": sample.lq, "record": line_of(fields).encode()}
    return [(f"{sample.name}.{_SUFFIXES[part]}", content) for part, content in contents.items()]


def _header(name: str, content: bytes) -> tarfile.TarInfo:
    """Return the header of a regular file with mode 644 and no owner or time."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    return header


@dataclass(frozen=True)
class PictureInShard(Picture):
    """An image file inside a tar file; ``path`` is the path of the tar file.

    The tar file is opened for each read, so that loader processes inherit no open file. This takes 0.02 ms; decoding
    takes 10 ms.

    Attributes:
        offset: Byte offset of the image file.
        length: Length of the image file in bytes.
    """

    offset: int
    length: int

    def file(self) -> bytes:
        """Read the bytes of the image file.

        Raises:
            UnreadablePicture: If the tar file cannot be read or is too short.
        """
        try:
            with self.path.open("rb", buffering=0) as shard:
                shard.seek(self.offset)
                content = shard.read(self.length)
        except OSError as error:
            raise UnreadablePicture(f"{self.path.name} cannot be read: {error.strerror}") from error
        if len(content) < self.length:
            raise UnreadablePicture(f"{self.path.name} is truncated; copy or pack it again")
        return content


def find_in_shards(root: Path, option: str, include_rejected: bool) -> FoundPairs:
    """Find the pairs of a folder with shards and their index without opening an image.

    The sizes are read from the records. A shard that is missing, damaged, or truncated is a failure and causes a
    warning. Its complete pairs are used.

    Args:
        root: The folder.
        option: Command-line option that names it, for error messages.
        include_rejected: Also use pairs that are marked ``accepted: false``.

    Raises:
        UserError: If the index cannot be read or is invalid.
    """
    found = FoundPairs(str(root), option)
    seen: set[str] = set()
    files = Files(root, most_bytes=MOST_SHARD)
    for name, pairs, size in _index(root, option):
        whole, held = 0, None
        try:
            if fault := files.fault(name):
                raise OSError(errno.EINVAL, fault)
            for record, pair in _pairs(root / name):
                whole += 1
                if pair.key in seen:
                    found.failures.append(Failure(pair.hq.source, f"duplicate key {pair.key!r}"))
                elif is_rejected(record) and not include_rejected:
                    found.rejected += 1
                else:
                    found.pairs.append(pair)
                seen.add(pair.key)
            held = (root / name).stat().st_size
            wrong = f"contains {whole} of {pairs} pairs in {held} of {size} bytes"
        except OSError as error:
            wrong = f"cannot be read: {error.strerror}"
        if (whole, held) != (pairs, size):
            found.failures.append(Failure(name, f"{wrong}; copy or pack it again"))
            rank_zero_warn(f"{option}: shard {root / name} is damaged: {wrong}; copy or pack it again")
    return found


def _index(root: Path, option: str) -> list[tuple[str, int, int]]:
    """Return the name, number of pairs, and number of bytes of each shard."""
    path = root / INDEX
    try:
        with path.open("rb") as file:
            index = parse_line(file.read(LONGEST_LINE))
        SHARDS.validate_python(index)
        wrong = [shard["name"] for shard in index["shards"] if PurePosixPath(shard["name"]).name != shard["name"]]
        if not wrong:
            return [(shard["name"], shard["pairs"], shard["bytes"]) for shard in index["shards"]]
        reason = f"{ascii(wrong[0])} is not the name of a file in this folder"
    except OSError as error:
        reason = error.strerror
    except ValidationError as error:
        reason = fault(error)
    raise UserError(
        f"{option}: {str(path)!r} is not the index that `ddpm-pairs pack` writes ({reason}); copy or pack it again"
    )


def _pairs(shard: Path) -> Iterator[tuple[Record, PicturePair]]:
    """Yield the complete records and pairs up to the point where the shard ends or is damaged."""
    size = shard.stat().st_size
    begun: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        with _Bounded(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            position = -1
            for member in tar:
                if member.offset <= position or member.size < 0:  # a header that leads back to an earlier one
                    return
                position = member.offset
                name, _, suffix = member.name.partition(".")
                complete = member.isreg() and member.offset_data + member.size <= size
                if suffix not in _SUFFIXES.values() or not complete:
                    continue
                members = begun.setdefault(name, {})
                members[suffix] = member
                if len(members) == len(_SUFFIXES) and (pair := _pair(tar, shard, name, begun.pop(name))) is not None:
                    yield pair
    except (tarfile.TarError, ValueError, OverflowError, RecursionError):
        return  # a damaged header; the caller reports the number of pairs found so far


class _Bounded(io.FileIO):
    """A file that cannot be read whole into memory; the size in a header may be anything."""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LONGEST_LINE:
            raise tarfile.ReadError(f"got a part of {size} bytes; expected {LONGEST_LINE} or fewer")
        return super().read(size)


def _pair(
    tar: tarfile.TarFile, shard: Path, name: str, members: dict[str, tarfile.TarInfo]
) -> tuple[Record, PicturePair] | None:
    """Return the record and pair of a sample, or ``None`` if the record is invalid or has no sizes."""
    line = members[_SUFFIXES["record"]]
    record = _record(tar.extractfile(line).read()) if line.size <= LONGEST_LINE else None
    if record is None:
        return None
    pictures = []
    for kind in KINDS:
        if (size := recorded_size(record, kind)) is None:
            return None
        member = members[_SUFFIXES[kind]]
        source, where = f"{shard.name}/{name}.{_SUFFIXES[kind]}", (member.offset_data, member.size)
        pictures.append(PictureInShard(record["key"], shard, source, *where, size=size))
    return record, PicturePair(record["key"], *pictures, content_of(record["key"]), recorded_psnr(record))


def _record(line: bytes) -> Record | None:
    """Parse the JSON of a sample, which earlier versions wrote without ``manifest_line``."""
    value = parse_line(line)
    if isinstance(value, dict) and isinstance(value.get("manifest_line"), str):
        value = parse_line(value["manifest_line"].encode())
    return None if fault_of(value) else value
