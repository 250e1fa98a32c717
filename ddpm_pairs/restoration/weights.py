"""Load restorers; the weights determine which network is built."""

import copy
from pathlib import Path

from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.networks.gpen.network import SIGNS as GPEN_SIGNS
from ddpm_pairs.restoration.networks.gpen.network import build_gpen
from ddpm_pairs.restoration.networks.rrdb_weights import build_rrdb, official_names
from ddpm_pairs.restoration.networks.spandrel_net import SpandrelNet, describe, extra_hint
from ddpm_pairs.restoration.networks.unet import SIGNS as UNET_SIGNS
from ddpm_pairs.restoration.networks.unet import build_unet
from ddpm_pairs.restoration.weight_files import EXPECTED, MisfitError, first_misfit, looks_like, read_weights
from ddpm_pairs.tensors import SizeLimit


def load_restorer(path: str | Path, config_net: nn.Module | None = None) -> nn.Module:
    """Load a restoration network; the names and shapes of the weights determine its class and sizes.

    ``RRDBNet`` (with the names of Real-ESRGAN, of "new" ESRGAN such as BSRGAN, or of "old" ESRGAN), ``GPEN``, and
    ``RestorationUNet`` are classes of this package. For other weights, the config's network is used if they match it
    exactly; otherwise spandrel builds the network. If the file contains several sets of weights, the moving average is
    preferred.

    Args:
        path: A ``.ckpt``, ``.safetensors``, or ``.pth`` file. No code from the file is run.
        config_net: The config's network. The weights are loaded into a copy of it.

    Returns:
        The network in eval mode, float32, on the CPU.

    Raises:
        UserError: If the file is missing, unreadable, or contains no restorer; the message describes what it contains.
    """
    weights = read_weights(path)
    if weights.kind not in (None, "restorer"):
        raise UserError(f"checkpoint {path} looks like {looks_like(weights)}; {EXPECTED}")
    tensors = weights.tensors
    try:
        net = _own_network(tensors) or _config_network(tensors, config_net)
        if net is None and (descriptor := describe(tensors)) is not None:
            net = SpandrelNet.from_descriptor(descriptor)
    except MisfitError as error:
        if config_net is None or tensors.keys() != config_net.state_dict().keys():
            raise UserError(f"checkpoint {path} looks like {error}") from None
        net = None  # the names match the config's, so the message compares the sizes with it
    if net is not None:
        return net.float().eval()
    looks, expected = looks_like(weights), EXPECTED
    if config_net is not None:
        looks += f" ({_difference(tensors, config_net)})"
        expected = f"expected RRDB, GPEN, a network that spandrel opens, or the config's {type(config_net).__name__}"
    raise UserError(f"checkpoint {path} looks like {looks}; {expected}{extra_hint()}")


def _own_network(tensors: dict[str, Tensor]) -> nn.Module | None:
    """Build one of this package's networks and load the weights; return ``None`` for weights of another network."""
    rrdb = official_names(tensors)
    if rrdb is not None:
        name, build, tensors = "RRDBNet", build_rrdb, rrdb
    elif tensors.keys() >= GPEN_SIGNS:
        name, build = "GPEN", build_gpen
    elif tensors.keys() >= UNET_SIGNS:
        name, build = "RestorationUNet", build_unet
    else:
        return None
    try:
        with SizeLimit(tensors.values()):
            net = build(tensors)
        own = net.state_dict().keys()  # released GPEN files differ in their number of fixed kernels
        net.load_state_dict({name: one for name, one in tensors.items() if name in own or not name.endswith(".kernel")})
    except MisfitError:
        raise
    except Exception as error:  # contradictory shapes can raise any error
        raise MisfitError(f"damaged weights of {name} ({first_misfit(error)}); expected the complete file") from None
    return net


def _config_network(tensors: dict[str, Tensor], config_net: nn.Module | None) -> nn.Module | None:
    """Load the weights into a copy of the config's network; return ``None`` if names or shapes differ."""
    if config_net is None:
        return None
    wanted = {name: value.shape for name, value in config_net.state_dict().items()}
    if wanted != {name: value.shape for name, value in tensors.items()}:
        return None
    net = copy.deepcopy(config_net)
    net.load_state_dict(tensors)
    return net


def _difference(tensors: dict[str, Tensor], config_net: nn.Module) -> str:
    """Describe the first mismatch between weights and a network."""
    try:
        copy.deepcopy(config_net).load_state_dict(tensors)
    except RuntimeError as error:
        return first_misfit(error)
    return ""
