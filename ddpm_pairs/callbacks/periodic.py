"""Base of callbacks that evaluate the validation weights at regular intervals."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torchvision.utils import save_image

from ddpm_pairs.files import atomic_file


class Periodic(L.Callback):
    """Base of callbacks that work on rank 0, at the first validation after ``every_n_steps`` steps.

    Args:
        every_n_steps: Minimum number of steps between two calls of ``work``.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._last_step = 0

    @abstractmethod
    def work(self, trainer: L.Trainer, module: L.LightningModule, batch: Any) -> None:  # noqa: ANN401 - of the data
        """Do the periodic work; ``batch`` is the first one of the validation, on the module's device."""

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Work if it is due; during validation, the module contains the averaged weights."""
        step = trainer.global_step
        if trainer.sanity_checking or step - self._last_step < self.every_n_steps or not trainer.is_global_zero:
            return
        self._last_step = step
        self.work(trainer, pl_module, batch)

    def state_dict(self) -> dict[str, Any]:
        """Return the step of the last work."""
        return {"last_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step of the last work."""
        self._last_step = state_dict["last_step"]


def log_image(trainer: L.Trainer, name: str, image: Tensor) -> None:
    """Log an image to all loggers that support images.

    A logger with ``log_image`` (W&B) logs it under ``name``. For a CSV logger, it is saved as
    ``<logs>/<name>/step_<number>.png``.

    Args:
        trainer: Provides the loggers and the step.
        name: The image's name.
        image: (3, H, W), float32 in [0, 1].
    """
    step = trainer.global_step
    for logger in trainer.loggers:
        if hasattr(logger, "log_image"):
            logger.log_image(name, [image.permute(1, 2, 0).cpu().numpy()], step=step)
        elif isinstance(logger, CSVLogger):
            with atomic_file(Path(logger.log_dir) / name / f"step_{step:07d}.png", sync=False) as file:
                save_image(image, file, format="png")
