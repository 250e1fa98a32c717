"""Read DDPMs in the folder format of diffusers."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ddpm_pairs.diffusion.denoiser import KIND, UNET_CLASS
from ddpm_pairs.errors import UserError

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def read_folder(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a diffusers pipeline folder: ``unet/config.json``, its weights, and ``scheduler/scheduler_config.json``.

    Args:
        path: The folder; both parts may also be directly inside it.

    Returns:
        The ``Denoiser.spec()``, and the weights by name.

    Raises:
        UserError: If a file is missing or unreadable, or the noise schedule is not supported.
    """
    flat = (path / "config.json").is_file() and not (path / "unet").exists()
    unet, scheduler_folder = (path, path) if flat else (path / "unet", path / "scheduler")
    files = [unet / "config.json", scheduler_folder / "scheduler_config.json"]
    missing = [str(file.relative_to(path)) for file in files if not file.is_file()]
    if missing:
        raise UserError(f"checkpoint folder {path} lacks {' and '.join(missing)}; expected a diffusers folder")
    config, scheduler = (_read_json(file) for file in files)
    spec = {"kind": KIND, "net": {"class_path": UNET_CLASS, "init_args": config}, **_schedule_spec(path, scheduler)}
    found = sorted(unet.glob("diffusion_pytorch_model*.safetensors"))
    binary = unet / "diffusion_pytorch_model.bin"
    if found:
        weights = {name: value for file in found for name, value in load_file(file).items()}
    elif binary.is_file():
        weights = read_pickle(binary)
    else:
        raise UserError(
            f"checkpoint folder {path} lacks {unet.relative_to(path) / 'diffusion_pytorch_model.safetensors'}"
        )
    return spec, {_present_name(name): value for name, value in weights.items()}


def _present_name(name: str) -> str:
    """Return the current name of a weight; older versions of diffusers named those of attention blocks differently."""
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
            f"checkpoint folder {path} has the schedule {kind} in {steps} steps; "
            "expected linear (1e-4 to 0.02 for 1000 steps) or squaredcos_cap_v2"
        )
    return {
        "schedule": ours,
        "num_train_timesteps": steps,
        "prediction_type": scheduler.get("prediction_type", "epsilon"),
        "t_max": scheduler.get("ddpm_pairs_t_max"),
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"checkpoint file {path} cannot be read ({first_line(error)}); copy it again") from None
    if not isinstance(content, dict):
        raise UserError(f"checkpoint file {path} contains a {type(content).__name__}; expected a diffusers config")
    return content


def read_pickle(path: Path) -> Any:  # noqa: ANN401 - any content
    """Read a file written by ``torch.save`` without running code from it.

    Args:
        path: The file.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a file that is not a checkpoint
        raise UserError(
            f"checkpoint {path} cannot be read ({type(error).__name__}); "
            "expected a .ckpt or .safetensors file, or a diffusers folder"
        ) from None


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its class if there is no message."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
