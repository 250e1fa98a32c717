"""Write trained networks in formats that other programs open.

A DDPM becomes a safetensors file or a diffusers folder; a restorer becomes a safetensors file or a ``.pth`` file; a
learned degradation becomes a safetensors file.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from ddpm_pairs.degradations.learned import files as learned
from ddpm_pairs.diffusion.denoiser import Denoiser, UNet, network_spec
from ddpm_pairs.diffusion.loading import load_denoiser
from ddpm_pairs.diffusion.schedule import Schedule
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import write_atomically
from ddpm_pairs.new_folder import atomic_folder
from ddpm_pairs.restoration.networks.rrdb import RRDBNet
from ddpm_pairs.restoration.networks.spandrel_net import SpandrelNet
from ddpm_pairs.restoration.weight_files import read_weights
from ddpm_pairs.restoration.weights import load_restorer
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.training.checkpoint_io import save_atomically

_SPANDRELS_GROWTH = 32
"""The only ``gc`` with which spandrel builds an RRDBNet, whatever the weights have."""

_PICTURE_SIDE = 64
"""Default side in pixels of the images that ``DDPMPipeline`` generates, if the network does not define one."""


def main(arguments: argparse.Namespace) -> int:
    """Run ``ddpm-pairs export CKPT OUT``.

    Args:
        arguments: ``ckpt``, ``out`` and ``half`` of the command line.

    Returns:
        0.

    Raises:
        UserError: If the checkpoint or OUT is unusable, before anything is written.
    """
    path, out = weights_file(arguments.ckpt), Path(arguments.out)
    _check_name(out)
    kind = "ddpm" if Path(path).is_dir() else read_weights(path).kind
    if kind == "ddpm":
        export_denoiser(load_denoiser(path), out, half=arguments.half)
    elif kind == learned.KIND:
        export_degradation(path, out, half=arguments.half)
    else:
        net = load_restorer(path)
        export_restorer(net, out, half=arguments.half)
        if isinstance(net, RRDBNet) and net.init_args["gc"] != _SPANDRELS_GROWTH:
            print(f"note: spandrel and chaiNNer open only an RRDBNet with gc 32; this one has gc {net.init_args['gc']}")
    print(f"wrote {arguments.out}")
    return 0


def export_denoiser(
    denoiser: Denoiser, out: str | Path, half: bool = False, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a denoiser; ``load_denoiser`` reads both formats, and always returns float32.

    The file or folder appears under its name only when it is complete.

    Args:
        denoiser: The denoiser, on any device.
        out: ``<name>.safetensors`` for one file with ``Denoiser.spec()`` as JSON under the metadata key
            ``ddpm_pairs``; a name without suffix for a folder that ``diffusers.DDPMPipeline.from_pretrained`` opens.
        half: Store the weights as float16, at half the size.
        metadata: More entries for the metadata of a safetensors file, such as ``{"license": "Apache-2.0"}``.

    Raises:
        UserError: If ``out`` exists or has an unsupported suffix; for a folder, also if the network is not a ``UNet``
            or there is ``metadata``, which a folder cannot store.
    """
    out = Path(out)
    _check_name(out)
    if out.suffix == ".pth":
        raise UserError(
            f"OUT: got {out} for a DDPM; expected a name ending in .safetensors, or without suffix for a folder"
        )
    if out.suffix != ".safetensors":
        if not isinstance(denoiser.net, UNet):
            raise UserError(
                f"OUT: got {out}; a {type(denoiser.net).__name__} cannot be written as a diffusers folder, only a UNet "
                "can; use a name ending in .safetensors"
            )
        if metadata:
            raise UserError(
                f"OUT: got {out}; a diffusers folder cannot store metadata; leave it out, or use a name ending in "
                ".safetensors"
            )
    if out.suffix == ".safetensors":
        _write_safetensors(_weights(denoiser.net, half), out, {**(metadata or {}), **_described(denoiser.spec())})
    else:
        with atomic_folder(out) as folder:
            _write_folder(denoiser, folder, half)


