"""Real LQ images, restored while a restorer adapts to them."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from ddpm_pairs.callbacks.periodic import Periodic, log_image
from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.restorer import Restorer
from ddpm_pairs.run import Run


class RealSamples(Periodic):
    """Log a grid with one row per real image: LQ, its first restoration, and the current one.

    The images are the first ones of validation, restored with the validation weights. The first restoration is that of
    the first grid since the run started or was resumed. Nobody has HQ of these images, so look for artifacts and
    invented detail. A logger with ``log_image`` (W&B) gets the grid as ``real``. For a CSV logger, it is written to
    ``<logs>/real/step_<number>.png``.

    Args:
        pictures: Largest number of rows; there are at most as many as images in a validation batch.
        every_n_steps: Minimum number of steps between two grids, which are logged in validation.
    """

    def __init__(self, pictures: int = 6, every_n_steps: int = 1000) -> None:
        super().__init__(every_n_steps)
        self.pictures = pictures
        self._first: Tensor | None = None

    def check_run(self, run: Run) -> None:
        """Check that the data has real images.

        Raises:
            UserError: If it has none.
        """
        if run.verb == "fit" and "real" not in getattr(run.data, "unpaired_dirs", ()):
            raise UserError(
                "RealSamples: the data has no real images; use AdaptationImages with --data.lq_dir, or remove the "
                "callback"
            )

    def work(self, trainer: L.Trainer, module: Restorer, batch: dict[str, Any]) -> None:
        """Log the grid."""
        log_image(trainer, "real", self.grid(module, batch["real"][: self.pictures]))

    @torch.no_grad()
    def grid(self, module: Restorer, real: Tensor) -> Tensor:
        """Return the grid as one image (3, H, W) in [0, 1], with the pixels of LQ repeated."""
        restored = module.restore(real)
        if self._first is None:
            self._first = restored
        columns = [F.interpolate(real, size=restored.shape[2:], mode="nearest"), self._first, restored]
        rows = torch.stack(columns, dim=1).flatten(0, 1)
        return make_grid(rows, nrow=len(columns), padding=4, pad_value=1.0)
