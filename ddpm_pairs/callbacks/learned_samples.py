"""Images made by a degradation while it is learned, next to real ones."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from ddpm_pairs.callbacks.periodic import Periodic, log_image
from ddpm_pairs.degradations.learned.generator import reduced
from ddpm_pairs.degradations.learned.module import DegradationGAN

ENLARGED = 3
"""How many times pixels are repeated."""


class LearnedSamples(Periodic):
    """Log a grid with one row per image: HQ reduced bicubically, the LQ made of it, and a real LQ image.

    The images are the first ones of validation, and LQ is made with the validation weights and the same random numbers
    during the whole run. The real LQ images show something else; compare their noise, sharpness, and compression. A
    logger with ``log_image`` (W&B) gets the grid as ``samples``. For a CSV logger, it is written to
    ``<logs>/samples/step_<number>.png``.

    Args:
        pictures: Largest number of rows; there are at most as many as images in a validation batch.
        every_n_steps: Minimum number of steps between two grids, which are logged in validation.
    """

    def __init__(self, pictures: int = 6, every_n_steps: int = 1000) -> None:
        super().__init__(every_n_steps)
        self.pictures = pictures

    def work(self, trainer: L.Trainer, module: DegradationGAN, batch: dict[str, Any]) -> None:
        """Log the grid."""
        log_image(trainer, "samples", self.grid(module, batch["hq"], batch["lq"]))

    @torch.no_grad()
    def grid(self, module: DegradationGAN, hq: Tensor, real: Tensor) -> Tensor:
        """Return the grid as one image (3, H, W) in [0, 1], with pixels repeated."""
        hq, real = hq[: self.pictures], real[: self.pictures]
        columns = [reduced(hq, module.net.scale), module.samples(hq), real]
        rows = torch.stack(columns, dim=1).flatten(0, 1)
        return make_grid(F.interpolate(rows, scale_factor=ENLARGED), nrow=len(columns), padding=4, pad_value=1.0)
