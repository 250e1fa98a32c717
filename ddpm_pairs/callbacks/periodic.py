"""Bases of callbacks that evaluate the validation weights at regular intervals."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torchvision.utils import make_grid, save_image

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


class SampleRows(Periodic):
    """Base of callbacks that log a grid with one row per image of the first validation batch.

    Args:
        pictures: Largest number of rows; there are at most as many as images in a validation batch.
        every_n_steps: Minimum number of steps between two grids, which are logged in validation.

    Attributes:
        title: Name of the logged image.
    """

    title = "samples"

    def __init__(self, pictures: int = 6, every_n_steps: int = 1000) -> None:
        super().__init__(every_n_steps)
        self.pictures = pictures

    @abstractmethod
    def columns(self, module: L.LightningModule, batch: dict[str, Any]) -> list[Tensor]:
        """Return the columns of the grid, each (N, 3, H, W) in [0, 1].

        Args:
            module: The module, with the validation weights.
            batch: The first ``pictures`` rows of the batch.
        """

    def work(self, trainer: L.Trainer, module: L.LightningModule, batch: dict[str, Any]) -> None:
        """Log the grid."""
        log_image(trainer, self.title, self.grid(module, batch))

    @torch.no_grad()
    def grid(self, module: L.LightningModule, batch: dict[str, Any]) -> Tensor:
        """Return the grid as one image (3, H, W) in [0, 1]."""
        shown = {name: value[: self.pictures] for name, value in batch.items()}
        return rows_of(self.columns(module, shown))


def rows_of(columns: list[Tensor]) -> Tensor:
    """Return one image (3, H, W), a grid whose columns are (N, 3, H, W), with a white border around each."""
    rows = torch.stack(columns, dim=1).flatten(0, 1)
    return make_grid(rows, nrow=len(columns), padding=4, pad_value=1.0)


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
