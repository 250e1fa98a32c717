"""Log the gradient norm and the speed of a fit."""

import time
from typing import Any

import lightning as L
import torch
from torch.optim import Optimizer


class TrainingMonitor(L.Callback):
    """Log ``train/gradient_norm`` and ``train/pictures_per_second`` every ``log_every_n_steps`` of the Trainer.

    The norm is the L2 norm of all gradients together, before clipping. The speed is that of all ranks together since it
    was last logged; it includes waiting for data and excludes validation. The images of a batch are its ``lq``, or its
    ``hq`` if there is no ``lq``. Between log steps no norm is computed, and the callback itself never synchronizes with
    the device.
    """

    def __init__(self) -> None:
        self._pictures, self._seconds, self._since, self._step = 0, 0.0, 0.0, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._pictures, self._seconds, self._since, self._step = 0, 0.0, time.monotonic(), trainer.global_step

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Log the norm of the unclipped gradients."""
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
        """Count the images, and log the speed if it is due."""
        self._pictures += len(next(iter(batch.values()))) * trainer.world_size
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
        """Restart the clock."""
        self._since = time.monotonic()
