"""Scores of pictures against their own references: PSNR, SSIM and LPIPS."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ddpm_pairs.devices import full_float32
from ddpm_pairs.errors import UserError
from ddpm_pairs.metrics.lpips_network import lpips_network

PAIRED = ("psnr", "ssim", "lpips")
LEAST_SIDE = 32
SSIM_MARGIN = 5

PAIRED_SETTINGS = {
    "psnr": "mean over pictures, RGB, 8 bits",
    "ssim": "RGB, Gaussian window 11, sigma 1.5, inside the picture",
    "lpips": "0.1, AlexNet",
}
"""What stands in results for each score."""


class LPIPS(nn.Module):
    """LPIPS 0.1 with AlexNet (Zhang et al. 2018), by the ``lpips`` package.

    Args:
        path: AlexNet's convolutions under torchvision's names, such as ``weights_path(ALEXNET)``; whole AlexNets are
            taken too.

    Raises:
        UserError: if the file is no such weights.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network = lpips_network(path)

    @torch.no_grad()
    def forward(self, result: Tensor, reference: Tensor) -> Tensor:
        """Distances (N,) of uint8 (N, 3, H, W) pictures."""
        with full_float32(result.device):
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
        UserError: if types or shapes do not fit, or a side is under 32 px, which LPIPS cannot take.
    """
    if result.dtype != torch.uint8 or reference.dtype != torch.uint8 or result.shape != reference.shape:
        raise UserError(
            f"result is {result.dtype} {tuple(result.shape)}, reference {reference.dtype} {tuple(reference.shape)}: "
            "expected uint8 pictures of one size"
        )
    if min(result.shape[-2:]) < LEAST_SIDE:
        height, width = result.shape[-2:]
        raise UserError(f"pictures are {width}x{height} px: expected sides of {LEAST_SIDE} px or more")
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


def summarize(
    pictures: Mapping[str, Mapping[str, float]], names: Sequence[str]
) -> tuple[dict[str, float], dict[str, tuple[float, float] | None], dict[str, str]]:
    """Means over pictures.

    Args:
        pictures: Scores by key, then by name.
        names: Some of ``PAIRED``, which every picture has.

    Returns:
        Means, their 95% intervals, and notes on pictures that are not in a mean since their score is infinite, each by
        name; a score that no picture has is in neither of the first two.
    """
    means, intervals, notes = {}, {}, {}
    for name in names:
        values = torch.tensor([found[name] for found in pictures.values()], dtype=torch.float64)
        finite = values[values.isfinite()]
        if len(finite) < len(values):
            notes[name] = f"{len(values) - len(finite)} images equal their reference and are excluded from the mean"
        if len(finite):
            means[name] = finite.mean().item()
            intervals[name] = bootstrap_interval(finite)
    return means, intervals, notes
