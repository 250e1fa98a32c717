"""Exponential moving average of the weights, which validation and checkpoints use."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ddpm_pairs.errors import UserError


class EMA(WeightAveraging):
    """Maintain an exponential moving average, use it in validation, and save it as the checkpoint's weights.

    The decay warms up as 1 - (1 + step)^(-2/3) until it reaches ``decay``. For a module with ``new_losses`` and
    ``add_losses``, such as ``DDPM``, the validation loss of the raw weights is also logged, as ``val_raw/loss``.

    Args:
        decay: Weight of the old average at each update, 0 or more and less than 1.
        every_n_steps: Steps between updates.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(self, decay: float = 0.995, every_n_steps: int = 10) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"EMA.decay: got {decay}; expected 0 or more and less than 1")
        if every_n_steps < 1:
            raise UserError(f"EMA.every_n_steps: got {every_n_steps}; expected 1 or more")
        self.decay, self.every_n_steps = decay, every_n_steps
        self._swapped = False
        self._raw_losses: Any = None
        super().__init__(multi_avg_fn=self._average)

    def _average(self, averaged: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
        step = int(updates) * self.every_n_steps
        decay = min(self.decay, 1 - (1 + step) ** (-2 / 3))
        get_ema_multi_avg_fn(decay)(averaged, current, updates)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Update after every ``every_n_steps``-th optimizer step."""
        return step_idx is not None and (step_idx + 1) % self.every_n_steps == 0

    def _swap_models(self, pl_module: L.LightningModule) -> None:
        super()._swap_models(pl_module)
        self._swapped = not self._swapped

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the average the same memory layout as the weights, which makes averaging fast."""
        for average, current in zip(self._average_model.module.parameters(), pl_module.parameters(), strict=True):
            if average.stride() != current.stride():
                average.data = torch.empty_like(current.data).copy_(average.data)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Swap the average into the module."""
        super().on_validation_epoch_start(trainer, pl_module)
        self._raw_losses = None
        if self._average_model is not None and hasattr(pl_module, "add_losses"):
            self._average_model.eval()  # after the swap, it contains the raw weights
            self._raw_losses = pl_module.new_losses()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Evaluate the raw weights on the same batch, t and noise."""
        if self._raw_losses is not None:
            with trainer.precision_plugin.val_step_context():
                pl_module.add_losses(self._raw_losses, self._average_model.module.net, batch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the raw weights' losses and swap them back."""
        if self._raw_losses is not None:
            means = self._raw_losses.compute(trainer)
            pl_module.log_dict({f"val_raw/{name}": value for name, value in means.items()})
        super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the raw weights in place for the last checkpoint, which contains both."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Copy the average to the module, after everything is saved."""
        self._copy_average_to_current(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Put the raw weights back if validation was interrupted, before anything is saved."""
        if self._swapped:
            self._swap_models(pl_module)
