"""Tar shards as the webdataset package reads them: ``<key>.hq.png``, ``<key>.lq.png``, ``<key>.json`` of each pair."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

from ddpm_pairs.pairset.folder import line_of
from ddpm_pairs.pairset.sample import Sample

INDEX = "shards.json"


def write_shards(folder: Path, samples: Iterable[Sample], size: int) -> list[str]:
    """Write ``pairs-000000.tar``, ``pairs-000001.tar``, ..., and ``shards.json``, which counts the pairs in each.

    Equal samples give equal bytes: members belong to nobody and bear no time.

    Args:
        folder: Where to; it is there.
        samples: What to pack, in this order; at least one.
        size: Bytes of a shard at most; a larger sample gets one of its own.

    Returns:
        The names of the shards.
    """
    shards: list[dict[str, str | int]] = []
    tar = None
    try:
        for sample in samples:
            members = [(_header(name, content), content) for name, content in _members(sample)]
            need = sum(len(header.tobuf()) + -(-len(content) // 512) * 512 for header, content in members)
            # what closes a tar file fills up its last record
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
    total = sum(shard["pairs"] for shard in shards)
    (folder / INDEX).write_text(json.dumps({"pairs": total, "shards": shards}, indent=1) + "\n")
    return [shard["name"] for shard in shards]


def _members(sample: Sample) -> list[tuple[str, bytes]]:
    contents = {"hq.png": sample.hq, "lq.png": sample.lq, "json": line_of(sample.record).encode()}
    return [(f"{sample.name}.{suffix}", content) for suffix, content in contents.items()]


def _header(name: str, content: bytes) -> tarfile.TarInfo:
    """A regular file of mode 644, of nobody, without a time."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    return header
