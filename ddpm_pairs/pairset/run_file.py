"""``run.yaml``: what a pairs folder was made with."""

from pathlib import Path
from typing import Any

import yaml

from ddpm_pairs.errors import UserError
from ddpm_pairs.files import write_atomically

RUN_FILE = "run.yaml"


def read_run(root: Path) -> dict[str, Any] | None:
    """The content of ``run.yaml``, or ``None`` where there is none.

    Raises:
        UserError: If the file is no ``run.yaml`` of a pairs folder.
    """
    path = root / RUN_FILE
    if not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError):
        content = None
    parts = [content.get(name) for name in ("settings", "machine", "places")] if isinstance(content, dict) else [None]
    described = all(isinstance(part, dict) for part in parts) and {"degradation", "tile"} <= parts[0].keys()
    if not described or not ("format" in content or "preset" in parts[0]):
        raise UserError(f"{path} is no description of a pairs folder; expected one that this version's `predict` wrote")
    return content


def write_run_file(root: Path, content: dict[str, Any]) -> None:
    """Write ``run.yaml``.

    Raises:
        OutputError: If it cannot be written.
    """
    write_atomically(root / RUN_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())
