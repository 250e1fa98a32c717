"""Images rendered with the codes of faces while ReDegNet trains."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from ddpm_pairs.callbacks.periodic import SampleRows
from ddpm_pairs.degradations.learned.redegnet.module import DegradationCodes

ENLARGED = 2
"""How many times pixels are repeated."""


class CodeSamples(SampleRows):
    """Log a grid with one row per face: HQ, real LQ, and LQ rendered with its code; natural HQ, and LQ rendered of it.

    Both are rendered with the code of the real LQ face, with the validation weights. A logger with ``log_image`` (W&B)
    gets the grid as ``samples``. For a CSV logger, it is written to ``<logs>/samples/step_<number>.png``.

    Args:
        pictures: Largest number of rows; there are at most as many as faces in a validation batch.
        every_n_steps: Minimum number of steps between two grids, which are logged in validation.
    """

    def columns(self, module: DegradationCodes, batch: dict[str, Any]) -> list[Tensor]:
        """Return HQ faces, real LQ, rendered LQ, natural HQ, and LQ rendered of it, with pixels repeated."""
        faces, natural = module.samples(batch)
        columns = [batch["face_hq"], batch["face_lq"], faces, batch["natural_hq"], natural]
        return [F.interpolate(one, scale_factor=ENLARGED) for one in columns]
