"""Denoisers from disk: checkpoints, safetensors exports and diffusers folders."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ddpm_pairs.diffusion.denoiser import KIND, UNET_CLASS, Denoiser, build_network
from ddpm_pairs.diffusion.schedule import Schedule
from ddpm_pairs.errors import UserError

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def load_denoiser(path: str | Path) -> Denoiser:
    """Load network, schedule and weights from a checkpoint, a safetensors export or a diffusers folder.

    Args:
        path: A Lightning ``.ckpt`` (its EMA weights are taken), a ``.safetensors`` file written by ``ddpm-pairs
            export``, or a diffusers folder with ``unet/`` and ``scheduler/`` (or with the files of both in one place,
            as in early public DDPMs).

    Returns:
        The denoiser in eval mode, float32, on the CPU.

    Raises:
        UserError: in one line, if the file is missing, unreadable, of another kind, or does not fit its own
            description.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"checkpoint {path} does not exist: give a .ckpt, a .safetensors file or a diffusers folder")
    if path.is_dir():
        spec, weights = _read_folder(path)
    elif path.suffix == ".safetensors":
        spec, weights = _read_safetensors(path)
    else:
        spec, weights = _read_checkpoint(path)
    if spec.get("kind") != KIND:
        held = f"a {spec['kind']}" if "kind" in spec else f"weights such as {next(iter(weights), 'none')!r} and no DDPM"
        raise UserError(
            f"checkpoint {path} holds {held}: expected a DDPM as `lightning fit --config ddpm.yaml` trains it"
        )
    schedule = Schedule(spec["schedule"], spec["num_train_timesteps"])
    denoiser = Denoiser(build_network(spec["net"]), schedule, spec["prediction_type"], spec["t_max"])
    try:
        denoiser.net.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"checkpoint {path}: its weights do not fit its network ({_mismatch(error)})") from None
    denoiser.source = str(path.resolve())
    return denoiser.float().eval()


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    checkpoint = _read_pickle(path)
    if not isinstance(checkpoint, dict):
        return {}, {}
    if "ddpm_pairs" not in checkpoint:
        return {}, checkpoint.get("state_dict", checkpoint)
    state = checkpoint["state_dict"]
    return checkpoint["ddpm_pairs"], {
        name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")
    }


def _read_pickle(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds, as long as it runs no code
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        raise UserError(
            f"checkpoint {path} cannot be read ({type(error).__name__}): "
            "give a .ckpt, a .safetensors file or a diffusers folder"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"checkpoint file {path} cannot be read ({_first_line(error)}): copy it again") from None
    if not isinstance(content, dict):
        raise UserError(f"checkpoint file {path} holds a {type(content).__name__}: expected a diffusers config")
    return content


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        weights = load_file(path)
    except Exception as error:  # safetensors raises its own and Rust's errors for a file that is none
        raise UserError(f"checkpoint {path} is no safetensors file ({_first_line(error)})") from None
    return json.loads(metadata.get("ddpm_pairs", "{}")), weights


def _read_folder(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A diffusers pipeline folder: ``unet/config.json``, its weights, and ``scheduler/scheduler_config.json``."""
    flat = (path / "config.json").is_file() and not (path / "unet").exists()
    unet, scheduler_folder = (path, path) if flat else (path / "unet", path / "scheduler")
    files = [unet / "config.json", scheduler_folder / "scheduler_config.json"]
    missing = [str(file.relative_to(path)) for file in files if not file.is_file()]
    if missing:
        raise UserError(f"checkpoint folder {path} lacks {' and '.join(missing)}: expected a diffusers folder")
    config, scheduler = (_read_json(file) for file in files)
    spec = {"kind": KIND, "net": {"class_path": UNET_CLASS, "init_args": config}, **_schedule_spec(path, scheduler)}
    found = sorted(unet.glob("diffusion_pytorch_model*.safetensors"))
    binary = unet / "diffusion_pytorch_model.bin"
    if found:
        weights = {name: value for file in found for name, value in load_file(file).items()}
    elif binary.is_file():
        weights = _read_pickle(binary)
    else:
        raise UserError(
            f"checkpoint folder {path} lacks {unet.relative_to(path) / 'diffusion_pytorch_model.safetensors'}"
        )
    return spec, {_present_name(name): value for name, value in weights.items()}


def _present_name(name: str) -> str:
    """What diffusers now calls a weight of its early attention blocks."""
    old = re.search(r"\.attentions\.\d+\.(query|key|value|proj_attn)\.", name)
    return name if old is None else name.replace(f".{old[1]}.", f".{_OLD_ATTENTION[old[1]]}.")


def _schedule_spec(path: Path, scheduler: dict[str, Any]) -> dict[str, Any]:
    steps, kind = scheduler.get("num_train_timesteps", 1000), scheduler.get("beta_schedule", "linear")
    limits = (scheduler.get("beta_start", 1e-4), scheduler.get("beta_end", 0.02))
    ours = scheduler.get("ddpm_pairs_schedule")
    altered = scheduler.get("trained_betas") is not None or scheduler.get("rescale_betas_zero_snr", False)
    if ours is None and not altered and kind == "squaredcos_cap_v2":
        ours = "cosine"
    if ours is None and not altered and kind == "linear" and limits == (1e-4 * 1000 / steps, 0.02 * 1000 / steps):
        ours = "linear"
    if ours is None:
        kind = f"{kind} with altered betas" if altered else f"{kind} with betas {limits[0]} to {limits[1]}"
        raise UserError(
            f"checkpoint folder {path} has the schedule {kind} in {steps} steps: "
            "expected linear (1e-4 to 0.02 for 1000 steps) or squaredcos_cap_v2"
        )
    return {
        "schedule": ours,
        "num_train_timesteps": steps,
        "prediction_type": scheduler.get("prediction_type", "epsilon"),
        "t_max": scheduler.get("ddpm_pairs_t_max"),
    }


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _mismatch(error: Exception) -> str:
    """The first thing that torch found wrong, without the list of all weights."""
    return " ".join(str(error).split("\n\t")[1:2])[:160].rstrip(". ") or _first_line(error)


def first_difference(asked: dict[str, Any], found: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first value in which a ``Denoiser.spec()``, or a part of one, differs from another.

    Args:
        asked: What is wanted; only what stands in it is compared.
        found: What there is.

    Returns:
        Its name, and the value wanted and found; ``None`` if all agree.
    """
    held = _flat(found)
    for name, value in _flat(asked).items():
        if held.get(name) != value:
            return name.removeprefix("net.init_args."), value, held.get(name)
    return None


def _flat(spec: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in spec.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
