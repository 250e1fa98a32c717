"""How a fit goes beside its loss: the size of its gradients and its speed."""

import time
from typing import Any

import lightning as L
import torch
from torch.optim import Optimizer


class TrainingMonitor(L.Callback):
    """Logs ``train/gradient_norm`` and ``train/pictures_per_second`` whenever the Trainer logs (``log_every_n_steps``).

    The norm is the L2 norm of all gradients together, before they are clipped. The speed is that of all ranks together
    since the last time, waiting for data included and validation left out; a batch's pictures are its ``lq`` (or
    ``hq``, where there is no other). Between log steps nothing is computed, and nothing ever waits for the device by
    itself.
    """

    def __init__(self) -> None:
        self._pictures, self._seconds, self._since, self._step = 0, 0.0, 0.0, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._pictures, self._seconds, self._since, self._step = 0, 0.0, time.monotonic(), trainer.global_step

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Log the norm of the gradients as they came."""
        if (trainer.global_step + 1) % trainer.log_every_n_steps == 0:
            gradients = [one.grad for one in pl_module.parameters() if one.grad is not None]
            pl_module.log("train/gradient_norm", torch.nn.utils.get_total_norm(gradients))

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: dict[str, Any],
        batch_idx: int,
    ) -> None:
        """Count the pictures, and log the speed."""
        self._pictures += len(batch["lq"] if "lq" in batch else batch["hq"]) * trainer.world_size
        step, before = trainer.global_step, self._step
        self._step = step
        if step == before or step % trainer.log_every_n_steps:
            return
        now = time.monotonic()
        pl_module.log("train/pictures_per_second", self._pictures / (self._seconds + now - self._since))
        self._pictures, self._seconds, self._since = 0, 0.0, now

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self._seconds += time.monotonic() - self._since

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on."""
        self._since = time.monotonic()
