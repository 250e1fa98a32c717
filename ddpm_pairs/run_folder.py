"""An output folder that an interrupted run resumes: the settings of the run, and the failures of all its ranks."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ddpm_pairs.errors import UserError
from ddpm_pairs.files import as_output_error, write_atomically
from ddpm_pairs.images.find import Failure

FAILURES, FAILURE_PARTS = "failures.jsonl", "failures.rank*.jsonl"


class RunFolder:
    """The folder of one run. A later run with the same settings resumes it; one with other settings is refused.

    Args:
        root: The folder; made by ``begin``.
        record: Name of the file that holds the settings, ``.yaml`` or ``.json``.
        contents: What the folder contains, for error messages, such as ``a t study``.
        rank: Rank of this process, which reports failures in a part of its own.
    """

    def __init__(self, root: Path, record: str, contents: str, rank: int = 0) -> None:
        self.root, self.record, self.contents, self.rank = root, root / record, contents, rank

    def settings(self) -> dict[str, Any] | None:
        """The settings that the folder was begun with; ``None`` where nothing was begun.

        Raises:
            UserError: If their file cannot be read.
        """
        if not self.record.is_file():
            return None
        load = yaml.safe_load if self.record.suffix == ".yaml" else json.loads
        try:
            settings = load(self.record.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError, RecursionError):
            settings = None
        if not isinstance(settings, dict):
            raise UserError(
                f"{self.record} cannot be read; give another --output_dir, or delete this file if the rest of the "
                "folder was made with the same settings"
            )
        return settings

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse a folder that cannot be resumed with these settings.

        Raises:
            UserError: If the folder is a file, or was begun with other settings; the message names the first that
                differs.
        """
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"--output_dir {self.root} is a file; give a folder or a new name")
        earlier = self.settings()
        if earlier is not None and (changed := differences(earlier, settings)):
            raise UserError(f"{differs(self.root, self.contents, changed)}; give another folder, or the same settings")

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Make the folder, write the settings down, and forget the failures of an interrupted run. On rank 0 alone.

        Raises:
            OutputError: If something cannot be written.
        """
        plain = _plain(settings)
        text = json.dumps(plain, indent=2) + "\n"
        if self.record.suffix == ".yaml":
            text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
        write_atomically(self.record, text.encode())
        self.clear()

    def report(self, failures: Iterable[Failure]) -> None:
        """Append sources that gave no result to the part of this rank.

        Raises:
            OutputError: If they cannot be written.
        """
        path = self.root / f"failures.rank{self.rank}.jsonl"
        if lines := failure_lines(failures):
            with as_output_error(path):
                self.root.mkdir(parents=True, exist_ok=True)
                with path.open("ab") as file:
                    file.write(lines)

    def reported(self) -> list[Failure]:
        """What all ranks reported."""
        return [failure for path in sorted(self.root.glob(FAILURE_PARTS)) for failure in read_failures(path)]

    def join(self, failures: Iterable[Failure]) -> list[Failure]:
        """Write ``failures.jsonl`` from what all ranks reported, and remove their parts. On rank 0 alone.

        Args:
            failures: Further sources known to give no result.

        Returns:
            All failures, sorted by source.

        Raises:
            OutputError: If the file cannot be written.
        """
        by_source = {failure.source: failure for failure in (*failures, *self.reported())}
        joined = [by_source[source] for source in sorted(by_source)]
        write_atomically(self.root / FAILURES, failure_lines(joined))
        self.clear()
        return joined

    def clear(self) -> None:
        """Remove the parts of the ranks."""
        with as_output_error(self.root):
            for path in self.root.glob(FAILURE_PARTS):
                path.unlink()


def failure_lines(failures: Iterable[Failure]) -> bytes:
    """The lines of ``failures.jsonl``."""
    lines = [{"source": failure.source, "reason": failure.reason} for failure in failures]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def parse_failure(line: bytes) -> Failure | None:
    """One line of ``failures.jsonl``; ``None`` for one that is torn or something else."""
    try:
        value = json.loads(line.decode())
        return Failure(str(value["source"]), str(value["reason"]))
    except (ValueError, RecursionError, TypeError, KeyError):
        return None


def read_failures(path: Path) -> list[Failure]:
    """The failures in a file; broken lines count as absent, and so does a missing file."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return [failure for line in file if (failure := parse_failure(line)) is not None]


def differs(root: Path, contents: str, changed: list[str]) -> str:
    """The beginning of the message that refuses a folder made with other settings."""
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"--output_dir {root} contains {contents} made with different settings ({changed[0]}{more})"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The settings in ``after`` that ``before`` has otherwise or lacks.

    Returns:
        One text each, such as ``degradation.operations.2.sigma [1, 5] -> [1, 9]``.
    """
    plain = _plain(after)
    return [_difference(name, before.get(name), value) for name, value in plain.items() if before.get(name) != value]


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as their file gives them back: tuples are lists."""
    return json.loads(json.dumps(settings))


def _difference(name: str, before: Any, after: Any) -> str:  # noqa: ANN401 - plain values of any kind
    """Where two settings first differ."""
    pairs = []
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        pairs = [(f"{name}.{key}", before[key], after[key]) for key in before]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        both = enumerate(zip(before, after, strict=True), start=1)
        pairs = [(f"{name}.{n}", one, other) for n, (one, other) in both if isinstance(one, dict)]
    for part, one, other in pairs:
        if one != other:
            return _difference(part.replace(".init_args", ""), one, other)
    return f"{name} {_shortened(before)} -> {_shortened(after)}"


def _shortened(value: Any) -> str:  # noqa: ANN401
    text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
