"""``run.yaml``: the settings of a pairs folder, which decide whether a later run may resume it."""

import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ddpm_pairs.degradations.base import spec_of
from ddpm_pairs.degradations.by_name import build
from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.schedule import MOST_STEPS
from ddpm_pairs.errors import UserError
from ddpm_pairs.pairset.folder import RUN_FILE, write_run_file
from ddpm_pairs.run_folder import differences, differs
from ddpm_pairs.synthesis.generator import PairGenerator
from ddpm_pairs.synthesis.old_runs import faces_option, is_old, modern_run
from ddpm_pairs.trust import classes_named_by, trust_classes

FORMAT = 2
"""Version of ``run.yaml`` and of the random draws. A folder of another version is not resumed if it has a walk."""

_WEIGHTS = ("denoiser", "weights")
"""Arguments that are paths of weights, in descriptions with a hash of the weights."""

_PACKAGES = ("ddpm_pairs", "torch", "lightning", "kornia", "diffusers", "numpy", "pillow", "opencv-python-headless")


def run_settings(generator: PairGenerator, device: str) -> dict[str, Any]:
    """Collect everything that determines the pairs of a run, as plain values.

    Args:
        generator: The generator of the run, with its walk added.
        device: ``cpu`` or ``cuda``.
    """
    degradation = spec_of(generator.degradation)
    return {
        "checkpoint_sha256": degradation["weights_sha256"] if generator.walk is not None else None,
        "degradation": degradation,
        "scale": generator.scale,
        "sharpen_hq": generator.sharpen_hq,
        "gray_hq": generator.gray_hq,
        "variants": generator.variants,
        "psnr_drop": generator.psnr_drop,
        "tile": generator.tile,
        "seed": generator.seed,
        "device": device,
    }


def resume(
    root: Path, earlier: dict[str, Any], generator: PairGenerator, settings: dict[str, Any], allow_mixed: bool
) -> None:
    """Let a generator resume a folder, with the execution settings of the run that started it.

    The number of variants may increase; existing ones do not change.

    Args:
        root: The pairs folder.
        earlier: The content of its ``run.yaml``.
        generator: The generator of this run, with its walk added.
        settings: The settings of this run, see ``run_settings``.
        allow_mixed: Resume even if the settings differ.

    Raises:
        UserError: If the folder was made with different settings and ``allow_mixed`` is not set.
    """
    advice = "use another folder, the same settings, or --allow_mixed true"
    if is_old(earlier):
        if generator.walk is not None and not allow_mixed:
            raise UserError(
                f"--output_dir {root} was started by an older version, which drew t and noise differently; finish it "
                "with that version, or use another folder, or --allow_mixed true"
            )
        trust_classes(*_class_paths(settings["degradation"]))  # this command names them itself
        earlier = modern_run(earlier)
        if option := faces_option(earlier):
            advice = f"an older version started it with preset faces: use --config pairs.yaml {option}, or {advice}"
    before, after = _comparable(earlier["settings"]), _comparable(settings)
    if before.get("variants", 1) < after["variants"]:
        del after["variants"]
    changed = differences(before, after)
    if changed and not allow_mixed:
        raise UserError(f"{differs(root, 'pairs', changed)}; {advice}")
    if not changed:
        generator.runtime.adopt(earlier["machine"])


def _class_paths(value: Any) -> Iterator[str]:  # noqa: ANN401 - plain values of any kind
    """Yield the paths of all classes in the description of a degradation."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and "class_path" in value:
        yield value["class_path"]
    for part in parts:
        yield from _class_paths(part)


def _comparable(value: Any) -> Any:  # noqa: ANN401 - plain values of any kind
    """Remove the paths of weights from a value, because weights are compared by their hash."""
    if isinstance(value, dict):
        if "weights_sha256" in value and isinstance(value.get("init_args"), dict):
            arguments = {name: one for name, one in value["init_args"].items() if name not in _WEIGHTS}
            value = value | {"init_args": arguments}
        return {name: _comparable(one) for name, one in value.items()}
    return [_comparable(one) for one in value] if isinstance(value, list) else value


def write_run(
    root: Path, generator: PairGenerator, settings: dict[str, Any], hq_dir: Path, config: dict[str, Any] | None
) -> None:
    """Write ``run.yaml``.

    Args:
        root: The pairs folder.
        generator: The generator of the run, prepared for its device.
        settings: See ``run_settings``.
        hq_dir: The folder of HQ images.
        config: The resolved config of the command line; ``None`` if the run was not started there.
    """
    checkpoint = settings["degradation"].get("init_args", {}).get("denoiser")
    machine = {"multiple": generator.multiple // generator.scale, "processor": platform.machine()}
    versions = {name: version(name) for name in _PACKAGES}
    content = {
        "format": FORMAT,
        "settings": settings,
        "machine": {**generator.runtime.record(), **machine},
        "places": {"hq_dir": str(hq_dir.resolve()), "checkpoint": checkpoint},
        "versions": versions,
        "config": config,
    }
    write_run_file(root, content)


def generator_from_run(run: dict[str, Any], denoiser: Denoiser | None = None) -> PairGenerator:
    """Build a generator with the settings of a ``run.yaml``, of this or an older version.

    It takes HQ as written, which is already prepared.

    Args:
        run: The content of ``run.yaml``, from ``read_run``.
        denoiser: The DDPM of the run's walk; ``None`` omits the walk.

    Raises:
        UserError: If the degradation's class is not trusted, cannot be imported, or does not accept its arguments.
    """
    settings = modern_run(run)["settings"]
    with classes_named_by(RUN_FILE):
        return _generator(settings, run["machine"], denoiser)


def _generator(settings: dict[str, Any], machine: dict[str, Any], denoiser: Denoiser | None) -> PairGenerator:
    spec, walk = settings["degradation"], {"t": (0, 0), "t_weights": None}
    is_walk = "weights_sha256" in spec and spec["name"] == "walk"
    if is_walk:
        walk = _walk_arguments(spec["init_args"])
        spec = walk["start"]
    generator = PairGenerator(
        degradation=build(spec, settings["scale"]),
        scale=settings["scale"],
        t_min=walk["t"][0],
        t_max=walk["t"][1],
        t_weights=walk["t_weights"],
        variants=settings["variants"],
        psnr_drop=settings["psnr_drop"],
        tile=settings["tile"],
        seed=settings["seed"],
        **_sampling(walk.get("sampling", {})),
    )
    generator.runtime.adopt(machine)
    generator.multiple = generator.scale * machine["multiple"]
    if is_walk and denoiser is not None:
        generator.add_walk(denoiser)
    return generator


class _Sampling(TypedDict, total=False):
    """``sampling`` of a walk."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    sampler: str
    num_steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None
    eta: float


class _WalkArguments(TypedDict):
    """``init_args`` of a walk in ``run.yaml``."""

    __pydantic_config__ = ConfigDict(strict=True, extra="allow")
    start: dict[str, Any]
    t: Annotated[list[int], Field(min_length=2, max_length=2)]
    t_weights: list[float] | None
    sampling: NotRequired[_Sampling]


_WALK = TypeAdapter(_WalkArguments)


def _walk_arguments(values: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever run.yaml has
    try:
        return _WALK.validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(["walk", *map(str, first["loc"])])
        raise UserError(f"{RUN_FILE} describes a walk that cannot be built ({where}: {first['msg']})") from None


def _sampling(values: dict[str, Any]) -> dict[str, Any]:
    """Convert the values of a ``Sampling`` to arguments of the generator; ``num_steps`` null means mode ``exact``."""
    return {"mode": "exact" if values.get("num_steps", 0) is None else "default", **values}
