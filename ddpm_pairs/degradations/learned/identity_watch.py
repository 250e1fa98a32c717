"""A warning about a network that only reduces HQ, although real LQ looks different."""

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from ddpm_pairs.degradations.ops.bands import box_high

LEAST_GAP_DB = 1.0
"""Gap between the high-frequency power of real LQ and of reduced HQ below which reduced HQ is good enough."""

LEAST_SHARE = 0.25
"""Smallest change of the high frequencies, as a share of the one without which their power cannot match."""


class IdentityWatch:
    """Warn if the generated LQ keeps the high frequencies of bicubically reduced HQ, and real LQ has others.

    To bring the power of reduced HQ to that of real LQ, the high frequencies must change by at least the difference of
    the root mean squares (by the triangle inequality). A change much smaller than that is none.

    Args:
        window: Iterations between checks. Only a check synchronizes with the device.
    """

    def __init__(self, window: int = 1000) -> None:
        self.window = window
        self._seen, self._sums = 0, torch.zeros(3)

    @torch.no_grad()
    def update(self, made: Tensor, reduced: Tensor, real: Tensor) -> str | None:
        """Add an iteration's images, each (N, 3, H, W); at the end of a window, issue and return the warning, if any.

        Args:
            made: Generated LQ.
            reduced: The HQ from which it was made, reduced bicubically.
            real: Real LQ, of other content.
        """
        high = box_high(reduced.float())
        powers = [box_high(made.float()) - high, high, box_high(real.float())]
        self._sums = self._sums.to(made.device) + torch.stack([one.square().mean() for one in powers])
        self._seen += 1
        if self._seen < self.window:
            return None
        change, start, target = (self._sums / self._seen).sqrt().clamp(min=1e-6).tolist()
        self._seen, self._sums = 0, torch.zeros(3)
        gap = 20 * torch.log10(torch.tensor(target / start)).item()
        if abs(gap) < LEAST_GAP_DB or change > LEAST_SHARE * abs(target - start):
            return None
        warning = (
            f"over the last {self.window} iterations, the generated LQ kept the high frequencies of bicubically "
            f"reduced HQ (RMS change {change * 255:.2f} of 255), but those of real LQ have {gap:+.1f} dB more power: "
            "the network only reduces HQ. Raise --model.adversarial_weight, or lower --model.content_weight and "
            "--model.perceptual_weight"
        )
        rank_zero_warn(warning)
        return warning
