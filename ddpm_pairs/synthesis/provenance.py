"""``run.yaml``: what a pairs folder was made with, and whether a later run may go on with it."""

import contextlib
import importlib
import inspect
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ddpm_pairs.degradations import Degradation, build_degradation
from ddpm_pairs.errors import UserError
from ddpm_pairs.pairset.run_file import read_run, write_run_file
from ddpm_pairs.run_folder import differences, differs
from ddpm_pairs.synthesis.generator import PairGenerator

_PACKAGES = ("ddpm_pairs", "torch", "lightning", "kornia", "diffusers", "numpy", "pillow", "opencv-python-headless")


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
        "preset": generator.preset,
        "sharpen_hq": generator.hq_preparation.sharpen,
        "gray_hq": generator.hq_preparation.gray,
        "t_min": generator.t_min,
        "t_max": generator.t_max,
        "t_weights": generator.t_weights,
        "sampler": generator.sampling.sampler,
        "num_steps": generator.sampling.num_steps,
        "eta": generator.sampling.eta,
        "variants": generator.variants,
        "psnr_drop": generator.psnr_drop,
        "tile": generator.tile,
        "seed": generator.seed,
        "device": device,
    }


def resume(root: Path, generator: PairGenerator, settings: dict[str, Any], allow_mixed: bool) -> None:
    """Let a generator resume a folder, with the execution settings of the run that began it.

    A folder may get more variants than it has; existing pairs do not change.

    Raises:
        UserError: If the folder was made with other settings and ``allow_mixed`` is not set.
    """
    earlier = read_run(root)
    if earlier is None:
        return
    settled = dict(settings)
    if earlier["settings"].get("variants", 1) < settings["variants"]:
        del settled["variants"]
    changed = differences(earlier["settings"], settled)
    if changed and not allow_mixed:
        raise UserError(
            f"{differs(root, 'pairs', changed)}; give another folder, the same settings, or --allow_mixed true"
        )
    if not changed:
        generator.machine.take_over(earlier["machine"])


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
        "machine": {**generator.machine.record(), "multiple": generator.multiple, "processor": platform.machine()},
        "places": places,
        "versions": {name: version(name) for name in _PACKAGES},
        "config": config,
    }
    write_run_file(root, content)


def generator_from_run(run: dict[str, Any]) -> PairGenerator:
    """A generator with the settings of a ``run.yaml`` and its canvases, without its checkpoint.

    It starts from HQ as written, which is prepared already.

    Raises:
        UserError: if the degradation's class cannot be imported.
    """
    settings, machine = run["settings"], run["machine"]
    names = ("scale", "preset", "t_min", "t_max", "t_weights", "sampler", "num_steps", "eta", "variants", "psnr_drop")
    names += ("tile", "seed")
    taken = {name: settings[name] for name in names}
    taken["mode"] = "exact" if taken["num_steps"] is None else "default"  # in which null leaves every step
    degradation = build_from_spec(settings["degradation"], settings["scale"], settings["preset"])
    generator = PairGenerator(degradation=degradation, **taken)
    generator.machine.take_over(machine)
    generator.default_multiple = machine["multiple"]
    return generator


def _degradation_spec(degradation: Degradation) -> dict[str, Any]:
    """The name alone where name, scale and preset say everything, else with class and arguments."""
    spec: dict[str, Any] = {"name": degradation.name}
    defaults = {name: one.default for name, one in inspect.signature(type(degradation)).parameters.items()}
    ours = type(degradation).__module__.startswith("ddpm_pairs.degradations.")
    if ours and all(getattr(degradation, name) == defaults[name] for name in defaults.keys() - {"scale", "preset"}):
        return spec
    return spec | _described(degradation)


def _described(part: Any) -> dict[str, Any]:  # noqa: ANN401 - a degradation or an operation of one
    """Class and arguments in the form of a config.

    The arguments are ``init_args``, which the command line sets, or else the attributes of the same names that are
    plain values or operations.
    """
    arguments = getattr(part, "init_args", None)
    if arguments is None:
        held = {name: getattr(part, name) for name in inspect.signature(type(part)).parameters if hasattr(part, name)}
        arguments = {}
        for name, value in held.items():
            with contextlib.suppress(TypeError):
                arguments[name] = _plain(value)
    return {"class_path": f"{type(part).__module__}.{type(part).__qualname__}", "init_args": _plain(dict(arguments))}


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever an argument may be
    """A value as a YAML file gives it back.

    Raises:
        TypeError: if it is neither plain nor an operation.
    """
    if hasattr(value, "draw"):
        return _described(value)
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else json.loads(json.dumps(value))


def build_from_spec(spec: dict[str, Any], scale: int, preset: str) -> Degradation:
    """A degradation from its name, or from its class and arguments, which may hold further classes.

    Raises:
        UserError: if a class cannot be imported or lacks an argument, or the name is unknown.
    """
    if "class_path" not in spec:
        return build_degradation(spec["name"], scale, preset)
    try:
        return _built({"class_path": spec["class_path"], "init_args": spec["init_args"]})
    except (ImportError, AttributeError) as error:
        raise UserError(f"degradation {spec['class_path']} cannot be imported ({error}): install its package") from None
    except TypeError as error:
        raise UserError(
            f"degradation {spec['class_path']} cannot be made ({error}): give its arguments in a config"
        ) from None


def _built(part: Any) -> Any:  # noqa: ANN401 - what a config may hold
    """What ``_described`` described."""
    if isinstance(part, list):
        return [_built(one) for one in part]
    if not isinstance(part, dict) or "class_path" not in part:
        return part
    module, _, name = part["class_path"].rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    # A folder of somebody else may name anything.
    if not (isinstance(kind, type) and hasattr(kind, "draw") and hasattr(kind, "apply")):
        raise UserError(f"{part['class_path']} is no degradation: expected a class with the methods draw and apply")
    return kind(**{key: _built(value) for key, value in part.get("init_args", {}).items()})
