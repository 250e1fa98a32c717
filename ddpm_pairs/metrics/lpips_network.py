"""LPIPS 0.1 with AlexNet (Zhang et al. 2018) out of a local file: a score, and a loss."""

import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import lpips
import torch

from ddpm_pairs.errors import UserError


def lpips_network(path: Path) -> lpips.LPIPS:
    """The ``lpips`` package's network for pictures in [-1, 1]; itself it would always download AlexNet.

    Args:
        path: AlexNet's convolutions under torchvision's names; whole AlexNets are taken too.

    Raises:
        UserError: if the file is no such weights.
    """
    # building it draws weights, of which none stays
    with torch.random.fork_rng(devices=[]), redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision in a way that torchvision has renamed
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        for part in network.net.children():  # five slices whose layers keep AlexNet's numbers
            part.load_state_dict({name: weights[f"features.{name}"] for name in part.state_dict()})
    except Exception as error:  # torch raises many kinds for files that are no weights
        raise UserError(f"{path} holds no weights of AlexNet: {str(error).splitlines()[0]}") from None
    return network.eval().requires_grad_(False)
