"""Schedules of the learning rate: warmup and cosine decay, or constant, then decayed linearly or halved."""

import math
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

LOWEST = 0.01
"""Share of the learning rate at the end of the decay."""


class WarmupDecay(LambdaLR):
    """Raise the learning rate linearly, and optionally let it decay along a half cosine to 1%.

    When a fit is resumed, the configured values count, not those of the checkpoint. If the decay has another length, it
    continues from the share that it had reached, so the learning rate does not jump.

    Args:
        optimizer: The optimizer; the learning rates of its groups are those after the warmup.
        warmup_steps: Steps of the warmup.
        total: Step at which the decay ends; ``None`` does not decay.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int, total: int | None) -> None:
        self.warmup_steps, self.total = warmup_steps, total
        self.decays_from, self.share = 0, 1.0  # the step at which the decay began, and the share there
        super().__init__(optimizer, self.factor)

    def factor(self, step: int) -> float:
        """Return the learning rate at a step as a share of the configured one."""
        return self._rise(step) * self._fall(step)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume at the step of a checkpoint, with the configured learning rates, warmup and decay."""
        configured = self.warmup_steps, self.total
        super().load_state_dict(state_dict)
        # From the rate itself, because checkpoints of earlier versions contain neither warmup nor decay.
        reached = self._last_lr[0] / self.base_lrs[0] / self._rise(self.last_epoch)
        self.warmup_steps, self.total = configured
        if self.total is not None and not math.isclose(reached, self._fall(self.last_epoch), rel_tol=1e-9):
            self.decays_from, self.share = self.last_epoch, reached
            rank_zero_warn(
                f"the decay of the learning rate was begun with another length: it continues from {reached:.3g} of "
                f"--model.learning_rate at step {self.last_epoch} to {LOWEST} at step {self.total}"
            )
        self.base_lrs = [group["initial_lr"] for group in self.optimizer.param_groups]
        self._last_lr = [base * self.factor(self.last_epoch) for base in self.base_lrs]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate

    def _rise(self, step: int) -> float:
        return min(1.0, (step + 1) / (self.warmup_steps + 1))

    def _fall(self, step: int) -> float:
        if self.total is None:
            return 1.0
        done = (step - self.decays_from) / max(self.total - self.decays_from, 1)
        cosine = math.cos(math.pi * min(max(done, 0.0), 1.0))
        return (self.share + LOWEST) / 2 + (self.share - LOWEST) / 2 * cosine


class LinearOrHalved(LambdaLR):
    """Keep the learning rate constant, then lower it linearly to 0, halve it at some steps, or both.

    The learning rate is a function of the step and the configured values alone; a checkpoint brings only the step.

    Args:
        optimizer: The optimizer; the learning rates of its groups are those at the start.
        decay_from: Step at which the linear decay begins; ``None`` does not decay.
        total: Step at which it ends.
        halve_at: Steps at which the learning rate is halved.
    """

    def __init__(self, optimizer: Optimizer, decay_from: int | None, total: int, halve_at: Sequence[int]) -> None:
        self.decay_from, self.total, self.halve_at = decay_from, total, tuple(halve_at)
        super().__init__(optimizer, self.factor)

    def factor(self, step: int) -> float:
        """Return the learning rate at a step as a share of the configured one."""
        halved = 0.5 ** sum(step >= one for one in self.halve_at)
        if self.decay_from is None:
            return halved
        left = (self.total - step) / max(self.total - self.decay_from, 1)
        return halved * min(max(left, 0.0), 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Return the step."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the step of a checkpoint."""
        self.last_epoch = state_dict["last_epoch"]
        self._last_lr = [base * self.factor(self.last_epoch) for base in self.base_lrs]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate
