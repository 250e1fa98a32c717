"""Grids of fixed pictures while the DDPM trains: what pairs would look like if training ended now."""

from pathlib import Path

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from ddpm_pairs.callbacks.periodic import Periodic, log_image
from ddpm_pairs.degradations import Degradation, by_name
from ddpm_pairs.degradations.walk import Sampling, synthesize
from ddpm_pairs.diffusion.module import DDPM
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.center_crops import center_crops, decoded
from ddpm_pairs.images.find import find_pictures
from ddpm_pairs.seeding import generator_for, seed_of


class SampleGrid(Periodic):
    """Logs a grid with one row a picture: HQ, initial LQ, then LQ at each t, under the weights of validation.

    The pictures, their degradations and their noise stay the same over the run. A logger with ``log_image`` (W&B) gets
    the grid as ``samples``; beside a CSV logger it is written as ``<logs>/samples/step_<number>.png``.

    Args:
        hq_dir: HQ pictures; the first ones are taken. ``None`` takes photographs that come with scikit-image.
        degradation: The start, as ``--model.degradation`` of ``predict`` takes it.
        scale: HQ sides over LQ sides; ``None`` uses the degradation's own, and 4 for a name.
        ts: Steps to walk back from; those beyond the training's ``t_max`` are left out.
        pictures: Rows.
        side: LQ pixels a side.
        every_n_steps: At the first validation after so many further steps.

    Raises:
        UserError: if ``hq_dir`` is no folder with pictures, or an unknown degradation is named.
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

    def work(self, trainer: L.Trainer, module: DDPM) -> None:
        """Log the grid."""
        log_image(trainer, "samples", self.grid(module))

    @torch.no_grad()
    def grid(self, module: DDPM) -> Tensor:
        """The grid as one picture (3, H, W) in [0, 1], LQ enlarged by repeating pixels."""
        denoiser = module.denoiser()
        hq = self.hq.to(module.device)
        initial = self.degradation.apply(hq, self.parameters)
        columns = [initial]
        for t in (t for t in self.ts if t <= denoiser.t_max):
            drawn = [{"t": t, **seeds} for seeds in self.seeds]
            columns.append(synthesize(denoiser, initial, drawn, Sampling()))
        enlarged = [F.interpolate(lq, size=hq.shape[2:], mode="nearest") for lq in columns]
        rows = torch.stack([hq, *enlarged], dim=1).flatten(0, 1)
        return make_grid(rows, nrow=len(columns) + 1, padding=4, pad_value=1.0)


def _fixed_pictures(hq_dir: str | None, count: int, side: int) -> Tensor:
    """Centre crops (N, 3, side, side), float32 in [0, 1], of the first pictures that are large enough."""
    if hq_dir is None:
        from skimage import data  # only here: importing it takes a moment

        candidates = (load() for load in (data.astronaut, data.coffee, data.chelsea, data.rocket))
    else:
        candidates = decoded(find_pictures(Path(hq_dir), "SampleGrid's hq_dir")[0])
    crops = center_crops(candidates, count, side)
    if not len(crops):
        raise UserError(f"SampleGrid found no picture of {side} px or more a side in {hq_dir}: give larger ones")
    return crops
