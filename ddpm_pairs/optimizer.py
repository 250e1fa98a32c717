"""What trainings share: Adam with a learning rate that may warm up and decay, and the end of a lost fit."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor


def adam(module: L.LightningModule, learning_rate: float, warmup_steps: int, cosine_decay: bool) -> dict[str, Any]:
    """What ``configure_optimizers`` returns for a module whose ``net`` is trained; betas are 0.9 and 0.99.

    Args:
        module: With a trainer.
        learning_rate: Step size.
        warmup_steps: Steps over which it rises linearly.
        cosine_decay: Let it fall along a half cosine to 1% at the trainer's ``max_steps``.

    Raises:
        ValueError: for a decay without ``max_steps``.
    """
    total = module.trainer.max_steps
    if cosine_decay and total < 1:
        raise ValueError("cosine_decay needs a length: set --trainer.max_steps")

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup_steps + 1))
        fall = 0.505 + 0.495 * math.cos(math.pi * min(step / total, 1)) if cosine_decay else 1.0
        return rise * fall

    fused = module.device.type == "cuda"
    optimizer = torch.optim.Adam(module.net.parameters(), lr=learning_rate, betas=(0.9, 0.99), fused=fused)
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
