"""Weights that a restorer or a discriminator starts from."""

from pathlib import Path

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.loading import load_restorer
from ddpm_pairs.restoration.networks.rrdb import RRDBNet
from ddpm_pairs.restoration.weight_files import read_weights
from ddpm_pairs.shipped import weights_file

_DECODER = "input.input"
"""A weight that a decoder alone has under this name."""


def start_network(net: nn.Module, path: str) -> None:
    """Fill a restorer with the weights of another, or a GPEN's mapping and decoder with those of a ``Prior``.

    An RRDBNet takes over one of another scale but for its first convolution, as Real-ESRGAN's x2 starts from its x4.

    Args:
        net: The restorer.
        path: A file that ``load_restorer`` takes; for GPEN also one that ``start_decoder`` takes.

    Raises:
        UserError: in one line, if the file holds something else or does not fit.
    """
    path = weights_file(path)
    if hasattr(net, "generator") and _DECODER in read_weights(path).tensors:
        start_decoder(net.generator, path)
    else:
        start = load_restorer(path, net)
        tensors = start.state_dict()
        if isinstance(net, RRDBNet) and isinstance(start, RRDBNet) and start.scale != net.scale:
            rank_zero_warn(f"init_from {path} is x{start.scale}, the network x{net.scale}: conv_first starts anew")
            tensors["conv_first.weight"] = net.conv_first.weight.detach()
        _fill(net, tensors, "init_from", path)


def start_decoder(decoder: nn.Module, path: str) -> None:
    """Fill a ``StyleDecoder``, mapping and all.

    Args:
        decoder: The decoder; with ``isconcat=False`` StyleGAN2's own weights fit.
        path: A checkpoint of ``Prior``, or a StyleGAN2 generator.

    Raises:
        UserError: in one line, if the file holds something else or does not fit.
    """
    path = weights_file(path)
    tensors = read_weights(path).tensors
    fixed_noise = {name for name in tensors if name.startswith("noises.")}
    _fill(decoder, {name: tensors[name] for name in tensors.keys() - fixed_noise}, "init_from", path)


def start_discriminator(discriminator: nn.Module, path: str) -> None:
    """Fill a discriminator.

    Args:
        discriminator: The discriminator.
        path: A checkpoint of ``Prior`` or ``Adversarial``, whose averaged discriminator is not taken but the trained
            one; or weights alone, such as a netD file of Real-ESRGAN, or GPEN's training state.

    Raises:
        UserError: in one line, if the file holds something else or does not fit.
    """
    path = weights_file(path)
    _fill(discriminator, _discriminator_weights(path), "discriminator_from", path)


def _discriminator_weights(path: str) -> dict[str, Tensor]:
    weights = read_weights(path).tensors
    if Path(path).suffix == ".safetensors":
        return weights
    content = torch.load(path, map_location="cpu", weights_only=True)
    for name in ("current_model_state", "state_dict"):
        held = content.get(name, {}).items()
        if found := {key.removeprefix("discriminator."): one for key, one in held if key.startswith("discriminator.")}:
            return found
    return content["d"] if isinstance(content.get("d"), dict) else weights


def _fill(part: nn.Module, tensors: dict[str, Tensor], option: str, path: str) -> None:
    try:
        part.load_state_dict(tensors)
    except RuntimeError as error:
        first = " ".join(str(error).split("\n\t")[1].split())[:160]
        raise UserError(f"{option} {path} does not fit the {type(part).__name__} of the config: {first}") from None
