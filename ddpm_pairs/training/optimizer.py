"""Adam with optional warmup and cosine decay of the learning rate, and a check for a finite loss."""

import math
from collections.abc import Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor

from ddpm_pairs.errors import UserError


class Adam(torch.optim.Adam):
    """torch's Adam, with its fused kernel made safe for gradient clipping and for checkpoints from other devices.

    The fused kernel declares that it unscales gradients itself, in which case Lightning refuses to clip them; this
    class withdraws the declaration. The kernel also reads weights and state in memory order. A checkpoint from another
    device may contain state in another memory layout, which fails on a GPU and gives wrong numbers on a CPU. A loaded
    state is therefore copied into the layout of the weights.
    """

    def __init__(self, parameters: Iterable[Any], **options: object) -> None:
        super().__init__(parameters, **options)
        self._step_supports_amp_scaling = False

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; see ``torch.optim.Optimizer.load_state_dict``."""
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            for name, value in state.items():
                if value.shape == parameter.shape and value.stride() != parameter.stride():
                    state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def adam(
    parameters: Iterable[Any], trainer: L.Trainer, learning_rate: float, warmup_steps: int, cosine_decay: bool
) -> dict[str, Any]:
    """Build Adam with betas 0.9 and 0.99 and its learning-rate schedule, in the form for ``configure_optimizers``.

    Args:
        parameters: The trained parameters.
        trainer: The Trainer; its ``max_steps`` is the length of the decay.
        learning_rate: Adam's step size.
        warmup_steps: Steps of linear warmup.
        cosine_decay: Whether to decay the learning rate along a half cosine, to 1% at ``max_steps``.

    Raises:
        UserError: If ``cosine_decay`` is set without ``max_steps``.
    """
    total = trainer.max_steps
    if cosine_decay and total < 1:
        raise UserError("--model.cosine_decay needs --trainer.max_steps, the length of the decay")

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup_steps + 1))
        fall = 0.505 + 0.495 * math.cos(math.pi * min(step / total, 1)) if cosine_decay else 1.0
        return rise * fall

    optimizer = Adam(parameters, lr=learning_rate, betas=(0.9, 0.99), fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def check_finite(loss: Tensor, module: L.LightningModule, remedy: str, step: int | None = None) -> None:
    """Stop a fit whose loss is not finite.

    Args:
        loss: The loss, a scalar.
        module: The module being trained.
        remedy: The change to make before resuming, for the message.
        step: The current step; ``None`` takes it from the Trainer.

    Raises:
        UserError: If the loss is infinite or NaN.
    """
    if not torch.isfinite(loss):
        step = module.trainer.global_step if step is None else step
        raise UserError(f"the training loss became {loss.item()} at step {step}; resume from last.ckpt with {remedy}")
