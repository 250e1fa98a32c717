"""Fill a restorer or a discriminator with the weights that its training starts from."""

from pathlib import Path

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.networks.rrdb import RRDBNet
from ddpm_pairs.restoration.networks.spandrel_net import SpandrelNet
from ddpm_pairs.restoration.weight_files import first_misfit, read_weights
from ddpm_pairs.restoration.weights import load_restorer
from ddpm_pairs.shipped import weights_file

_DECODER = "input.input"
"""A weight that only a decoder on its own has under this name."""


def start_network(net: nn.Module, path: str) -> None:
    """Fill a restorer with the weights of another, or a GPEN's mapping and decoder with those of a ``Prior``.

    An ``RRDBNet`` of another scale fills all but the first convolution, as Real-ESRGAN's x2 starts from its x4.

    Args:
        net: The restorer.
        path: A file that ``load_restorer`` takes; for GPEN also one that ``start_decoder`` takes.

    Raises:
        UserError: if the file holds something else or does not fit.
    """
    path = weights_file(path)
    if hasattr(net, "generator") and _DECODER in read_weights(path).tensors:
        start_decoder(net.generator, path)
        return
    start = SpandrelNet(path) if isinstance(net, SpandrelNet) else load_restorer(path, net)
    tensors = start.state_dict()
    if isinstance(net, RRDBNet) and isinstance(start, RRDBNet) and start.scale != net.scale:
        rank_zero_warn(f"init_from {path} is x{start.scale}, the network x{net.scale}; conv_first keeps its own start")
        tensors["conv_first.weight"] = net.conv_first.weight.detach()
    _fill(net, tensors, "init_from", path)


def start_decoder(decoder: nn.Module, path: str) -> None:
    """Fill a ``StyleDecoder``, mapping and all.

    Args:
        decoder: The decoder. With ``isconcat=False`` it takes StyleGAN2's own weights.
        path: A checkpoint of ``Prior``, or a StyleGAN2 generator.

    Raises:
        UserError: if the file holds something else or does not fit.
    """
    path = weights_file(path)
    tensors = read_weights(path).tensors
    fixed_noise = {name for name in tensors if name.startswith("noises.")}
    _fill(decoder, {name: tensors[name] for name in tensors.keys() - fixed_noise}, "init_from", path)


def start_discriminator(discriminator: nn.Module, path: str) -> None:
    """Fill a discriminator.

    Args:
        discriminator: The discriminator.
        path: A checkpoint of ``Prior`` or ``Adversarial``, of which the trained discriminator is taken, not its moving
            average; or weights alone, such as a netD file of Real-ESRGAN, or GPEN's training state.

    Raises:
        UserError: if the file holds something else or does not fit.
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
        name = type(part).__name__
        raise UserError(f"{option} {path} does not fit the {name} of the config: {first_misfit(error)}") from None
