"""Images rendered with the codes of faces while ReDegNet trains."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from ddpm_pairs.callbacks.periodic import Periodic, log_image
from ddpm_pairs.degradations.learned.redegnet.module import DegradationCodes

ENLARGED = 2
"""How many times pixels are repeated."""


class CodeSamples(Periodic):
    """Log a grid with one row per face: HQ, real LQ, and LQ rendered with its code; natural HQ, and LQ rendered of it.

    Both are rendered with the code of the real LQ face, with the validation weights. A logger with ``log_image`` (W&B)
    gets the grid as ``samples``. For a CSV logger, it is written to ``<logs>/samples/step_<number>.png``.

    Args:
        pictures: Largest number of rows; there are at most as many as faces in a validation batch.
        every_n_steps: Minimum number of steps between two grids, which are logged in validation.
    """

    def __init__(self, pictures: int = 6, every_n_steps: int = 1000) -> None:
        super().__init__(every_n_steps)
        self.pictures = pictures

    def work(self, trainer: L.Trainer, module: DegradationCodes, batch: dict[str, Any]) -> None:
        """Log the grid."""
        log_image(trainer, "samples", self.grid(module, batch))

    @torch.no_grad()
    def grid(self, module: DegradationCodes, batch: dict[str, Any]) -> Tensor:
        """Return the grid as one image (3, H, W) in [0, 1], with pixels repeated."""
        shown = {name: batch[name][: self.pictures] for name in ("face_hq", "face_lq", "natural_hq")}
        faces, natural = module.samples(shown)
        columns = [shown["face_hq"], shown["face_lq"], faces, shown["natural_hq"], natural]
        rows = torch.stack(columns, dim=1).flatten(0, 1)
        return make_grid(F.interpolate(rows, scale_factor=ENLARGED), nrow=len(columns), padding=4, pad_value=1.0)
