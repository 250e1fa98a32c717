"""A trained network together with what its output means, and where it comes from on disk."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ddpm_pairs.diffusion.network import UNet
from ddpm_pairs.diffusion.process import check_prediction_type, predict_clean
from ddpm_pairs.diffusion.schedule import Schedule

KIND = "ddpm"
_UNET_CLASS = "diffusers.UNet2DModel"
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class Denoiser(nn.Module):
    """Predicts the clean picture from a noised one; what samplers call.

    Args:
        net: ``forward(x_t, timestep) -> (N, 3, H, W)``.
        schedule: The noise schedule the network was trained with.
        prediction_type: ``epsilon`` or ``v_prediction``.
        t_max: The network was trained on t in 1..t_max; ``None`` means the whole schedule.

    Raises:
        ValueError: for an unknown prediction type, or a t_max outside the schedule.
    """

    def __init__(
        self, net: nn.Module, schedule: Schedule, prediction_type: str = "epsilon", t_max: int | None = None
    ) -> None:
        super().__init__()
        check_prediction_type(prediction_type)
        steps = schedule.num_train_timesteps
        if t_max is not None and not 1 <= t_max <= steps:
            raise ValueError(f"t_max is {t_max}: expected 1 to {steps}, the length of the schedule")
        self.net = net
        self.schedule = schedule
        self.prediction_type = prediction_type
        self.t_max = steps if t_max is None else t_max

    @property
    def multiple(self) -> int:
        """Sides of the input must be multiples of this (the network's attribute of that name, else 1)."""
        return int(getattr(self.net, "multiple", 1))

    def forward(self, x_t: Tensor, index: Tensor) -> Tensor:
        """Clean prediction.

        Args:
            x_t: Noised pictures (N, 3, H, W), float32, about [-1, 1] plus noise.
            index: Table indices (N,), int64; t = index + 1.

        Returns:
            (N, 3, H, W), float32 in [-1, 1]. The network itself runs in the dtype of its weights.
        """
        dtype = next(self.net.parameters()).dtype
        output = self.net(x_t.to(dtype).contiguous(memory_format=torch.channels_last), index)
        return predict_clean(x_t, output, index, self.schedule.alpha_bars, self.prediction_type)

    def spec(self) -> dict[str, Any]:
        """Everything but the weights, as plain values: goes into checkpoints and exports."""
        return {
            "kind": KIND,
            "net": network_spec(self.net),
            "schedule": self.schedule.name,
            "num_train_timesteps": self.schedule.num_train_timesteps,
            "prediction_type": self.prediction_type,
            "t_max": self.t_max,
        }


def network_spec(net: nn.Module) -> dict[str, Any]:
    """``class_path`` and ``init_args`` from which a network is built again.

    A ``UNet`` knows its own arguments; any other network is described by an attribute ``init_args`` (the command line
    sets it from the config), without which it is built from its class alone.
    """
    if isinstance(net, UNet):
        return {"class_path": _UNET_CLASS, "init_args": net.diffusers_config}
    path = f"{type(net).__module__}.{type(net).__qualname__}"
    return {"class_path": path, "init_args": dict(getattr(net, "init_args", {}))}


def build_network(spec: dict[str, Any]) -> nn.Module:
    """Build a network from its ``network_spec``.

    Raises:
        ValueError: if the class cannot be imported, is no ``nn.Module`` or does not take these arguments.
    """
    path, arguments = spec["class_path"], dict(spec.get("init_args") or {})
    if path == _UNET_CLASS:
        try:
            return UNet.from_diffusers(arguments)
        except TypeError as error:
            raise ValueError(f"the checkpoint's U-Net cannot be built ({error}): install a newer diffusers") from None
    module, _, name = path.rpartition(".")
    try:
        network_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"the checkpoint's network {path} cannot be imported ({error}): install its package") from None
    if not (isinstance(network_class, type) and issubclass(network_class, nn.Module)):
        raise ValueError(f"the checkpoint's network {path} is no torch.nn.Module")
    try:
        net = network_class(**arguments)
    except TypeError as error:
        raise ValueError(f"the checkpoint's network {path} cannot be built ({error}): was its class changed?") from None
    net.init_args = arguments
    return net


