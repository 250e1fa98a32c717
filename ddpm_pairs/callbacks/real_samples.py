"""Real LQ images, restored while a restorer adapts to them."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from ddpm_pairs.callbacks.periodic import SampleRows
from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.restorer import Restorer
from ddpm_pairs.run import Run


class RealSamples(SampleRows):
    """Log a grid with one row per real image: LQ, its first restoration, and the current one.

    The images are the first ones of validation, restored with the validation weights. The first restoration is that of
    the first grid since the run started or was resumed. Nobody has HQ of these images, so look for artifacts and
    invented detail. A logger with ``log_image`` (W&B) gets the grid as ``real``. For a CSV logger, it is written to
    ``<logs>/real/step_<number>.png``.

    Args:
        pictures: Largest number of rows; there are at most as many as images in a validation batch.
        every_n_steps: Minimum number of steps between two grids, which are logged in validation.
    """

    title = "real"

    def __init__(self, pictures: int = 6, every_n_steps: int = 1000) -> None:
        super().__init__(pictures, every_n_steps)
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

    def columns(self, module: Restorer, batch: dict[str, Any]) -> list[Tensor]:
        """Return LQ with its pixels repeated, its first restoration, and the current one."""
        restored = module.restore(batch["real"])
        if self._first is None:
            self._first = restored
        return [F.interpolate(batch["real"], size=restored.shape[2:], mode="nearest"), self._first, restored]
