"""Read DDPMs in the folder format of diffusers."""

import re
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from pydantic_core import from_json
from safetensors.torch import load_file
from torch import Tensor

from ddpm_pairs.diffusion.denoiser import KIND, UNET_CLASS
from ddpm_pairs.diffusion.schedule import SCHEDULES
from ddpm_pairs.errors import UserError

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "sigmoid": "sigmoid_beta"}
"""Our names of the beta schedules of diffusers that have a start and an end."""

_STATE_OF_AVERAGE = {
    "decay", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup", "inv_gamma", "power"
}  # fmt: skip
"""What diffusers' ``EMAModel`` adds to the config of its network."""

MOST_CONFIG_BYTES = 2**22


def read_folder(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a diffusers pipeline folder: ``unet/config.json``, its weights, and ``scheduler/scheduler_config.json``.

    In a folder ``checkpoint-N`` of diffusers' training script, the moving average in ``unet_ema/`` is taken, and the
    schedule from the pipeline folder that contains it, or the default of that script. A line on stderr says so.

    Args:
        path: The folder; both parts may also be directly inside it.

    Returns:
        The ``Denoiser.spec()``, and the weights by name.

    Raises:
        UserError: If a file is missing or unreadable, or the noise schedule is not supported.
    """
    flat = (path / "config.json").is_file() and not (path / "unet").exists()
    average = path / "unet_ema"
    unet = path if flat else average if (average / "config.json").is_file() else path / "unet"
    if not (unet / "config.json").is_file():
        raise UserError(f"checkpoint folder {path} lacks unet/config.json; expected a diffusers folder")
    config = {name: value for name, value in _read_json(unet / "config.json").items() if name not in _STATE_OF_AVERAGE}
    spec = {"kind": KIND, "net": {"class_path": UNET_CLASS, "init_args": config}, **_schedule(path, unet)}
    found = sorted(unet.glob("diffusion_pytorch_model*.safetensors"))
    binary = unet / "diffusion_pytorch_model.bin"
    if found:
        weights = {name: value for file in found for name, value in _read_weights(file).items()}
    elif binary.is_file():
        weights = read_pickle(binary)
    else:
        raise UserError(
            f"checkpoint folder {path} lacks {unet.relative_to(path) / 'diffusion_pytorch_model.safetensors'}"
        )
    if unet == average:
        _say(f"checkpoint {path}: took the moving average in unet_ema/ (for the other weights, use {path / 'unet'})")
    weights = weights if isinstance(weights, dict) else {}
    return spec, {_present_name(str(name)): value for name, value in weights.items()}


def _schedule(path: Path, unet: Path) -> dict[str, Any]:
    """Describe the schedule in the folder, or in the folder around it if that contains a pipeline."""
    name = "scheduler_config.json"
    around = path.parent / "scheduler" / name
    places = [path / "scheduler" / name, path / name, *([around] if _is_part_of_run(path) else [])]
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        return _schedule_spec(path, _read_json(found))
    if not _is_part_of_run(path):
        raise UserError(
            f"checkpoint folder {path} lacks scheduler/{name}, which describes its noise schedule; copy it from where "
            "the DDPM was trained"
        )
    _say(f"checkpoint {path}: no scheduler/{name}; took the default of diffusers' training (linear, 1000 steps)")
    return _schedule_spec(path, {})


def _is_part_of_run(path: Path) -> bool:
    """Return whether a folder is ``checkpoint-N`` of diffusers' training script, or a network inside it."""
    path = path.resolve()
    names = (path.name, path.parent.name if path.name in ("unet", "unet_ema") else "")
    return (path / "unet_ema").is_dir() or any(re.fullmatch(r"checkpoint-\d+", name) for name in names)


@rank_zero_only
def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own errors and those of Rust
        raise UserError(f"checkpoint file {path} is not a safetensors file ({first_line(error)})") from None


def _present_name(name: str) -> str:
    """Return the current name of a weight; older versions of diffusers named those of attention blocks differently."""
    old = re.search(r"\.attentions\.\d+\.(query|key|value|proj_attn)\.", name)
    return name if old is None else name.replace(f".{old[1]}.", f".{_OLD_ATTENTION[old[1]]}.")


def _schedule_spec(path: Path, scheduler: dict[str, Any]) -> dict[str, Any]:
    steps, kind = scheduler.get("num_train_timesteps", 1000), scheduler.get("beta_schedule", "linear")
    start, end = scheduler.get("beta_start", 1e-4), scheduler.get("beta_end", 0.02)
    trained, ours = scheduler.get("trained_betas"), scheduler.get("ddpm_pairs_schedule")
    rest = {
        "num_train_timesteps": steps,
        "prediction_type": scheduler.get("prediction_type", "epsilon"),
        "t_max": scheduler.get("ddpm_pairs_t_max"),
    }
    if scheduler.get("rescale_betas_zero_snr", False):
        raise UserError(f"checkpoint folder {path} has betas rescaled to zero SNR; expected a signal at every step")
    if ours in SCHEDULES and not (ours == "linear" and kind == "linear" and trained is None):
        return {"schedule": ours, **rest}
    if trained is not None:
        return {"schedule": "trained", "trained_betas": trained, **rest}
    if kind == "squaredcos_cap_v2":
        return {"schedule": "cosine", **rest}
    if not isinstance(kind, str) or kind not in _SCHEDULES:
        raise UserError(
            f"checkpoint folder {path} has the schedule {str(kind)[:40]!r}; expected one of "
            f"{', '.join(_SCHEDULES)}, squaredcos_cap_v2, or trained_betas"
        )
    if kind == "linear" and _is_scaled(steps, start, end):
        return {"schedule": "linear", **rest}
    return {"schedule": _SCHEDULES[kind], "beta_start": start, "beta_end": end, **rest}


def _is_scaled(steps: Any, start: Any, end: Any) -> bool:  # noqa: ANN401 - any values of a file
    """Return whether linear betas are those of Ho et al. for 1000 steps, scaled to another number of steps."""
    return isinstance(steps, int) and steps > 0 and (start, end) == (1e-4 * 1000 / steps, 0.02 * 1000 / steps)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_CONFIG_BYTES + 1)
        if len(data) > MOST_CONFIG_BYTES:
            raise UserError(f"checkpoint file {path} is larger than {MOST_CONFIG_BYTES >> 20} MiB; expected a config")
        content = from_json(data, allow_inf_nan=False)
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
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
    refuse_compressed(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # about what is refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a file that is not a checkpoint
        raise UserError(
            f"checkpoint {path} cannot be read ({type(error).__name__}); "
            "expected a .ckpt or .safetensors file, or a diffusers folder"
        ) from None


def refuse_compressed(path: Path) -> None:
    """Refuse a compressed archive, which ``torch.save`` never writes and which may unpack to any size.

    Raises:
        UserError: If the file is a zip archive with compressed entries.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise UserError(f"checkpoint {path} is a compressed archive; expected a file written by torch.save")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its class if there is no message."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