def load_denoiser(path: str | Path) -> Denoiser:
    """Load network, schedule and weights from a checkpoint, a safetensors export or a diffusers folder.

    Args:
        path: A Lightning ``.ckpt`` (its EMA weights are taken), a ``.safetensors`` file written by ``ddpm-pairs
            export``, or a diffusers folder with ``unet/`` and ``scheduler/`` (or with the files of both in one place,
            as in early public DDPMs).

    Returns:
        The denoiser in eval mode, float32, on the CPU.

    Raises:
        ValueError: in one line, if the file is missing, unreadable, of another kind, or does not fit its own
            description.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"checkpoint {path} does not exist: give a .ckpt, a .safetensors file or a diffusers folder")
    if path.is_dir():
        spec, weights = _read_folder(path)
    elif path.suffix == ".safetensors":
        spec, weights = _read_safetensors(path)
    else:
        spec, weights = _read_checkpoint(path)
    if spec.get("kind") != KIND:
        held = f"a {spec['kind']}" if "kind" in spec else f"weights such as {next(iter(weights), 'none')!r} and no DDPM"
        raise ValueError(
            f"checkpoint {path} holds {held}: expected a DDPM as `lightning fit --config ddpm.yaml` trains it"
        )
    schedule = Schedule(spec["schedule"], spec["num_train_timesteps"])
    denoiser = Denoiser(build_network(spec["net"]), schedule, spec["prediction_type"], spec["t_max"])
    try:
        denoiser.net.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"checkpoint {path}: its weights do not fit its network ({_mismatch(error)})") from None
    return denoiser.float().eval()


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        raise ValueError(
            f"checkpoint {path} cannot be read ({type(error).__name__}): "
            "give a .ckpt, a .safetensors file or a diffusers folder"
        ) from None
    if not isinstance(checkpoint, dict):
        return {}, {}
    if "ddpm_pairs" not in checkpoint:
        return {}, checkpoint.get("state_dict", checkpoint)
    state = checkpoint["state_dict"]
    return checkpoint["ddpm_pairs"], {
        name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")
    }


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        weights = load_file(path)
    except Exception as error:  # safetensors raises its own and Rust's errors for a file that is none
        raise ValueError(f"checkpoint {path} is no safetensors file ({_first_line(error)})") from None
    return json.loads(metadata.get("ddpm_pairs", "{}")), weights


def _read_folder(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A diffusers pipeline folder: ``unet/config.json``, its weights, and ``scheduler/scheduler_config.json``."""
    flat = (path / "config.json").is_file() and not (path / "unet").exists()
    unet, scheduler_folder = (path, path) if flat else (path / "unet", path / "scheduler")
    files = [unet / "config.json", scheduler_folder / "scheduler_config.json"]
    missing = [str(file.relative_to(path)) for file in files if not file.is_file()]
    if missing:
        raise ValueError(f"checkpoint folder {path} lacks {' and '.join(missing)}: expected a diffusers folder")
    config, scheduler = (json.loads(file.read_text()) for file in files)
    spec = {"kind": KIND, "net": {"class_path": _UNET_CLASS, "init_args": config}, **_schedule_spec(path, scheduler)}
    found = sorted(unet.glob("diffusion_pytorch_model*.safetensors"))
    binary = unet / "diffusion_pytorch_model.bin"
    if found:
        weights = {name: value for file in found for name, value in load_file(file).items()}
    elif binary.is_file():
        weights = torch.load(binary, map_location="cpu", weights_only=True)
    else:
        raise ValueError(
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
        raise ValueError(
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
