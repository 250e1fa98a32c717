"""Convert ``run.yaml`` and manifest lines of pairs folders made by version 0.1 to the current format.

In version 0.1, t and the noise had separate seeds, derived from the run's seed and the key; ``preset: faces`` meant a
start on the HQ grid for named degradations of this package; and class paths named modules that have moved since.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ddpm_pairs.degradations
from ddpm_pairs.degradations import ClassicalFaces, OnHQGrid
from ddpm_pairs.degradations.base import public_path, spec_of
from ddpm_pairs.degradations.by_name import NAMES, build
from ddpm_pairs.errors import UserError
from ddpm_pairs.tensors import seed_of

_MOVED = {"ddpm_pairs.camera.Camera": "ddpm_pairs.demo.camera.Camera"}
_PRESET = ("bicubic", "classical", "bsrgan", "real_esrgan")
"""The degradations that knew presets; others ignored them."""
_KEPT = ("scale", "sharpen_hq", "gray_hq", "variants", "psnr_drop", "tile", "seed", "device")


@contextmanager
def described_by(spec: Any) -> Iterator[None]:  # noqa: ANN401 - plain values of any kind
    """Turn errors of the block into ``UserError`` if only degradations of this package are built from ``spec``.

    Their arguments come from a file, and are wrong. The errors of a class of your own keep their traceback.

    Raises:
        UserError: If the degradation cannot be built.
    """
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        if isinstance(error, UserError) or not all(path.startswith("ddpm_pairs.") for path in _class_paths(spec)):
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"the degradation that run.yaml describes cannot be built ({reason})") from error


def _class_paths(part: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield all class paths in plain values."""
    for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _class_paths(value)
    if isinstance(part, dict) and isinstance(part.get("class_path"), str):
        yield part["class_path"]


def is_old(run: dict[str, Any]) -> bool:
    """Return whether version 0.1 wrote this ``run.yaml``."""
    return "format" not in run


def modern_run(run: dict[str, Any]) -> dict[str, Any]:
    """Convert the content of a ``run.yaml`` to the current format; return a current one as it is."""
    if not is_old(run):
        return run
    old = run["settings"]
    with described_by(old["degradation"]):
        degradation = _spec(old["degradation"], old["scale"], old["preset"])
    checkpoint = old["checkpoint_sha256"]
    if checkpoint is not None:
        arguments = {
            "start": degradation,
            "denoiser": run["places"]["checkpoint"],
            "t": [old["t_min"], old["t_max"]],
            "t_weights": old["t_weights"],
            "sampling": {name: old[name] for name in ("sampler", "num_steps", "eta")},
            "tile": old["tile"],
        }
        path = public_path(ddpm_pairs.degradations.Walk)
        degradation = {"name": "walk", "class_path": path, "init_args": arguments, "weights_sha256": checkpoint}
    settings = {"checkpoint_sha256": checkpoint, "degradation": degradation, **{name: old[name] for name in _KEPT}}
    return run | {"format": 1, "settings": settings}


def faces_option(run: dict[str, Any]) -> str | None:
    """The option that asks, over ``pairs.yaml``, for what was ``preset: faces``; ``None`` for other runs.

    Args:
        run: What ``modern_run`` returned for a run of version 0.1.
    """
    spec = run["settings"]["degradation"]
    if spec["name"] == ClassicalFaces.name:
        return f"--model.degradation {ClassicalFaces.name}"
    if spec["name"] == OnHQGrid.name:
        return f"--model.degradation.degradation {spec['init_args']['degradation']['name']}"
    return None


def modern_record(record: dict[str, Any], walked: bool) -> dict[str, Any]:
    """Convert a manifest line to the current format; return a current one as it is.

    Args:
        record: The line.
        walked: Whether the run used a DDPM, even if t was 0.
    """
    if "preset" not in record:
        return record
    entry = record["degradation"]
    if record["preset"] == "faces" and entry["name"] in _PRESET:
        on_grid = {"name": "on_hq_grid", "parameters": {"degradation": entry}}
        entry = entry | {"name": "classical_faces"} if entry["name"] == "classical" else on_grid
    if walked:
        seeds = {f"{name}_seed": seed_of(record["seed"], record["key"], name) for name in ("noise", "steps")}
        entry = {"name": "walk", "parameters": {"t": record["t"], **seeds, "start": entry}}
    return record | {"degradation": entry}


def _spec(old: dict[str, Any], scale: int, preset: str) -> dict[str, Any]:
    """Return the current ``spec_of`` of a degradation that was described by its name, or by class and arguments."""
    name = old["name"]
    if "class_path" not in old:
        old = {"class_path": public_path(NAMES[name]), "init_args": {"scale": scale}} if name in NAMES else old
    spec = _moved({"class_path": old.get("class_path", name), "init_args": old.get("init_args") or {}})
    if not spec["class_path"].startswith("ddpm_pairs.degradations."):
        return {"name": name, **spec}
    arguments = dict(spec["init_args"])
    preset = arguments.pop("preset", preset)
    if preset == "faces" and name in _PRESET:
        del arguments["scale"]
        if name == "classical":
            spec = {"class_path": public_path(NAMES["classical_faces"]), "init_args": arguments}
        else:
            inner = {"class_path": spec["class_path"], "init_args": arguments | {"scale": 4}}
            spec = {"class_path": "ddpm_pairs.degradations.OnHQGrid", "init_args": {"degradation": inner}}
    else:
        spec = spec | {"init_args": arguments}
    return spec_of(build(spec))


def _moved(part: Any) -> Any:  # noqa: ANN401 - any value of a config
    """Replace the class paths in a description with the current ones."""
    if isinstance(part, list):
        return [_moved(one) for one in part]
    if not isinstance(part, dict):
        return part
    part = {name: _moved(value) for name, value in part.items()}
    path = part.get("class_path")
    if isinstance(path, str):
        name = path.rpartition(".")[2]
        if path.startswith("ddpm_pairs.degradations.") and name in ddpm_pairs.degradations.__all__:
            path = f"ddpm_pairs.degradations.{name}"
        part["class_path"] = _MOVED.get(path, path)
    return part
