"""Write trained networks in forms that other programs open.

A DDPM becomes one safetensors file or a diffusers folder; a restorer one safetensors file or a ``.pth``.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import save
from torch import Tensor, nn

from ddpm_pairs.diffusion.denoiser import Denoiser, UNet, network_spec
from ddpm_pairs.diffusion.loading import load_denoiser
from ddpm_pairs.diffusion.schedule import Schedule
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import atomic_file, atomic_folder, write_atomically
from ddpm_pairs.restoration.networks.rrdb import RRDBNet
from ddpm_pairs.restoration.networks.spandrel_net import SpandrelNet
from ddpm_pairs.restoration.weight_files import read_weights
from ddpm_pairs.restoration.weights import load_restorer
from ddpm_pairs.shipped import weights_file

_SPANDRELS_GROWTH = 32
"""The only ``gc`` that spandrel builds an RRDBNet with, whatever the weights say."""

_PICTURE_SIDE = 64
"""Pixels a side of what ``DDPMPipeline`` draws by default, where the network itself names none."""


def main(arguments: argparse.Namespace) -> int:
    """``ddpm-pairs export CKPT OUT``.

    Args:
        arguments: ``ckpt``, ``out`` and ``half``, as the command line parsed them.

    Returns:
        0.

    Raises:
        UserError: in one line, before anything is written, for a checkpoint or an OUT that cannot be used.
    """
    path, out = weights_file(arguments.ckpt), Path(arguments.out)
    _check_name(out)
    if _is_denoiser(path):
        export_denoiser(load_denoiser(path), out, half=arguments.half)
    else:
        net = load_restorer(path)
        export_restorer(net, out, half=arguments.half)
        if isinstance(net, RRDBNet) and net.init_args["gc"] != _SPANDRELS_GROWTH:
            print(f"note: its gc is {net.init_args['gc']}; spandrel and chaiNNer open an RRDBNet of gc 32 only")
    print(f"wrote {arguments.out}")
    return 0


def export_denoiser(
    denoiser: Denoiser, out: str | Path, half: bool = False, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a denoiser; ``load_denoiser`` reads either form, and always gives float32.

    It appears under its name only when it is complete.

    Args:
        denoiser: What to write, on any device.
        out: ``<name>.safetensors`` for one file with ``Denoiser.spec()`` as JSON under the metadata key
            ``ddpm_pairs``; a name without suffix for a folder that ``diffusers.DDPMPipeline.from_pretrained`` opens.
        half: Store the weights as float16, half the size.
        metadata: Further texts for the metadata of a safetensors file, such as ``{"license": "Apache-2.0"}``.

    Raises:
        UserError: if ``out`` exists or its name fits no form; for a folder, if the network is no ``UNet`` or there is
            ``metadata``, which a folder has no place for.
    """
    out = Path(out)
    _check_name(out)
    if out.suffix == ".pth":
        raise UserError(f"a DDPM is not written as .pth: name {out} .safetensors, or without suffix")
    if out.suffix != ".safetensors":
        if not isinstance(denoiser.net, UNet):
            raise UserError(
                f"a {type(denoiser.net).__name__} cannot be written as a diffusers folder, only a UNet can: "
                f"give OUT a name ending in .safetensors, not {out}"
            )
        if metadata:
            raise UserError(f"a diffusers folder holds no metadata: leave it out, or name {out} .safetensors")
    if out.suffix == ".safetensors":
        _write_safetensors(_weights(denoiser.net, half), out, {**(metadata or {}), **_described(denoiser.spec())})
    else:
        with atomic_folder(out) as folder:
            _write_folder(denoiser, folder, half)


