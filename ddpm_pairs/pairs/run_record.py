"""``run.yaml``: what a pairs folder was made with, and whether a later run may go on with it."""

import importlib
import platform
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from ddpm_pairs.degradations import Degradation, build_degradation
from ddpm_pairs.pairs.generator import PairGenerator

RUN_FILE = "run.yaml"
_PACKAGES = ("ddpm_pairs", "torch", "lightning", "kornia", "diffusers", "numpy", "pillow")
# A resumed run takes these from the folder, because the last bits of a picture depend on them.
_TAKEN_OVER = ("precision", "slots", "threads")


def checkpoint_sha256(path: str | Path | None) -> str | None:
    """SHA-256 of a checkpoint file, or of all files of a folder in the order of their names; ``None`` without one."""
    if path is None:
        return None
    path = Path(path)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest = sha256()
    for file in files:
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def run_settings(generator: PairGenerator, checkpoint: str | None, device: str) -> dict[str, Any]:
    """Everything that decides what the pairs of a run look like, as plain values.

    Args:
        generator: The generator of the run.
        checkpoint: SHA-256 of the checkpoint, or ``None``.
        device: ``cpu`` or ``cuda``.
    """
    return {
        "checkpoint_sha256": checkpoint,
        "degradation": _degradation_spec(generator.degradation),
        "scale": generator.scale,
        "t_min": generator.t_min,
        "t_max": generator.t_max,
        "sampler": generator.sampling.sampler,
        "num_steps": generator.sampling.num_steps,
        "eta": generator.sampling.eta,
        "seed": generator.seed,
        "device": device,
    }


def read_run(root: Path) -> dict[str, Any] | None:
    """The content of ``run.yaml``, or ``None`` where there is none.

    Raises:
        ValueError: if the file is no ``run.yaml`` of a pairs folder.
    """
    path = root / RUN_FILE
    if not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict) or not {"settings", "machine", "places"} <= content.keys():
        raise ValueError(f"{path} is no description of a pairs folder: expected one written by `lightning predict`")
    return content


def go_on(root: Path, generator: PairGenerator, settings: dict[str, Any], allow_mixed: bool) -> None:
    """Let a generator go on with a folder, taking precision, slots and threads from it.

    Raises:
        ValueError: if the folder was made with other settings and ``allow_mixed`` is not set.
    """
    earlier = read_run(root)
    if earlier is None:
        return
    changed = [
        f"{name} {earlier['settings'].get(name)} -> {value}"
        for name, value in settings.items()
        if earlier["settings"].get(name) != value
    ]
    if changed and not allow_mixed:
        raise ValueError(
            f"--output_dir {root} holds pairs made otherwise ({'; '.join(changed)}): "
            "give another folder, the same settings, or --allow_mixed true to go on all the same"
        )
    if not changed:
        for name in _TAKEN_OVER:
            setattr(generator, name, earlier["machine"][name])


def write_run(
    root: Path,
    generator: PairGenerator,
    settings: dict[str, Any],
    places: dict[str, Any],
    config: dict[str, Any] | None,
) -> None:
    """Write ``run.yaml``.

    Args:
        root: The pairs folder.
        generator: The generator of the run, prepared for its device.
        settings: See ``run_settings``.
        places: Where things lay: ``hq_dir``, ``checkpoint``.
        config: The resolved config of the command line, if it came from there.
    """
    content = {
        "settings": settings,
        "machine": {name: getattr(generator, name) for name in (*_TAKEN_OVER, "multiple")}
        | {"processor": platform.machine()},
        "places": places,
        "versions": {name: version(name) for name in _PACKAGES},
        "config": config,
    }
    root.mkdir(parents=True, exist_ok=True)
    beside = root / f"{RUN_FILE}.tmp"
    beside.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    beside.replace(root / RUN_FILE)


def generator_from_run(run: dict[str, Any]) -> PairGenerator:
    """A generator with the settings of a ``run.yaml`` and its canvases, without its checkpoint.

    Raises:
        ValueError: if the degradation's class cannot be imported.
    """
    settings, machine = run["settings"], run["machine"]
    taken = {name: settings[name] for name in ("scale", "t_min", "t_max", "sampler", "num_steps", "eta", "seed")}
    degradation = _build_degradation(settings["degradation"], settings["scale"])
    generator = PairGenerator(degradation=degradation, **taken, **{name: machine[name] for name in _TAKEN_OVER})
    generator.default_multiple = machine["multiple"]
    return generator


def _degradation_spec(degradation: Degradation) -> dict[str, Any]:
    """By name for our own, by class and arguments (``init_args``, which the command line sets) for others."""
    path = f"{type(degradation).__module__}.{type(degradation).__qualname__}"
    spec: dict[str, Any] = {"name": degradation.name}
    if not path.startswith("ddpm_pairs.degradations."):
        spec |= {"class_path": path, "init_args": dict(getattr(degradation, "init_args", {}))}
    return spec


def _build_degradation(spec: dict[str, Any], scale: int) -> Degradation:
    if "class_path" not in spec:
        return build_degradation(spec["name"], scale)
    module, _, name = spec["class_path"].rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)(**spec["init_args"])
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"degradation {spec['class_path']} cannot be imported ({error}): install its package"
        ) from None
