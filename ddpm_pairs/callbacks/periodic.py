"""Callbacks that do something every so many steps, under the weights of validation."""

from abc import abstractmethod
from typing import Any

import lightning as L


class AtValidation(L.Callback):
    """Does its work at the first validation after so many further steps, on rank 0.

    Args:
        every_n_steps: How many.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._last_step = 0

    @abstractmethod
    def work(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """What is due now."""

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Work if it is due; between validation batches the averaged weights are in place."""
        step = trainer.global_step
        if trainer.sanity_checking or step - self._last_step < self.every_n_steps or not trainer.is_global_zero:
            return
        self._last_step = step
        self.work(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """When the work was last done."""
        return {"last_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from there."""
        self._last_step = state_dict["last_step"]
