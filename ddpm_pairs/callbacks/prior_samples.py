"""Pictures that a GAN prior makes while it trains."""

from typing import Any

import lightning as L
from torchvision.utils import make_grid

from ddpm_pairs.callbacks.picture_log import log_picture


class PriorSamples(L.Callback):
    """Logs a grid of made pictures, under the weights of validation; their codes and noise stay the same over the run.

    Args:
        pictures: How many.
        every_n_steps: At the first validation after so many further steps.
    """

    def __init__(self, pictures: int = 16, every_n_steps: int = 1000) -> None:
        self.pictures, self.every_n_steps = pictures, every_n_steps
        self._last_step = 0

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Make the grid if it is due; between validation batches the averaged weights are in place."""
        step = trainer.global_step
        if trainer.sanity_checking or step - self._last_step < self.every_n_steps:
            return
        self._last_step = step
        if trainer.is_global_zero:
            columns = max(1, round(self.pictures**0.5))
            log_picture(trainer, "samples", make_grid(pl_module.samples(self.pictures), nrow=columns, padding=2))

    def state_dict(self) -> dict[str, Any]:
        """When the last grid was made."""
        return {"last_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from there."""
        self._last_step = state_dict["last_step"]
