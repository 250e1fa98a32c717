"""Compare the files of one pair with its lines in the manifest, and with its source."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG

from ddpm_pairs.files import parse_line
from ddpm_pairs.images.decode import UnreadablePicture, decode_picture
from ddpm_pairs.pairset.records import KINDS, Files, Record, line_at, stays_below

CLOCK_SKEW = 60.0
"""Seconds by which the clocks of two file servers may differ."""

Line = tuple[Path, int]
"""A line of a manifest: the file and the byte offset of the line in it."""


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong in a pairs folder.

    Attributes:
        kind: For lines ``broken``, ``doubled`` (duplicate), or ``unsorted``; for the files of a pair ``missing``,
            ``torn`` (not a complete image), ``altered`` (not the image that was written), ``changed`` (the source is
            another image now), or ``unreadable``; ``orphan``
            (an image without a line), ``leftover`` (a partial file), ``unfinished`` (a run that did not finish),
            ``meta_info``, or ``run.yaml``.
        name: The file, relative to the folder, or the line, such as ``manifest.jsonl:12``.
        reason: What is wrong, in one line.
        mendable: Whether ``verify --fix`` repairs it.
    """

    kind: str
    name: str
    reason: str
    mendable: bool = True


def check_pair(files: Files, hq_dir: Path | None, lines: list[Line]) -> tuple[Line | None, list[Damage], bool]:
    """Compare the files of a pair with its lines. If there are several lines, at most one is kept.

    Args:
        files: The files of the pairs folder.
        hq_dir: The folder of the sources, if it is known.
        lines: All lines of one key.

    Returns:
        The line to keep, or ``None`` if the pair is dropped; the damages; and whether the HQ was compared by hash.
    """
    records = [parse_line(line_at(*line)) for line in lines]
    unlike = [n for n, record in enumerate(records) if record not in records[:n]]
    faults = {n: _faults_of_files(files, records[n]) for n in unlike}
    true = [n for n in unlike if not faults[n]]
    damages, key, hashed = [], records[0]["key"], "hq_sha256" in records[-1]
    if len(lines) > 1:
        reason = "all identical" if len(unlike) == 1 else f"{len(true)} of them match the files"
        places = ", ".join(sorted({path.name for path, _ in lines}))
        damages.append(Damage("doubled", places, f"{len(lines)} lines for {key!r}, {reason}"))
    if len(true) == 1:
        record = records[true[0]]
        if hq_dir is not None and is_changed(record, hq_dir / record.get("source", ""), files.root / record["lq"]):
            reason = f"{record['source']!r} in {hq_dir} changed after the pair was made; rerun the predict command"
            damages.append(Damage("changed", record["lq"], reason, mendable=False))
        return lines[true[0]], damages, hashed
    damages += [] if true else faults[unlike[-1]]
    unsure = any(damage.kind == "unreadable" for damage in damages)
    return lines[-1] if unsure else None, damages, hashed


def _faults_of_files(files: Files, record: Record) -> list[Damage]:
    """Return what is wrong with the files of a record."""
    faults = []
    for kind in KINDS:
        name, expected = record[kind], record.get(f"{kind}_sha256")
        if fault := files.fault(name):
            faults.append(Damage("missing", name, f"the file {fault}, but {record['key']!r} has a line"))
            continue
        try:
            content = (files.root / name).read_bytes()
        except OSError as error:
            faults.append(Damage("unreadable", name, f"cannot be read: {error.strerror}", mendable=False))
            continue
        if expected is not None and sha256(content).hexdigest() == expected:
            continue
        try:
            size = list(decode_picture(content).shape[1::-1])
        except UnreadablePicture as error:
            faults.append(Damage("torn", name, str(error)))
            continue
        if expected is not None:
            faults.append(
                Damage("altered", name, f"not the image that was written: its SHA-256 differs from {kind}_sha256")
            )
        elif size != record.get(f"{kind}_size", size):
            expected = record[f"{kind}_size"]
            faults.append(Damage("altered", name, f"got {size[0]}x{size[1]} pixels; expected {expected}"))
    return faults


def changed_pairs(root: Path, records: Iterable[Record], sources: Mapping[str, Path]) -> list[str]:
    """Return the keys of pairs whose source changed after they were made, in the order of the records.

    Args:
        root: The pairs folder.
        records: The records of its pairs.
        sources: The source of each key; pairs of other keys are not checked.
    """
    return [
        record["key"]
        for record in records
        if record["key"] in sources and is_changed(record, sources[record["key"]], root / record["lq"])
    ]


def is_changed(record: Record, source: Path, lq: Path) -> bool:
    """Check whether a source changed after its pair was made; a source that is missing did not.

    Its bytes are compared only if its content, name, or rights changed after the LQ file was written, so this takes
    10 microseconds for most sources.

    Args:
        record: The record of the pair; without ``source_sha256``, nothing can be compared.
        source: The source.
        lq: The LQ file of the pair.
    """
    if "source_sha256" not in record or not stays_below(record.get("source", "")):
        return False
    try:
        now, made = source.stat(), lq.stat()
        if not S_ISREG(now.st_mode) or max(now.st_mtime, now.st_ctime) < made.st_mtime - CLOCK_SKEW:
            return False
        return _hash_of(source, now.st_mtime_ns, now.st_ctime_ns) != record["source_sha256"]
    except OSError:
        return False


@lru_cache(maxsize=1024)  # variants of one image are near each other
def _hash_of(path: Path, *times: int) -> str:
    """Hash a file; ``times`` tell apart its contents."""
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
