"""The losses between codes (Li et al. 2022, arXiv 2210.00752, Eq. 7, with the numbers of the released code)."""

import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.training.ranks import mean_over_ranks


def same_degradation(natural: Tensor, face: Tensor) -> Tensor:
    """Return the L1 distance of codes (N, C) that were read from two images with the same degradation."""
    return F.l1_loss(natural.float(), face.float())


def disentangling(real: Tensor, synthetic: Tensor) -> Tensor:
    """Return 4 / (10 d + 1e-7), d the L1 distance of codes (N, C) of one face with two degradations.

    It is large if a code describes the face instead of its degradation. The distance is that of all ranks.
    """
    return 4 / (10 * mean_over_ranks(F.l1_loss(real.float(), synthetic.float())) + 1e-7)
