"""Scores of pictures against their own references: PSNR, SSIM and LPIPS."""

import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import lpips
import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

PAIRED = ("psnr", "ssim", "lpips")
LEAST_SIDE = 32
SSIM_MARGIN = 5


class LPIPS(nn.Module):
    """LPIPS 0.1 with AlexNet (Zhang et al. 2018), by the ``lpips`` package.

    Args:
        path: AlexNet's convolutions under torchvision's names, such as ``weights_path(ALEXNET)``; whole AlexNets are
            taken too.

    Raises:
        ValueError: if the file is no such weights.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips calls torchvision in a way that torchvision has renamed
            self.network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            for part in self.network.net.children():  # five slices whose layers keep AlexNet's numbers
                own = {name: weights[f"features.{name}"] for name in part.state_dict()}
                part.load_state_dict(own)
        except Exception as error:  # torch raises many kinds for files that are no weights
            raise ValueError(f"{path} holds no weights of AlexNet: {str(error).splitlines()[0]}") from error
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, result: Tensor, reference: Tensor) -> Tensor:
        """Distances (N,) of uint8 (N, 3, H, W) pictures."""
        with torch.autocast(result.device.type, enabled=False):
            return self.network(result.float() / 127.5 - 1, reference.float() / 127.5 - 1).flatten()


def paired_scores(result: Tensor, reference: Tensor, distance: nn.Module | None = None) -> dict[str, Tensor]:
    """Score pictures against their references.

    PSNR has peak 255 over all channels and pixels of a picture, infinite for equal ones; SSIM is Wang et al.'s
    (Gaussian window of 11 px, sigma 1.5) on RGB, averaged where the window lies inside the picture, as the MATLAB
    original, scikit-image and BasicSR do. Means over pictures are what papers report.

    Args:
        result: (N, 3, H, W), uint8.
        reference: (N, 3, H, W), uint8.
        distance: ``LPIPS`` or another module of its form; None leaves ``lpips`` out.

    Returns:
        ``psnr`` in dB, ``ssim`` and ``lpips``, each (N,) float32.

    Raises:
        ValueError: if types or shapes do not fit, or a side is under 32 px, which LPIPS cannot take.
    """
    if result.dtype != torch.uint8 or reference.dtype != torch.uint8 or result.shape != reference.shape:
        raise ValueError(
            f"result is {result.dtype} {tuple(result.shape)}, reference {reference.dtype} {tuple(reference.shape)}: "
            "expected uint8 pictures of one size"
        )
    if min(result.shape[-2:]) < LEAST_SIDE:
        height, width = result.shape[-2:]
        raise ValueError(f"pictures are {width}x{height} px: expected sides of {LEAST_SIDE} px or more")
    ours, theirs = result.float(), reference.float()
    _, similarity = structural_similarity_index_measure(
        ours, theirs, data_range=255.0, reduction="none", return_full_image=True
    )
    inside = slice(SSIM_MARGIN, -SSIM_MARGIN)
    scores = {
        "psnr": peak_signal_noise_ratio(ours, theirs, data_range=255.0, reduction="none", dim=(1, 2, 3)),
        "ssim": similarity[..., inside, inside].mean(dim=(1, 2, 3)),
    }
    if distance is not None:
        scores["lpips"] = distance(result, reference)
    return scores


def bootstrap_interval(values: Tensor) -> tuple[float, float] | None:
    """The 95% interval of the mean over pictures, by 2,000 seeded resamples.

    Args:
        values: (N,) finite scores.

    Returns:
        Its bounds; None for fewer than 2 pictures.
    """
    if len(values) < 2:
        return None
    found = bootstrap((values.double().numpy(),), np.mean, n_resamples=2000, method="percentile", rng=0)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
