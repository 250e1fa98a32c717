"""Self-consistency: restored real LQ, degraded again, must return to the real LQ."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.adaptation.base import Adaptation
from ddpm_pairs.restoration.adaptation.consistency import Consistency, load_consistency
from ddpm_pairs.run import Run
from ddpm_pairs.training.steps import generators


class SelfConsistency(Adaptation):
    """Train a restorer on pairs and on real LQ: a restored real image, degraded again, must equal the real image.

    ``degraded_by`` is one of two models, both frozen:

    * A learned degradation (DSGAN, DASR, PDM, or the pools of RealSR) degrades the restored image. The error is the L1
      distance from the real LQ.
    * A DDPM of real LQ. The restored image is reduced bicubically to the size of LQ, and noised to step t, drawn
      uniformly from ``t_range``. The error is the L1 distance between the noise that the DDPM predicts and the noise
      that would lead back to the real LQ, weighted so that it is the distance between the real LQ and the clean image
      that the DDPM sees. The DDPM always runs in float32.

    Both errors are in units of [0, 1]. The noise of real LQ also has to return, so a large weight keeps noise in the
    restored image; a DDPM ignores noise that is weaker than that of step t. Random numbers depend on the seed, the
    step, and the position in the global batch.

    The model is read when a fit starts or resumes, and is part of no checkpoint, average, or export. Logged are
    ``train/pixel``, ``train/consistency`` (the error), and ``train/loss``.

    Args:
        net: The restorer, see ``Restorer``.
        degraded_by: The checkpoint or export of a learned degradation or of a DDPM, a diffusers folder, or the name of
            shipped weights, such as ``blind_camera``; needed for training only.
        t_range: Smallest and largest t for a DDPM.
        weight: Weight of the error; 0 trains on the pairs alone, as ``Regression`` does.
        loss: Pixel loss: ``l1``, ``charbonnier``, or ``mse``, see ``Regression``.
        learning_rate: Adam's step size.
        betas: Adam's.
        warmup_steps: Steps over which the learning rate rises linearly.
        cosine_decay: Let the learning rate decay along a half cosine to 1% at the trainer's ``max_steps``.
        init_from: Initialize the restorer from these weights; an RRDBNet may have another scale.
        tile: See ``Restorer``.
        overlap: See ``Restorer``.
        seed: Seed of everything random; the command line sets it to ``seed_everything``.

    Raises:
        UserError: If a value is out of range, or weights do not fit.
    """

    def __init__(
        self,
        net: nn.Module,
        degraded_by: str | None = None,
        t_range: tuple[int, int] = (50, 150),
        weight: float = 0.1,
        loss: Literal["l1", "charbonnier", "mse"] = "l1",
        learning_rate: float = 2e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        warmup_steps: int = 0,
        cosine_decay: bool = False,
        init_from: str | None = None,
        tile: int | None = 256,
        overlap: int = 32,
        seed: int = 0,
    ) -> None:
        if not 0 <= weight < math.inf:
            raise UserError(f"--model.weight: got {weight}; expected 0 or more")
        if not 1 <= t_range[0] <= t_range[1]:
            raise UserError(f"--model.t_range: got {list(t_range)}; expected the smallest and the largest t, from 1")
        super().__init__(
            net, loss, False, learning_rate, betas, warmup_steps, cosine_decay, init_from, tile, overlap, seed
        )
        self.degraded_by, self.t_range, self.weight = degraded_by, tuple(t_range), weight
        self.consistency: Consistency | None = None

    def needs(self) -> tuple[str, ...]:
        """Return the unpaired images in batches that the adaptation needs; none if the weight is 0."""
        return ("real",) if self.weight > 0 else ()

    def check_run(self, run: Run) -> None:
        """Load the frozen model, and check that it fits, besides the checks of ``Adaptation``."""
        super().check_run(run)
        if run.verb == "fit" and self.weight > 0:
            self.load()
            self.consistency.check(self.net.scale, getattr(run.data, "crop_size", None))

    def setup(self, stage: str) -> None:
        """Set up the network, and load the frozen model for a fit."""
        super().setup(stage)
        if stage == "fit" and self.weight > 0:
            self.load()

    def load(self) -> None:
        """Load the frozen model if it is not loaded yet.

        Raises:
            UserError: If there is no file, or it is not a model of LQ.
        """
        if self.consistency is not None:
            return
        if self.degraded_by is None:
            raise UserError(
                "--model.degraded_by: got none; expected a DDPM or a learned degradation, such as "
                "runs/ddpm_small/last.ckpt or runs/dsgan_small/last.ckpt"
            )
        self.consistency = load_consistency(self.degraded_by, self.t_range)

    def on_fit_start(self) -> None:
        """Move the frozen model to the device."""
        if self.consistency is not None:
            self.consistency.to(self.device)

    def adaptation_loss(self, batch: dict[str, Any], restored: Tensor, draw: int) -> Tensor | None:
        """Compute the weighted error of the real images.

        Args:
            batch: A training batch.
            restored: Restored ``batch["lq"]``, (N, 3, H, W), which is not used.
            draw: Number of the batch, which seeds the random numbers.

        Returns:
            A scalar; ``None`` if the weight is 0.
        """
        if self.weight == 0:
            return None
        real = batch["real"]
        restored_real = self.net(real).float()
        rows = generators(self, "self-consistency", len(real), self.seed, draw)
        with torch.autocast(self.device.type, enabled=False):
            error = self.consistency.error(restored_real, real.float(), rows)
        self.log("train/consistency", error.detach(), prog_bar=True)
        return self.weight * error
