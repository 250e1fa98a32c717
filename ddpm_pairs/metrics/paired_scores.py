"""Scores of images against their own references: PSNR, SSIM and LPIPS."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ddpm_pairs.errors import UserError
from ddpm_pairs.metrics.lpips_network import lpips_network
from ddpm_pairs.tensors import full_float32

PAIRED = ("psnr", "ssim", "lpips")
LEAST_SIDE = 32
SSIM_MARGIN = 5

PAIRED_SETTINGS = {
    "psnr": "mean over images, RGB, 8 bits",
    "ssim": "RGB, Gaussian window 11, sigma 1.5, inside the image",
    "lpips": "0.1, AlexNet",
}
"""How each score is computed, for the result files."""


class LPIPS(nn.Module):
    """LPIPS 0.1 with AlexNet (Zhang et al. 2018), computed by the ``lpips`` package.

    Args:
        path: AlexNet's convolutions under torchvision's names, such as ``weights_path(ALEXNET)``; a whole AlexNet
            works too.

    Raises:
        UserError: If the file does not contain these weights.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network = lpips_network(path)

    @torch.no_grad()
    def forward(self, result: Tensor, reference: Tensor) -> Tensor:
        """Return distances (N,) of uint8 images (N, 3, H, W)."""
        with full_float32(result.device):
            return self.network(result.float() / 127.5 - 1, reference.float() / 127.5 - 1).flatten()


def paired_scores(result: Tensor, reference: Tensor, distance: nn.Module | None = None) -> dict[str, Tensor]:
    """Score images against their references.

    PSNR is taken over all channels and pixels of an image with a peak of 255; it is infinite for equal images. SSIM is
    that of Wang et al. on RGB (Gaussian window of 11 px, sigma 1.5), averaged where the window is inside the image, as
    in the MATLAB original, scikit-image and BasicSR. Papers report means over images.

    Args:
        result: uint8 (N, 3, H, W).
        reference: uint8 (N, 3, H, W).
        distance: ``LPIPS`` or a module with the same interface; ``None`` omits ``lpips``.

    Returns:
        ``psnr`` in dB, ``ssim`` and ``lpips``, each float32 (N,).

    Raises:
        UserError: If types or shapes differ, or a side is shorter than the 32 px that LPIPS needs.
    """
    if result.dtype != torch.uint8 or reference.dtype != torch.uint8 or result.shape != reference.shape:
        raise UserError(
            f"got a result of {_described(result)} and a reference of {_described(reference)}; "
            "expected uint8 images of equal size"
        )
    if min(result.shape[-2:]) < LEAST_SIDE:
        height, width = result.shape[-2:]
        raise UserError(f"got images of {width}x{height} px; expected {LEAST_SIDE} px or more per side")
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


def _described(images: Tensor) -> str:
    return f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"


def bootstrap_interval(values: Tensor) -> tuple[float, float] | None:
    """Estimate the 95% interval of the mean over images by 2,000 seeded bootstrap resamples.

    Args:
        values: Finite scores (N,).

    Returns:
        Lower and upper bound; ``None`` for fewer than 2 images.
    """
    if len(values) < 2:
        return None
    found = bootstrap((values.double().numpy(),), np.mean, n_resamples=2000, method="percentile", rng=0)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def summarize(
    pictures: Mapping[str, Mapping[str, float]], names: Sequence[str]
) -> tuple[dict[str, float], dict[str, tuple[float, float] | None], dict[str, str]]:
    """Average scores over images.

    Args:
        pictures: Scores by key, then by name.
        names: Some of ``PAIRED``; every image has them.

    Returns:
        By name: means, their 95% intervals, and notes on images that are excluded because their score is infinite. A
        score without any finite value is in neither of the first two.
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
