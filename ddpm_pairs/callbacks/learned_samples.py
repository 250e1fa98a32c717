"""Images made by a degradation while it is learned, next to real ones."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from ddpm_pairs.callbacks.periodic import SampleRows
from ddpm_pairs.degradations.learned.generator import reduced
from ddpm_pairs.degradations.learned.module import DegradationGAN

ENLARGED = 3
"""How many times pixels are repeated."""


class LearnedSamples(SampleRows):
    """Log a grid with one row per image: HQ reduced bicubically, the LQ made of it, and a real LQ image.

    The images are the first ones of validation, and LQ is made with the validation weights and the same random numbers
    during the whole run. The real LQ images show something else; compare their noise, sharpness, and compression. A
    logger with ``log_image`` (W&B) gets the grid as ``samples``. For a CSV logger, it is written to
    ``<logs>/samples/step_<number>.png``.

    Args:
        pictures: Largest number of rows; there are at most as many as images in a validation batch.
        every_n_steps: Minimum number of steps between two grids, which are logged in validation.
    """

    def columns(self, module: DegradationGAN, batch: dict[str, Any]) -> list[Tensor]:
        """Return reduced HQ, the LQ made of it, and real LQ, with pixels repeated."""
        columns = [reduced(batch["hq"], module.net.scale), module.samples(batch["hq"]), batch["lq"]]
        return [F.interpolate(one, scale_factor=ENLARGED) for one in columns]
