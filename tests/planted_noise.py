"""Images with noise of a known covariance."""

import torch
import torch.nn.functional as F

MIXING = torch.tensor([[2.0, 0.0, 0.0], [1.2, 1.8, 0.0], [0.5, -0.6, 2.4]])
GRAIN = torch.tensor([[0.0, 0.3, 0.0], [0.4, 1.0, 0.4], [0.0, 0.3, 0.1]])
LAGS = [(0, 0), (0, 1), (1, 0), (1, 1), (1, -1), (0, 2)]


def noisy_image(height, width, seed):
    """Gray with colored noise, (3, H, W), uint8."""
    white = torch.randn(3, 1, height + 2, width + 2, generator=torch.Generator().manual_seed(seed))
    grain = F.conv2d(white, GRAIN[None, None])[:, 0]
    return (120 + torch.einsum("ij,jhw->ihw", MIXING, grain)).round().to(torch.uint8)


def planted_covariance():
    """Covariance of the channels at each of ``LAGS``, in squared 8-bit levels."""
    padded = F.pad(GRAIN, (2, 2, 2, 2))
    of_grain = [(padded * padded.roll((-rows, -columns), (0, 1))).sum() for rows, columns in LAGS]
    found = torch.stack([one * MIXING @ MIXING.T for one in of_grain])
    found[0] += torch.eye(3) / 12  # rounding
    return found


def covariance(noise):
    """The same of noise (N, 3, H, W) with zero mean."""
    height, width = noise.shape[-2:]
    found = []
    for rows, columns in LAGS:
        left, right = max(0, -columns), max(0, columns)
        first = noise[..., : height - rows, left : width - right]
        second = noise[..., rows:, right : width - left]
        found.append(torch.einsum("nchw,ndhw->cd", first, second) / (len(noise) * first.shape[-2] * first.shape[-1]))
    return torch.stack(found)


def distance(found, expected):
    """Root mean square of the difference over that of what is expected."""
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())
