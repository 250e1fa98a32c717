"""Whether a discriminator still teaches the network that it judges."""

import math

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

UNDECIDED = math.log(2)
"""Loss of a discriminator that knows nothing, for either kind of picture."""


class DiscriminatorWatch:
    """Warns of a discriminator that has won, or that learns nothing.

    Args:
        window: Iterations over which it is judged; nothing waits for the device in between.
    """

    def __init__(self, window: int = 1000) -> None:
        self.window = window
        self._seen, self._sums = 0, torch.zeros(2)

    def update(self, loss: Tensor) -> str | None:
        """Add an iteration's ``discriminator_loss``; at the end of a window warn, and return what was said."""
        half = loss.detach().float() / 2
        self._sums = self._sums.to(half.device) + torch.stack([half, (half - UNDECIDED).abs()])
        self._seen += 1
        if self._seen < self.window:
            return None
        mean, distance = (self._sums / self._seen).tolist()
        self._seen, self._sums = 0, torch.zeros(2)
        said = None
        if mean < 0.01:
            said = (
                f"the discriminator's loss was {mean:.4f} a picture over the last {self.window} iterations: it tells "
                "all made pictures from real ones, and the generator has nothing to learn from it. Lower its learning "
                "rate, or raise r1_weight"
            )
        elif distance < 0.01:
            said = (
                f"the discriminator's loss stayed at {mean:.3f} a picture over the last {self.window} iterations "
                "(0.693 is a guess): it learns nothing. Raise its learning rate, or start it from a trained one with "
                "--model.discriminator_from"
            )
        if said is not None:
            rank_zero_warn(said)
        return said
