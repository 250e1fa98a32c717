"""Load denoisers from checkpoints, safetensors exports and diffusers folders."""

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ddpm_pairs.diffusion.denoiser import KIND, UNET_CLASS, Denoiser, UNet
from ddpm_pairs.diffusion.diffusers_folder import first_line, read_folder, read_pickle
from ddpm_pairs.diffusion.schedule import Schedule
from ddpm_pairs.errors import UserError


def load_denoiser(path: str | Path) -> Denoiser:
    """Load network, schedule and weights from a checkpoint, a safetensors export or a diffusers folder.

    Args:
        path: A Lightning ``.ckpt`` (its EMA weights are used), a ``.safetensors`` file written by ``ddpm-pairs
            export``, or a diffusers folder with ``unet/`` and ``scheduler/`` (or with the files of both directly
            inside it, as in early public DDPMs).

    Returns:
        The denoiser in eval mode, float32, on the CPU.

    Raises:
        UserError: If the file is missing or unreadable, is not a DDPM, or does not fit its own description.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"checkpoint {path} does not exist; expected a .ckpt or .safetensors file, or a diffusers folder"
        )
    if path.is_dir():
        spec, weights = read_folder(path)
    elif path.suffix == ".safetensors":
        spec, weights = _read_safetensors(path)
    else:
        spec, weights = _read_checkpoint(path)
    if spec.get("kind") != KIND:
        held = (
            f"a {spec['kind']}" if "kind" in spec else f"no DDPM, but weights such as {next(iter(weights), 'none')!r}"
        )
        raise UserError(
            f"checkpoint {path} contains {held}; expected a DDPM trained by `lightning fit --config ddpm.yaml`"
        )
    net, schedule = build_network(spec["net"]), Schedule(spec["schedule"], spec["num_train_timesteps"])
    denoiser = Denoiser(net, schedule, spec["prediction_type"], spec["t_max"])
    try:
        denoiser.net.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"checkpoint {path} contains weights that do not fit its network ({_mismatch(error)})"
        ) from None
    denoiser.source = str(path.resolve())
    return denoiser.float().eval()


def build_network(spec: dict[str, Any]) -> nn.Module:
    """Build a network from its ``network_spec``.

    Args:
        spec: ``class_path`` and ``init_args``.

    Raises:
        UserError: If the class cannot be imported, is not an ``nn.Module``, or does not accept these arguments.
    """
    path, arguments = spec["class_path"], dict(spec.get("init_args") or {})
    if path == UNET_CLASS:
        try:
            return UNet.from_diffusers(arguments)
        except TypeError as error:
            raise UserError(f"the checkpoint's U-Net cannot be built ({error}); install a newer diffusers") from None
    module, _, name = path.rpartition(".")
    try:
        network_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"the checkpoint's network {path} cannot be imported ({error}); install its package") from None
    if not (isinstance(network_class, type) and issubclass(network_class, nn.Module)):
        raise UserError(f"the checkpoint's network {path} is not a torch.nn.Module")
    try:
        inspect.signature(network_class).bind(**arguments)
    except TypeError as error:
        raise UserError(
            f"the checkpoint's network {path} cannot be built ({error}); check if its class has changed"
        ) from None
    net = network_class(**arguments)
    net.init_args = arguments
    return net


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    checkpoint = read_pickle(path)
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
    except Exception as error:  # safetensors raises its own errors and those of Rust
        raise UserError(f"checkpoint {path} is not a safetensors file ({first_line(error)})") from None
    return json.loads(metadata.get("ddpm_pairs", "{}")), weights


def _mismatch(error: Exception) -> str:
    """Return the first mismatch that torch reports, without the list of all weights."""
    return " ".join(str(error).split("\n\t")[1:2])[:160].rstrip(". ") or first_line(error)


def first_difference(asked: dict[str, Any], found: dict[str, Any]) -> tuple[str, Any, Any] | None:
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


def _flat(spec: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in spec.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
