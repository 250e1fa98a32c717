"""Distances between two sets of pictures by their features: FID and KID."""

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
    """How far a set of pictures lies from a reference set.

    Attributes:
        fid: Frechet distance at Inception's 2048-d layer, which sees content first.
        fid192: the same at the 192-d layer, which sees texture and degradation and needs fewer pictures.
        kid: kernel distance at the 2048-d layer, mean over subsets; unbiased also for few pictures.
        kid_interval: between these lie 95% of the subsets.
    """

    fid: float
    fid192: float
    kid: float
    kid_interval: tuple[float, float]


def set_scores(result: dict[str, Tensor], reference: dict[str, Tensor]) -> SetScores:
    """Compare two sets by their features.

    Args:
        result: (n, d) features under ``fid`` and ``fid192``, as a feature network gives them.
        reference: (m, d) features of the reference set.

    Raises:
        UserError: if a set has fewer than 4 pictures.
    """
    for name, features in (("result", result["fid"]), ("reference", reference["fid"])):
        if len(features) < LEAST_PICTURES:
            raise UserError(
                f"the {name} set has {len(features)} pictures: expected {LEAST_PICTURES} or more for FID and KID"
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

    With centred features X_i / sqrt(n_i - 1) = Q_i R_i the covariances are R_i^T R_i, and the trace of the root of
    their product is the sum of the singular values of R_1 R_2^T. That is the usual distance, but no root is taken of a
    product that is singular where pictures are fewer than features, and for few pictures it is far quicker.

    Args:
        first: (n, d), n at least 2.
        second: (m, d).
    """
    first, second = first.double(), second.double()
    gap = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    roots = [_covariance_root(first), _covariance_root(second)]
    spread = sum(root.square().sum() for root in roots)
    return (gap + spread - 2 * torch.linalg.svdvals(roots[0] @ roots[1].T).sum()).item()


def _covariance_root(features: Tensor) -> Tensor:
    """A matrix R with at most d rows whose R^T R is the covariance."""
    n, d = features.shape
    centred = (features - features.mean(dim=0)) / (n - 1) ** 0.5
    return torch.linalg.qr(centred, mode="r").R if n > d else centred


def kernel_distance(first: Tensor, second: Tensor) -> tuple[float, tuple[float, float]]:
    """KID (Binkowski et al. 2018): squared MMD with the cubic kernel, unbiased, over seeded random subsets.

    Args:
        first: (n, d) features.
        second: (m, d) features.

    Returns:
        The mean over 100 subsets of half the smaller set (at most 1,000 pictures), and the bounds between which 95% of
        them lie.
    """
    first, second = first.double(), second.double()
    size = min(len(first) // 2, len(second) // 2, KID_SUBSET_SIZE)
    generator = torch.Generator().manual_seed(0)

    def subset(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size]]

    values = torch.stack([poly_mmd(subset(first), subset(second)) for _ in range(KID_SUBSETS)])
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return values.mean().item(), (low, high)
