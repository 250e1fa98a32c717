"""Grids of fixed images while the DDPM trains: what pairs would look like if training ended now."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F

from ddpm_pairs.callbacks.periodic import Periodic, log_image, rows_of
from ddpm_pairs.degradations import Degradation, by_name
from ddpm_pairs.degradations.walk import Sampling, synthesize
from ddpm_pairs.diffusion.module import DDPM
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.center_crops import center_crops, decoded
from ddpm_pairs.images.find import find_pictures
from ddpm_pairs.tensors import generator_for, seed_of


class SampleGrid(Periodic):
    """Log a grid with one row per image: HQ, initial LQ, then LQ at each t, made with the validation weights.

    The images, their degradations and their noise are the same during the whole run. A logger with ``log_image`` (W&B)
    gets the grid as ``samples``. For a CSV logger, it is written to ``<logs>/samples/step_<number>.png``.

    Args:
        hq_dir: Folder of HQ images, of which the first ones are used; ``None`` uses photographs from scikit-image.
        degradation: The start, as for ``--model.degradation`` of ``predict``.
        scale: HQ sides over LQ sides; ``None`` uses the degradation's own scale, or 4 if it is given by name.
        ts: Steps to which the initial LQ is noised; those above the ``t_max`` of training are skipped.
        pictures: Number of images, one per row.
        side: Side of LQ in pixels.
        every_n_steps: Minimum number of steps between two grids, which are logged in validation.

    Raises:
        UserError: If ``hq_dir`` is not a folder that contains large enough images, or the degradation is unknown.
    """

    def __init__(
        self,
        hq_dir: str | None = None,
        degradation: Degradation | str = "real_esrgan",
        scale: int | None = None,
        ts: tuple[int, ...] = (50, 100, 150, 200, 250),
        pictures: int = 4,
        side: int = 64,
        every_n_steps: int = 1000,
    ) -> None:
        super().__init__(every_n_steps)
        self.degradation = by_name(degradation, scale)
        scale = self.degradation.scale
        self.ts = tuple(ts)
        self.hq = _fixed_pictures(hq_dir, pictures, side * scale)
        keys = [str(n) for n in range(len(self.hq))]
        self.parameters = [self.degradation.draw(generator_for(0, key, "degradation")) for key in keys]
        self.seeds = [{name: seed_of(0, key, name) for name in ("noise_seed", "steps_seed")} for key in keys]

    def work(self, trainer: L.Trainer, module: DDPM, batch: Any) -> None:  # noqa: ANN401 - the base
        """Log the grid."""
        log_image(trainer, "samples", self.grid(module))

    @torch.no_grad()
    def grid(self, module: DDPM) -> Tensor:
        """Return the grid as one image (3, H, W) in [0, 1], with LQ enlarged by repeating pixels."""
        denoiser = module.denoiser()
        hq = self.hq.to(module.device)
        initial = self.degradation.apply(hq, self.parameters)
        columns = [initial]
        for t in (t for t in self.ts if t <= denoiser.t_max):
            drawn = [{"t": t, **seeds} for seeds in self.seeds]
            columns.append(synthesize(denoiser, initial, drawn, Sampling()))
        enlarged = [F.interpolate(lq, size=hq.shape[2:], mode="nearest") for lq in columns]
        return rows_of([hq, *enlarged])


def _fixed_pictures(hq_dir: str | None, count: int, side: int) -> Tensor:
    """Cut center crops (N, 3, side, side), float32 in [0, 1], from the first images that are large enough."""
    if hq_dir is None:
        from skimage import data  # imported here because it takes a moment

        candidates = (load() for load in (data.astronaut, data.coffee, data.chelsea, data.rocket))
    else:
        candidates = decoded(find_pictures(Path(hq_dir), "SampleGrid.hq_dir")[0])
    crops = center_crops(candidates, count, side)
    if not len(crops):
        raise UserError(f"SampleGrid.hq_dir: no images of {side} px or more per side in {hq_dir}; add larger images")
    return crops
