"""Distances between two sets of images in feature space: FID and KID."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from ddpm_pairs.errors import UserError

KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
LEAST_PICTURES = 4


@dataclass(frozen=True)
class SetScores:
    """Distances of a set of images from a reference set.

    Attributes:
        fid: Frechet distance at Inception's 2048-d layer, which responds mostly to content.
        fid192: Frechet distance at the 192-d layer, which responds to texture and degradation and needs fewer images.
        kid: Kernel distance at the 2048-d layer, averaged over subsets; unbiased even for few images.
        kid_interval: Bounds that contain 95% of the subsets.
    """

    fid: float
    fid192: float
    kid: float
    kid_interval: tuple[float, float]


def set_scores(result: dict[str, Tensor], reference: dict[str, Tensor]) -> SetScores:
    """Compare two sets by their features.

    Args:
        result: Features (n, d) under ``fid`` and ``fid192``, as a feature network returns them.
        reference: Features (m, d) of the reference set.

    Raises:
        UserError: If a set has fewer than 4 images.
    """
    for name, features in (("result", result["fid"]), ("reference", reference["fid"])):
        if len(features) < LEAST_PICTURES:
            raise UserError(
                f"got {len(features)} images in the {name} set; expected {LEAST_PICTURES} or more for FID and KID"
            )
    kid, interval = kernel_distance(result["fid"], reference["fid"])
    return SetScores(
        frechet_distance(result["fid"], reference["fid"]),
        frechet_distance(result["fid192"], reference["fid192"]),
        kid,
        interval,
    )


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Frechet distance of Gaussians fitted to two sets of features (Heusel et al. 2017), in double precision.

    With centered features X_i / sqrt(n_i - 1) = Q_i R_i, the covariances are R_i^T R_i, and the trace of the root of
    their product is the sum of the singular values of R_1 R_2^T. This equals the usual distance without the root of a
    product that is singular for fewer images than features, and is much faster for few images.

    Args:
        first: Features (n, d), n at least 2.
        second: Features (m, d), m at least 2.
    """
    first, second = first.double(), second.double()
    gap = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    roots = [_covariance_root(first), _covariance_root(second)]
    spread = sum(root.square().sum() for root in roots)
    return (gap + spread - 2 * torch.linalg.svdvals(roots[0] @ roots[1].T).sum()).item()


def _covariance_root(features: Tensor) -> Tensor:
    """Return a matrix R with at most d rows such that R^T R is the covariance."""
    n, d = features.shape
    centered = (features - features.mean(dim=0)) / (n - 1) ** 0.5
    return torch.linalg.qr(centered, mode="r").R if n > d else centered


def kernel_distance(first: Tensor, second: Tensor) -> tuple[float, tuple[float, float]]:
    """KID (Binkowski et al. 2018): unbiased squared MMD with the cubic kernel, over seeded random subsets.

    Args:
        first: Features (n, d).
        second: Features (m, d).

    Returns:
        The mean over 100 subsets, each half as large as the smaller set (at most 1,000 images), and the bounds that
        contain 95% of them.
    """
    first, second = first.double(), second.double()
    size = min(len(first) // 2, len(second) // 2, KID_SUBSET_SIZE)
    generator = torch.Generator().manual_seed(0)

    def subset(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size]]

    values = torch.stack([poly_mmd(subset(first), subset(second)) for _ in range(KID_SUBSETS)])
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return values.mean().item(), (low, high)