def export_restorer(net: nn.Module, out: str | Path, half: bool = False) -> None:
    """Write a restorer, with its weights under their official names; ``load_restorer`` reads either form.

    It appears under its name only when it is complete.

    Args:
        net: An RRDBNet, which Real-ESRGAN, spandrel and chaiNNer open; a SpandrelNet, which spandrel and chaiNNer open;
            or a GPEN, which GPEN opens as ``.pth``.
        out: ``<name>.safetensors`` with kind and network as JSON under the metadata key ``ddpm_pairs``; or
            ``<name>.pth``, with the weights under ``params_ema``, except for GPEN, which has no such entry.
        half: Store the weights as float16, half the size.

    Raises:
        UserError: if ``out`` exists or its name fits no form.
    """
    out = Path(out)
    _check_name(out)
    if out.suffix not in (".safetensors", ".pth"):
        raise UserError(f"a restorer is written as a file: give OUT a name ending in .safetensors or .pth, not {out}")
    spec = network_spec(net)
    if isinstance(net, SpandrelNet):
        weights = _stored(net.released_weights(), half)
        spec = {"class_path": spec["class_path"], "architecture": net.architecture}
    else:
        weights = _weights(net, half)
    if out.suffix == ".safetensors":
        _write_safetensors(weights, out, _described({"kind": "restorer", "net": spec}))
    else:
        with atomic_file(out) as file:
            torch.save({"params_ema": weights} if isinstance(net, RRDBNet | SpandrelNet) else weights, file)


def _is_denoiser(path: str) -> bool:
    return Path(path).is_dir() or read_weights(path).kind == "ddpm"


def _check_name(out: Path) -> None:
    if out.suffix not in ("", ".safetensors", ".pth"):
        raise UserError(
            f"{out} ends in {out.suffix}: expected .safetensors; or .pth for a restorer; or, for a DDPM, no suffix "
            "for a folder in the form of diffusers"
        )
    if out.exists():
        raise UserError(f"{out} exists already: delete it, or give another name")


def _described(spec: dict[str, Any]) -> dict[str, str]:
    return {"ddpm_pairs": json.dumps(spec)}


def _write_safetensors(weights: dict[str, Tensor], path: Path, texts: dict[str, str]) -> None:
    write_atomically(path, save(weights, {"format": "pt", **texts}))


def _weights(net: nn.Module, half: bool) -> dict[str, Tensor]:
    return _stored(net.state_dict(), half)


def _stored(weights: dict[str, Tensor], half: bool) -> dict[str, Tensor]:
    """Convert weights to what safetensors requires: on the CPU, contiguous, none sharing memory."""
    return {
        name: value.detach()
        .to("cpu", torch.float16 if half and value.is_floating_point() else value.dtype, copy=True)
        .contiguous(memory_format=torch.contiguous_format)
        for name, value in weights.items()
    }


def _write_folder(denoiser: Denoiser, folder: Path, half: bool) -> None:
    net = denoiser.net
    side = net.config["sample_size"] or max(_PICTURE_SIDE, net.multiple)
    unet = UNet2DModel(**net.diffusers_config, sample_size=side)
    unet.load_state_dict(_weights(net, half=False))
    scheduler = DDPMScheduler(
        num_train_timesteps=denoiser.schedule.num_train_timesteps,
        prediction_type=denoiser.prediction_type,
        clip_sample=True,
        **_diffusers_betas(denoiser.schedule),
    )
    # Kept by diffusers when it loads and saves the folder, and read by ``load_denoiser``.
    scheduler.register_to_config(ddpm_pairs_schedule=denoiser.schedule.name, ddpm_pairs_t_max=denoiser.t_max)
    DDPMPipeline(unet.half() if half else unet, scheduler).save_pretrained(folder)


def _diffusers_betas(schedule: Schedule) -> dict[str, Any]:
    """The schedule in diffusers' words, whose own ``sigmoid`` is another one than ours."""
    steps = schedule.num_train_timesteps
    if schedule.name == "linear":
        return {"beta_schedule": "linear", "beta_start": 1e-4 * 1000 / steps, "beta_end": 0.02 * 1000 / steps}
    if schedule.name == "cosine":
        return {"beta_schedule": "squaredcos_cap_v2"}
    return {"trained_betas": schedule.betas.tolist()}
