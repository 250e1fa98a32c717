"""Describe how the settings of two runs differ."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpm_pairs.plain_text import printable


def differs(root: Path, contents: str, changed: list[str]) -> str:
    """Return the first part of the error message for a folder made with different settings."""
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"--output_dir {root} contains {contents} made with different settings ({changed[0]}{more})"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Compare two sets of settings.

    Returns:
        One text for each setting in ``after`` that is different or missing in ``before``, such as
        ``degradation.operations.2.sigma [1, 5] -> [1, 9]``.
    """
    plain = plain_values(after)
    return [_difference(name, before.get(name), value) for name, value in plain.items() if before.get(name) != value]


def plain_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they are read back from JSON: tuples become lists."""
    return json.loads(json.dumps(settings))


def _difference(name: str, before: Any, after: Any) -> str:  # noqa: ANN401 - plain values of any kind
    """Describe the first place where two values of a setting differ."""
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
    text = printable(" ".join(str(value).split()))
    return text if len(text) <= 80 else f"{text[:79]}…"


def first_difference(asked: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Find the first value in which one ``Denoiser.spec()``, or a part of one, differs from another.

    Args:
        asked: The expected values; only these are compared.
        found: The actual values.

    Returns:
        The name, the expected value and the actual value; ``None`` if all agree.
    """
    held = _flat(found)
    for name, value in _flat(asked).items():
        if held.get(name) != value:
            return name.removeprefix("net.init_args."), value, held.get(name)
    return None


def _flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in spec.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
