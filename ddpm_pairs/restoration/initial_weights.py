"""Load the weights from which the training of a restorer or a discriminator starts."""

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
"""Name of a weight that only a standalone decoder has."""


def start_network(net: nn.Module, path: str) -> None:
    """Load the weights of another restorer, or those of a ``Prior`` into a GPEN's mapping and decoder.

    An ``RRDBNet`` of another scale sets all weights but those of the first convolution, as Real-ESRGAN's x2 starts from
    its x4.

    Args:
        net: The restorer; changed in place.
        path: A file that ``load_restorer`` accepts; for GPEN also one that ``start_decoder`` accepts.

    Raises:
        UserError: If the file contains something else, or its weights do not fit.
    """
    path = weights_file(path)
    if hasattr(net, "generator") and _DECODER in read_weights(path).tensors:
        start_decoder(net.generator, path)
        return
    start = SpandrelNet(path) if isinstance(net, SpandrelNet) else load_restorer(path, net)
    tensors = start.state_dict()
    if isinstance(net, RRDBNet) and isinstance(start, RRDBNet) and start.scale != net.scale:
        rank_zero_warn(
            f"--model.init_from {path} is x{start.scale}, the network x{net.scale}; "
            "conv_first keeps its initial weights"
        )
        tensors["conv_first.weight"] = net.conv_first.weight.detach()
    _fill(net, tensors, "init_from", path)


def start_decoder(decoder: nn.Module, path: str) -> None:
    """Load the weights of a ``StyleDecoder``, including its mapping.

    Args:
        decoder: The decoder; changed in place. With ``isconcat=False``, StyleGAN2's own weights fit.
        path: A checkpoint of ``Prior``, or a StyleGAN2 generator.

    Raises:
        UserError: If the file contains something else, or its weights do not fit.
    """
    path = weights_file(path)
    tensors = read_weights(path).tensors
    fixed_noise = {name for name in tensors if name.startswith("noises.")}
    _fill(decoder, {name: tensors[name] for name in tensors.keys() - fixed_noise}, "init_from", path)


def start_discriminator(discriminator: nn.Module, path: str, option: str = "discriminator_from") -> None:
    """Load the weights of a discriminator.

    Args:
        discriminator: The discriminator; changed in place.
        path: A checkpoint of ``Prior``, ``Adversarial``, or ``DegradationGAN``, or a file of weights only, such as
            Real-ESRGAN's netD or GPEN's training state. From a checkpoint, the trained weights are taken, not their
            moving average.
        option: The option that names the file, for error messages.

    Raises:
        UserError: If the file contains something else, or its weights do not fit.
    """
    path = weights_file(path)
    _fill(discriminator, _discriminator_weights(path), option, path)


def _discriminator_weights(path: str) -> dict[str, Tensor]:
    weights = read_weights(path).tensors
    if Path(path).suffix == ".safetensors":
        return weights
    content = torch.load(path, map_location="cpu", weights_only=True)
    for name in ("current_model_state", "state_dict"):
        held = content[name] if isinstance(content.get(name), dict) else {}
        own = {str(key): one for key, one in held.items() if str(key).startswith("discriminator.")}
        if own:
            return {key.removeprefix("discriminator."): one for key, one in own.items()}
    return content["d"] if isinstance(content.get("d"), dict) else weights


def _fill(part: nn.Module, tensors: dict[str, Tensor], option: str, path: str) -> None:
    try:
        part.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"--model.{option} {path} does not fit the {type(part).__name__} of the config: {first_misfit(error)}"
        ) from None
