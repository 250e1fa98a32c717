"""The pairs folder: publishing pairs one by one, so that a run may die at any moment and go on later.

While a run is under way each rank appends to ``manifest.rank<r>.jsonl``; at the end (and at the start of the next run)
the parts become one sorted ``manifest.jsonl``. A pair exists when its line and both its files do: files are written
beside their place and moved there whole, and the line follows last.
"""

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from ddpm_pairs.data.pictures import Failure
from ddpm_pairs.files import encode_png, place

MANIFEST, FAILURES, META_INFO = "manifest.jsonl", "failures.jsonl", "meta_info.txt"


class PairsFolder:
    """One folder of pairs on disk.

    Args:
        root: The folder; made when the first thing is written.
        rank: Whose part of the manifest this process appends to.
    """

    def __init__(self, root: str | Path, rank: int = 0) -> None:
        self.root, self.rank = Path(root), rank

    def records(self) -> dict[str, dict[str, Any]]:
        """Manifest lines by key, of the manifest and all parts; torn or foreign lines count as absent."""
        found: dict[str, dict[str, Any]] = {}
        for path in [self.root / MANIFEST, *sorted(self.root.glob("manifest.rank*.jsonl"))]:
            if path.is_file():
                found.update({record["key"]: record for record in _read_lines(path) if _is_record(record)})
        return found

    def finished(self) -> dict[str, dict[str, Any]]:
        """The records whose HQ and LQ files are both there, by key in code-point order."""
        records = self.records()
        return {key: records[key] for key in sorted(records) if self._has_files(records[key])}

    def publish(self, hq: Tensor, lq: Tensor, record: dict[str, Any]) -> dict[str, Any]:
        """Put a pair into the folder; it exists when this returns.

        Args:
            hq: (3, H, W), uint8.
            lq: (3, h, w), uint8.
            record: The manifest line without ``lq_sha256``; ``hq`` and ``lq`` name the files.

        Returns:
            The line as written.
        """
        lq_png = encode_png(lq)
        self._place(record["hq"], encode_png(hq))
        self._place(record["lq"], lq_png)
        line = {**record, "lq_sha256": sha256(lq_png).hexdigest()}
        self._append(f"manifest.rank{self.rank}.jsonl", line)
        return line

    def report(self, failures: Iterable[Failure]) -> None:
        """Note sources that gave no pair in this rank's part of the failures."""
        for failure in failures:
            self._append(f"failures.rank{self.rank}.jsonl", {"source": failure.source, "reason": failure.reason})

    def compact(self) -> None:
        """Join the parts of the manifest, and remove what an interrupted run left half done. One process at a time."""
        if not self.root.is_dir():
            return
        lines = [_line(record) for record in self.finished().values()]
        self._place(MANIFEST, "".join(lines).encode())
        for pattern in ("manifest.rank*.jsonl", "failures.rank*.jsonl", "hq/**/*.tmp", "lq/**/*.tmp", "*.tmp"):
            for path in self.root.glob(pattern):
                if path.is_file():  # a folder of keys may be called x.tmp
                    path.unlink()

    def finish(self, failures: Iterable[Failure]) -> tuple[dict[str, dict[str, Any]], list[Failure]]:
        """End a run: one sorted manifest, ``meta_info.txt`` and ``failures.jsonl``.

        Args:
            failures: Sources found wanting before the work began; those that ranks reported are added.

        Returns:
            The finished records by key, and all failures.
        """
        reported = [line for path in self.root.glob("failures.rank*.jsonl") for line in _read_lines(path)]
        gathered = {failure.source: failure for failure in failures}
        gathered.update({line["source"]: Failure(line["source"], line["reason"]) for line in reported})
        failed = [gathered[source] for source in sorted(gathered)]
        self.root.mkdir(parents=True, exist_ok=True)
        self.compact()
        records = self.finished()
        self._place(META_INFO, "".join(f"{one['hq']}, {one['lq']}\n" for one in records.values()).encode())
        lines = [_line({"source": failure.source, "reason": failure.reason}) for failure in failed]
        self._place(FAILURES, "".join(lines).encode())
        return records, failed

    def _has_files(self, record: dict[str, Any]) -> bool:
        return (self.root / record["hq"]).is_file() and (self.root / record["lq"]).is_file()

    def _place(self, name: str, content: bytes) -> None:
        place(self.root / name, content, self.rank)

    def _append(self, name: str, line: dict[str, Any]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / name).open("ab") as file:
            file.write(_line(line).encode())


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _read_lines(path: Path) -> list[Any]:
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue  # the last line of a killed process may be torn
    return lines


def _is_record(record: Any) -> bool:  # noqa: ANN401 - whatever stood in the file
    return isinstance(record, dict) and all(isinstance(record.get(name), str) for name in ("key", "hq", "lq"))
