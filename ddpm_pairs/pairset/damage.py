"""One pair of a folder against its lines in the manifest: what is wrong with it."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ddpm_pairs.images.decode import UnreadablePicture, decode_picture

KINDS = ("hq", "lq")

Line = tuple[Path, int]
"""A line of a manifest: the file, and where in it the line begins, in bytes."""


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it should be.

    Attributes:
        kind: ``broken``, ``doubled`` or ``unsorted`` (lines), ``missing``, ``torn``, ``altered`` or ``unreadable``
            (files of a pair), ``orphan`` (a picture without a line), ``leftover`` (half a file), ``unfinished`` (a run
            that has not ended), ``meta_info`` or ``run.yaml``.
        name: The file, relative to the folder, or the line, such as ``manifest.jsonl:12``.
        reason: In one line.
        mendable: Whether ``verify --fix`` mends it.
    """

    kind: str
    name: str
    reason: str
    mendable: bool = True


def check_pair(root: Path, lines: list[Line]) -> tuple[Line | None, list[Damage], bool]:
    """Compare a pair's files with its lines; there may be several, of which at most one is kept.

    Args:
        root: The pairs folder.
        lines: All lines of one key.

    Returns:
        The line to keep, ``None`` where the pair is damaged; what is wrong; and whether the HQ was compared by hash.
    """
    records = [json.loads(read_at(line)) for line in lines]
    unlike = [n for n, record in enumerate(records) if record not in records[:n]]
    faults = {n: _faults_of_files(root, records[n]) for n in unlike}
    true = [n for n in unlike if not faults[n]]
    damages, key, hashed = [], records[0]["key"], "hq_sha256" in records[-1]
    if len(lines) > 1:
        reason = "alike" if len(unlike) == 1 else f"of which {len(true)} fit the files"
        places = ", ".join(sorted({path.name for path, _ in lines}))
        damages.append(Damage("doubled", places, f"{len(lines)} lines for {key!r}, {reason}"))
    if len(true) == 1:
        return lines[true[0]], damages, hashed
    damages += [] if true else faults[unlike[-1]]
    unsure = any(damage.kind == "unreadable" for damage in damages)
    return lines[-1] if unsure else None, damages, hashed


def _faults_of_files(root: Path, record: dict[str, Any]) -> list[Damage]:
    """What is wrong with the files of a record."""
    faults = []
    for kind in KINDS:
        name, expected = record[kind], record.get(f"{kind}_sha256")
        try:
            content = (root / name).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            faults.append(Damage("missing", name, f"there is no such file, and {record['key']!r} has a line"))
            continue
        except OSError as error:
            faults.append(Damage("unreadable", name, f"it cannot be read: {error.strerror}", mendable=False))
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
                Damage("altered", name, f"a picture, but not the one written: its SHA-256 is not {kind}_sha256")
            )
        elif size != record.get(f"{kind}_size"):
            faults.append(Damage("altered", name, f"{size[0]}x{size[1]} pixels, the line says {record.get('hq_size')}"))
    return faults


def read_at(line: Line) -> bytes:
    """The bytes of a line, its line break included."""
    path, position = line
    with path.open("rb") as file:
        file.seek(position)
        return file.readline()
