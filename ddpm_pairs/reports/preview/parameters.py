"""Describe random degradation parameters in short phrases, and collect them into columns.

The degradations in ``ddpm_pairs.degradations`` have their own phrases (blur, resize, noise, JPEG); parameters of custom
degradations are shown by name and value.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

Value = float | str


def phrases(value: Any, name: str = "") -> list[str]:  # noqa: ANN401 - any JSON value
    """Describe parameters in short phrases, in their order.

    Args:
        value: Parameters of one image, or a part of them. ``None`` and ``False`` mean "not applied" and are skipped,
            as are seeds.
        name: Name of the part.

    Returns:
        Phrases such as ``aniso blur σ 2.3/0.4 57°`` or ``×0.43 area``.
    """
    if value is None or value is False or name.endswith("seed") or name in ("operation", "name"):
        return []
    if isinstance(value, dict):
        known = _known(value, name)
        return [known] if known else [one for key, part in value.items() for one in phrases(part, key)]
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return _numbered([phrases(part, name) for part in value])
    words = name.replace("_", " ")
    if value is True:
        return [words]
    if isinstance(value, list):
        return [f"{words} {'/'.join(_short(one) for one in value)}"]
    if name == "quality":
        return [f"JPEG {value:.0f}"]
    if name == "mode":
        return [f"→ LQ size {value}"]
    return [f"{words} {_short(value)}".strip()]


def _numbered(parts: list[list[str]]) -> list[str]:
    """Join the phrases of a list of records; stages with several steps are numbered."""
    if all(len(part) <= 1 for part in parts):
        return [one for part in parts for one in part]
    return [f"{n}. {one}" if one == part[0] else one for n, part in enumerate(parts, start=1) for one in part]


def _known(part: dict[str, Any], name: str) -> str | None:
    """Return the phrase of a record with a known form; ``None`` for others."""
    kind = str(part.get("kind", "")).replace("generalized", "gen.").replace("_", " ")
    if "cutoff" in part:
        return f"sinc {part['cutoff']:.2f} rad/px"
    if "sigma_x" in part:
        words = [f"{kind if ' ' in kind else f'{kind} blur'} σ {part['sigma_x']:.1f}"]
        if part["sigma_y"] != part["sigma_x"]:
            words = [f"{words[0]}/{part['sigma_y']:.1f}", f"{math.degrees(part['angle']) % 180:.0f}°"]
        return " ".join([*words, *([f"β {part['beta']:.1f}"] if "beta" in part else [])])
    if kind and "noise_seed" in part:
        level = f" {part['level']:.3g}" if "level" in part else ""
        return f"{kind} noise{level}{' gray' if part.get('gray') else ''}"
    if "factor" in part:  # with a mode it multiplies the sides, without one it divides them
        if "mode" not in part:
            return f"÷{part['factor']:.2f}"
        return "not resized" if part["factor"] == 1 else f"×{part['factor']:.2f} {part['mode']}"
    if "kernel" in part and "step" in part:
        return f"σ {part['kernel']['sigma']:.1f}, every {part['step']}. px"
    return f"halved {part['mode']}" if name == "halve" else None


def _short(value: Any) -> str:  # noqa: ANN401
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def columns(draws: Sequence[dict[str, Any]]) -> dict[str, tuple[list[Value], float]]:
    """Collect every parameter that varies between draws.

    Args:
        draws: Parameters of many images.

    Returns:
        By name, such as ``stages 1 blur sigma_x``: all values, and the share of draws that have any. Lists of numbers
        share a column; operations are listed under their names in any position, levels under their kind. Seeds are
        skipped, as are the second width and the angle of round kernels.
    """
    values: dict[str, list[Value]] = {}
    holders: dict[str, set[int]] = {}
    for number, drawn in enumerate(draws):
        for path, value in _leaves(drawn, ()):
            name = " ".join(path)
            values.setdefault(name, []).append(value)
            holders.setdefault(name, set()).add(number)
    shares = {name: len(holders[name]) / len(draws) for name in sorted(values)}
    return {name: (values[name], share) for name, share in shares.items() if share < 1 or len(set(values[name])) > 1}


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Value]]:  # noqa: ANN401
    if isinstance(value, dict):
        turned = value.get("sigma_x") != value.get("sigma_y")
        for key, part in value.items():
            if key == "operation" or key.endswith("seed") or (key in ("sigma_y", "angle") and not turned):
                continue
            kind = f" ({value['kind']})" if key == "level" and "kind" in value else ""
            yield from _leaves(part, (*path, key + kind))
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        names = [str(one.get("operation", n)) for n, one in enumerate(value, start=1)]
        if "operation" in value[0]:
            yield (*path, "first"), names[0]
        for name, part in zip(names, value, strict=True):
            own = (name,) if part.keys() - {"operation"} != {name} else ()  # not "noise noise level"
            yield from _leaves(part, (*path, *own))
    elif isinstance(value, list):
        if value and all(isinstance(one, str) for one in value):
            yield (*path, "first"), value[0]
            return
        for part in value:
            yield from _leaves(part, path)
    elif isinstance(value, bool):
        yield path, "yes" if value else "no"
    elif value is not None:
        yield path, value
