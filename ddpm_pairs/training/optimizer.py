"""What trainings share: Adam with a learning rate that may warm up and decay, and the end of a lost fit."""

import math
from collections.abc import Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor

from ddpm_pairs.errors import UserError


class Adam(torch.optim.Adam):
    """Torch's Adam with its fused kernel made safe for mixed precision and for checkpoints from elsewhere.

    The kernel offers to unscale gradients by itself, and Lightning then refuses to clip them; here the offer is taken
    back. It walks through weights and state in the order of memory, and a checkpoint may come from a device where the
    weights lay otherwise, which is an error on a GPU and gives wrong numbers on a CPU; a loaded state takes the layout
    of the weights.
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


def adam(module: L.LightningModule, learning_rate: float, warmup_steps: int, cosine_decay: bool) -> dict[str, Any]:
    """What ``configure_optimizers`` returns for a module whose ``net`` is trained; betas are 0.9 and 0.99.

    Args:
        module: With a trainer.
        learning_rate: Step size.
        warmup_steps: Steps over which it rises linearly.
        cosine_decay: Let it fall along a half cosine to 1% at the trainer's ``max_steps``.

    Raises:
        UserError: for a decay without ``max_steps``.
    """
    total = module.trainer.max_steps
    if cosine_decay and total < 1:
        raise UserError("cosine_decay needs a length: set --trainer.max_steps")

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup_steps + 1))
        fall = 0.505 + 0.495 * math.cos(math.pi * min(step / total, 1)) if cosine_decay else 1.0
        return rise * fall

    optimizer = Adam(module.net.parameters(), lr=learning_rate, betas=(0.9, 0.99), fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def check_finite(loss: Tensor, module: L.LightningModule, remedy: str, step: int | None = None) -> None:
    """Stop a fit that is lost.

    Args:
        loss: The loss, one number.
        module: What is trained.
        remedy: What to go on with, for the text.
        step: Where it happened; ``None`` for the trainer's step.

    Raises:
        FloatingPointError: if the loss is no number.
    """
    if not torch.isfinite(loss):
        step = module.trainer.global_step if step is None else step
        raise FloatingPointError(
            f"the training loss became {loss.item()} at step {step}: go on from last.ckpt with {remedy}"
        )
