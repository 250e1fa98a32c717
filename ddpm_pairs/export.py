"""Write a trained denoiser in a form that other programs open: one safetensors file, or a diffusers folder."""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import save_file
from torch import Tensor

from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.loading import load_denoiser
from ddpm_pairs.diffusion.network import UNet
from ddpm_pairs.diffusion.schedule import Schedule
from ddpm_pairs.shipped import weights_file

_PICTURE_SIDE = 64
"""Pixels a side of what ``DDPMPipeline`` draws by default, where the network itself names none."""


def main(arguments: argparse.Namespace) -> int:
    """``ddpm-pairs export CKPT OUT``.

    Args:
        arguments: ``ckpt``, ``out`` and ``half``, as the command line parsed them.

    Returns:
        0.

    Raises:
        ValueError: in one line, before anything is written, for a checkpoint or an OUT that cannot be used.
    """
    _check_name(arguments.out)
    export_denoiser(load_denoiser(weights_file(arguments.ckpt)), arguments.out, half=arguments.half)
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
        ValueError: if ``out`` exists or its name fits no form; for a folder, if the network is no ``UNet`` or there is
            ``metadata``, which a folder has no place for.
    """
    out = Path(out)
    _check_name(out)
    if out.suffix != ".safetensors":
        if not isinstance(denoiser.net, UNet):
            raise ValueError(
                f"a {type(denoiser.net).__name__} cannot be written as a diffusers folder, only a UNet can: "
                f"give OUT a name ending in .safetensors, not {out}"
            )
        if metadata:
            raise ValueError(f"a diffusers folder holds no metadata: leave it out, or name {out} .safetensors")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as unfinished:
        written = Path(unfinished) / out.name
        if out.suffix == ".safetensors":
            texts = {"format": "pt", **(metadata or {}), "ddpm_pairs": json.dumps(denoiser.spec())}
            save_file(_weights(denoiser, half), written, texts)
            written.chmod(0o644)  # safetensors makes files that nobody else may read
        else:
            _write_folder(denoiser, written, half)
        written.rename(out)


def _check_name(out: Path) -> None:
    if out.suffix == ".pth":
        raise ValueError(f"a DDPM is not written as .pth: name {out} .safetensors, or without suffix")
    if out.suffix not in ("", ".safetensors"):
        raise ValueError(
            f"{out} ends in {out.suffix}: expected .safetensors, or no suffix for a folder in the form of diffusers"
        )
    if out.exists():
        raise ValueError(f"{out} exists already: delete it, or give another name")


def _weights(denoiser: Denoiser, half: bool) -> dict[str, Tensor]:
    """The network's weights as safetensors wants them: on the CPU, contiguous, none sharing memory."""
    return {
        name: value.detach()
        .to("cpu", torch.float16 if half and value.is_floating_point() else value.dtype, copy=True)
        .contiguous(memory_format=torch.contiguous_format)
        for name, value in denoiser.net.state_dict().items()
    }


def _write_folder(denoiser: Denoiser, folder: Path, half: bool) -> None:
    net = denoiser.net
    side = net.config["sample_size"] or max(_PICTURE_SIDE, net.multiple)
    unet = UNet2DModel(**net.diffusers_config, sample_size=side)
    unet.load_state_dict(_weights(denoiser, half=False))
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
