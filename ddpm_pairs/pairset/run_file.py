"""``run.yaml``: what a pairs folder was made with."""

from pathlib import Path
from typing import Any

import yaml

from ddpm_pairs.errors import UserError

RUN_FILE = "run.yaml"


def read_run(root: Path) -> dict[str, Any] | None:
    """The content of ``run.yaml``, or ``None`` where there is none.

    Raises:
        UserError: if the file is no ``run.yaml`` of a pairs folder.
    """
    path = root / RUN_FILE
    if not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    parts = content if isinstance(content, dict) else {}
    if not {"settings", "machine", "places"} <= parts.keys() or not {"preset", "tile"} <= set(parts["settings"]):
        raise UserError(f"{path} is no description of a pairs folder: expected one of this version's `predict`")
    return content
