"""LPIPS 0.1 with AlexNet (Zhang et al. 2018) from a local file, for the score and the loss."""

import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import lpips
import torch

from ddpm_pairs.errors import UserError
from ddpm_pairs.metrics.weights import ALEXNET


def lpips_network(path: Path) -> lpips.LPIPS:
    """Build the ``lpips`` network without the download of AlexNet that the package insists on.

    Args:
        path: AlexNet's convolutions under torchvision's names; a whole AlexNet works too.

    Returns:
        The network, for images in [-1, 1].

    Raises:
        UserError: If the file does not contain these weights.
    """
    # construction draws random weights, all of which are replaced
    with torch.random.fork_rng(devices=[]), redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips uses a deprecated call of torchvision
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        for part in network.net.children():  # five slices whose layers are numbered as in AlexNet
            part.load_state_dict({name: weights[f"features.{name}"] for name in part.state_dict()})
    except Exception as error:  # torch raises many types for files without weights
        reason = str(error).splitlines()[0]
        raise UserError(
            f"got {path} ({reason}); expected weights of AlexNet under torchvision's names; download {ALEXNET.url}"
        ) from None
    return network.eval().requires_grad_(False)