def export_restorer(net: nn.Module, out: str | Path, half: bool = False) -> None:
    """Write a restorer, with its weights under their official names; ``load_restorer`` reads both formats.

    The file appears under its name only when it is complete.

    Args:
        net: An RRDBNet, which Real-ESRGAN, spandrel and chaiNNer open; a SpandrelNet, which spandrel and chaiNNer open;
            or a GPEN, which GPEN opens as ``.pth``.
        out: ``<name>.safetensors``, with kind and network as JSON under the metadata key ``ddpm_pairs``; or
            ``<name>.pth``, with the weights under ``params_ema`` (for a GPEN, at the top level).
        half: Store the weights as float16, at half the size.

    Raises:
        UserError: If ``out`` exists or has an unsupported suffix.
    """
    out = Path(out)
    _check_name(out)
    if out.suffix not in (".safetensors", ".pth"):
        raise UserError(f"OUT: got {out} for a restorer; expected a name ending in .safetensors or .pth")
    spec = network_spec(net)
    if isinstance(net, SpandrelNet):
        weights = _stored(net.released_weights(), half)
        spec = {"class_path": spec["class_path"], "architecture": net.architecture}
    else:
        weights = _weights(net, half)
    if out.suffix == ".safetensors":
        _write_safetensors(weights, out, _described({"kind": "restorer", "net": spec}))
    else:
        save_atomically({"params_ema": weights} if isinstance(net, RRDBNet | SpandrelNet) else weights, out)


def export_degradation(path: str | Path, out: str | Path, half: bool = False) -> None:
    """Write a learned degradation, which ``--model.degradation`` takes wherever a degradation is named.

    The file appears under its name only when it is complete.

    Args:
        path: The checkpoint of its fit, or another export.
        out: ``<name>.safetensors``, with class, arguments and training as JSON under the metadata key ``ddpm_pairs``.
        half: Store the weights as float16, at half the size.

    Raises:
        UserError: If ``path`` is not a learned degradation, or ``out`` exists or has an unsupported suffix.
    """
    out = Path(out)
    _check_name(out)
    if out.suffix != ".safetensors":
        raise UserError(f"OUT: got {out} for a learned degradation; expected a name ending in .safetensors")
    net, training = learned.load_synthesizer(path)
    texts = _described(learned.describe(net, training))
    _write_safetensors(_weights(net, half), out, texts)


def _check_name(out: Path) -> None:
    if out.suffix not in ("", ".safetensors", ".pth"):
        raise UserError(
            f"OUT: got {out}; expected a name ending in .safetensors, in .pth (for a restorer), or without suffix (for "
            "a DDPM as a diffusers folder)"
        )
    if out.exists():
        raise UserError(f"OUT: {out} already exists; delete it, or choose another name")


def _described(spec: dict[str, Any]) -> dict[str, str]:
    return {"ddpm_pairs": json.dumps(spec)}


def _write_safetensors(weights: dict[str, Tensor], path: Path, texts: dict[str, str]) -> None:
    write_atomically(path, save(weights, {"format": "pt", **texts}))


def _weights(net: nn.Module, half: bool) -> dict[str, Tensor]:
    return _stored(net.state_dict(), half)


def _stored(weights: dict[str, Tensor], half: bool) -> dict[str, Tensor]:
    """Convert weights to what safetensors requires: on the CPU, contiguous, without shared memory."""
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
    # diffusers keeps these when it loads and saves the folder, and ``load_denoiser`` reads them.
    scheduler.register_to_config(ddpm_pairs_schedule=denoiser.schedule.name, ddpm_pairs_t_max=denoiser.t_max)
    try:
        DDPMPipeline(unet.half() if half else unet, scheduler).save_pretrained(folder)
    except SafetensorError as error:
        if "I/O error" in str(error):
            raise OSError(str(error).split("I/O error: ")[-1]) from error
        raise


def _diffusers_betas(schedule: Schedule) -> dict[str, Any]:
    """Return the schedule as arguments of diffusers, whose ``sigmoid`` is our ``sigmoid_beta``."""
    steps = schedule.num_train_timesteps
    if schedule.name == "cosine":
        return {"beta_schedule": "squaredcos_cap_v2"}
    if schedule.name == "linear" and schedule.beta_start is None:
        return {"beta_schedule": "linear", "beta_start": 1e-4 * 1000 / steps, "beta_end": 0.02 * 1000 / steps}
    if schedule.beta_start is not None:
        kind = "sigmoid" if schedule.name == "sigmoid_beta" else schedule.name
        return {"beta_schedule": kind, "beta_start": schedule.beta_start, "beta_end": schedule.beta_end}
    return {"trained_betas": schedule.betas.tolist()}
