"""Load restorers: the weights determine which network is built."""

import copy
from pathlib import Path

from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.networks.gpen.network import SIGNS as GPEN_SIGNS
from ddpm_pairs.restoration.networks.gpen.network import build_gpen
from ddpm_pairs.restoration.networks.rrdb_weights import build_rrdb, official_names
from ddpm_pairs.restoration.networks.spandrel_net import SpandrelNet, describe, extra_hint
from ddpm_pairs.restoration.size_limit import SizeLimit
from ddpm_pairs.restoration.weight_files import EXPECTED, MisfitError, first_misfit, looks_like, read_weights


def load_restorer(path: str | Path, config_net: nn.Module | None = None) -> nn.Module:
    """Load a restoration network; the names and shapes of the weights determine what is built.

    ``RRDBNet`` (under the names of Real-ESRGAN, of "new" ESRGAN such as BSRGAN, and of "old" ESRGAN) and ``GPEN`` are
    our own classes. Any other network is the config's if its weights match exactly, or one that spandrel opens. A file
    with several sets of weights gives the moving average if it has one.

    Args:
        path: A ``.ckpt``, ``.safetensors`` or ``.pth`` file. It is read without running code from it.
        config_net: The config's network. A copy is filled.

    Returns:
        The network in eval mode, float32, on the CPU.

    Raises:
        UserError: if the file is missing, unreadable, or holds no restorer; the message says what it looks like.
    """
    weights = read_weights(path)
    if weights.kind not in (None, "restorer"):
        raise UserError(f"checkpoint {path} looks like {looks_like(weights)}: {EXPECTED}")
    tensors = weights.tensors
    try:
        net = _own_network(tensors) or _config_network(tensors, config_net)
        if net is None and (descriptor := describe(tensors)) is not None:
            net = SpandrelNet.from_descriptor(descriptor)
    except MisfitError as error:
        if config_net is None or tensors.keys() != config_net.state_dict().keys():
            raise UserError(f"checkpoint {path} looks like {error}") from None
        net = None  # the names are the config's, so its sizes are what the user has to compare
    if net is not None:
        return net.float().eval()
    looks, expected = looks_like(weights), EXPECTED
    if config_net is not None:
        looks += f" ({_difference(tensors, config_net)})"
        expected = f"expected RRDB, GPEN, a network that spandrel opens, or the config's {type(config_net).__name__}"
    raise UserError(f"checkpoint {path} looks like {looks}: {expected}{extra_hint()}")


def _own_network(tensors: dict[str, Tensor]) -> nn.Module | None:
    """Build and fill an RRDBNet or a GPEN; ``None`` for the weights of anything else."""
    rrdb = official_names(tensors)
    if rrdb is None and not tensors.keys() >= GPEN_SIGNS:
        return None
    name = "GPEN" if rrdb is None else "RRDBNet"
    try:
        with SizeLimit(tensors.values()):
            net = build_gpen(tensors) if rrdb is None else build_rrdb(rrdb)
        if rrdb is None:  # the fixed kernels of released files differ in number
            own = net.state_dict().keys()
            tensors = {name: value for name, value in tensors.items() if name in own or not name.endswith(".kernel")}
        net.load_state_dict(tensors if rrdb is None else rrdb)
    except Exception as error:  # shapes that contradict each other can raise anything
        raise MisfitError(f"damaged weights of {name} ({first_misfit(error)}): give the whole file") from None
    return net


def _config_network(tensors: dict[str, Tensor], config_net: nn.Module | None) -> nn.Module | None:
    """Fill a copy of the config's network; ``None`` if names or shapes differ."""
    if config_net is None:
        return None
    wanted = {name: value.shape for name, value in config_net.state_dict().items()}
    if wanted != {name: value.shape for name, value in tensors.items()}:
        return None
    net = copy.deepcopy(config_net)
    net.load_state_dict(tensors)
    return net


def _difference(tensors: dict[str, Tensor], config_net: nn.Module) -> str:
    """Describe the first difference between weights and a network that they do not fit."""
    try:
        copy.deepcopy(config_net).load_state_dict(tensors)
    except RuntimeError as error:
        return first_misfit(error)
    return ""
