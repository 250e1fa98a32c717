"""Warnings about a discriminator that is always right or learns nothing, and about a denoiser with a shortcut."""

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from ddpm_pairs.training.losses.competition import Competition, Logistic

NEAR = 0.01
"""Distance, per image, from the loss of a perfect or of a guessing discriminator."""


class DiscriminatorWatch:
    """Warn if the discriminator is always right, or if it learns nothing.

    Args:
        loss: The adversarial loss; ``None`` is the logistic one.
        window: Iterations between checks. Only a check synchronizes with the device.
    """

    def __init__(self, loss: Competition | None = None, window: int = 1000) -> None:
        self.loss, self.window = loss or Logistic(), window
        self._seen, self._sums = 0, torch.zeros(2)

    def update(self, loss: Tensor) -> str | None:
        """Add an iteration's discriminator loss; at the end of a window, issue and return the warning, if any."""
        half, undecided = loss.detach().float() / 2, self.loss.undecided / 2
        self._sums = self._sums.to(half.device) + torch.stack([half, (half - undecided).abs()])
        self._seen += 1
        if self._seen < self.window:
            return None
        mean, distance = (self._sums / self._seen).tolist()
        self._seen, self._sums = 0, torch.zeros(2)
        warning = None
        if self.loss.bounded and mean < NEAR:
            warning = (
                f"the discriminator's loss was {mean:.4f} per image over the last {self.window} iterations: it "
                "recognizes all generated images, so the generator learns nothing from it. Lower its learning rate, or "
                "raise --model.r1_weight"
            )
        elif distance < NEAR:
            warning = (
                f"the discriminator's loss stayed at {mean:.3f} per image over the last {self.window} iterations "
                f"(guessing gives {undecided:.3f}): it learns nothing. Raise its learning rate, or start with trained "
                "weights where the model takes them (--model.discriminator_from)"
            )
        if warning is not None:
            rank_zero_warn(warning)
        return warning


class ShortcutWatch:
    """Warn if the denoiser of noise-space adaptation does not tell good conditions from bad ones.

    The bad ones carry each other's residuals. If the denoiser's error is not larger with them, it ignores the restored
    images or has found a shortcut, so its gradient does not improve real images.

    Args:
        window: Iterations between checks. Only a check synchronizes with the device.
    """

    def __init__(self, window: int = 1000) -> None:
        self.window = window
        self._seen, self._sums = 0, torch.zeros(2)

    def update(self, e_plus: Tensor, e_minus: Tensor) -> str | None:
        """Add an iteration's two errors; at the end of a window, issue and return the warning, if any."""
        self._sums = self._sums.to(e_plus.device) + torch.stack([e_plus, e_minus]).detach().float()
        self._seen += 1
        if self._seen < self.window:
            return None
        plus, minus = (self._sums / self._seen).tolist()
        self._seen, self._sums = 0, torch.zeros(2)
        if minus > plus:
            return None
        warning = (
            f"over the last {self.window} iterations, the denoiser's error with swapped residuals (e_minus {minus:.4f})"
            f" was no larger than without (e_plus {plus:.4f}): it has found a shortcut or ignores the restored images. "
            "Keep --model.shuffle true, raise --model.margin, or lower --model.weight"
        )
        rank_zero_warn(warning)
        return warning
