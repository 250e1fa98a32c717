"""Pictures to the loggers of a Trainer."""

from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torchvision.utils import save_image


def log_picture(trainer: L.Trainer, name: str, picture: Tensor) -> None:
    """Give a picture to every logger that takes pictures, and lay it beside the numbers of a CSV logger.

    A logger with ``log_image`` (W&B) gets it under its name; beside a CSV logger it is written as
    ``<logs>/<name>/step_<number>.png``.

    Args:
        trainer: Whose loggers and step.
        name: What the picture is called.
        picture: (3, H, W), float32 in [0, 1].
    """
    step = trainer.global_step
    for logger in trainer.loggers:
        if hasattr(logger, "log_image"):
            logger.log_image(name, [picture.permute(1, 2, 0).cpu().numpy()], step=step)
        elif isinstance(logger, CSVLogger):
            folder = Path(logger.log_dir) / name
            folder.mkdir(parents=True, exist_ok=True)
            save_image(picture, folder / f"step_{step:07d}.png")
