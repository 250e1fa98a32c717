"""Train a restorer on generated and real LQ, as DASR does: pixels of more realistic LQ weigh more."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_pairs.degradations.learned.discriminators import PatchDiscriminator
from ddpm_pairs.degradations.ops.bands import box_low, gaussian_low
from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.adversarial import Adversarial
from ddpm_pairs.restoration.initial_weights import start_discriminator
from ddpm_pairs.run import Run


class DomainWeighted(Adversarial):
    """Train a restorer with DASR's domain-distance weights (Wei, Gu et al. 2021, arXiv 2004.01178).

    Batches are those of ``AdaptationImages``: pairs ``hq`` and ``lq`` with generated LQ, and as many real LQ images,
    ``real``. The pairs give the pixel and perceptual losses. The L1 loss weighs each pixel by how real the
    discriminator of the generator's fit finds the LQ there, see ``domain_weights``. The discriminator trained here
    compares restored real LQ with HQ of other content.

    The weights are computed again for each batch, from ``domain_from``, which is read when a fit starts or resumes and
    is part of no checkpoint.

    Args:
        net: The restorer, see ``Restorer``.
        discriminator: See ``Adversarial``.
        domain: The discriminator of the generator's fit, with the settings of that fit.
        domain_from: The checkpoint of that fit, such as ``runs/dasr/last.ckpt``; needed for training only.
        pixel_weight: Weight of the L1 loss with domain-distance weights.
        low_weight: Weight of the L1 loss of low frequencies, a Gaussian average of 9x9; it has no weights per pixel.
        perceptual: See ``Adversarial``.
        perceptual_weight: Weight of the perceptual loss.
        adversarial_loss: See ``Adversarial``.
        adversarial_weight: Weight of the adversarial loss.
        gradient_penalty: See ``Adversarial``.
        learning_rate: Adam's step size for the network.
        discriminator_learning_rate: Step size for the discriminator; ``None`` takes ``learning_rate``.
        halve_at: Steps at which all learning rates are halved.
        betas: Adam's, for both networks.
        gradient_clip: Largest L2 norm of each network's gradients; ``None`` does not clip.
        init_from: Initialize the network from these weights of a restorer.
        discriminator_from: Initialize the discriminator from a checkpoint of ``DomainWeighted`` or ``Adversarial``.
        tile: See ``Restorer``.
        overlap: See ``Restorer``.
        seed: Seed of everything random; the command line sets it to ``seed_everything``.

    Raises:
        UserError: If a value is out of range, or weights do not fit.
    """

    def __init__(
        self,
        net: nn.Module,
        discriminator: nn.Module,
        domain: PatchDiscriminator,
        domain_from: str | None = None,
        pixel_weight: float = 1.0,
        low_weight: float = 1.0,
        perceptual: nn.Module | None = None,
        perceptual_weight: float = 1.0,
        adversarial_loss: Literal["logistic", "least_squares", "relativistic", "wasserstein"] = "logistic",
        adversarial_weight: float = 1e-4,
        gradient_penalty: float = 0.0,
        learning_rate: float = 1e-5,
        discriminator_learning_rate: float | None = None,
        halve_at: tuple[int, ...] = (),
        betas: tuple[float, float] = (0.9, 0.999),
        gradient_clip: float | None = None,
        init_from: str | None = None,
        discriminator_from: str | None = None,
        tile: int | None = 256,
        overlap: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(
            net,
            discriminator,
            pixel_weight=pixel_weight,
            perceptual=perceptual,
            perceptual_weight=perceptual_weight,
            adversarial_loss=adversarial_loss,
            adversarial_weight=adversarial_weight,
            gradient_penalty=gradient_penalty,
            learning_rate=learning_rate,
            discriminator_learning_rate=discriminator_learning_rate,
            halve_at=halve_at,
            betas=betas,
            gradient_clip=gradient_clip,
            init_from=init_from,
            discriminator_from=discriminator_from,
            tile=tile,
            overlap=overlap,
            seed=seed,
        )
        self.low_weight, self.domain_from = low_weight, domain_from
        self._domain = [domain.eval().requires_grad_(False)]  # a plain list, so that torch does not register it
        self._loaded = False

    def check_run(self, run: Run) -> None:
        """Check the data of a run, and load the domain's discriminator; see ``load``.

        Raises:
            UserError: If the data has no real LQ, or does not fit.
        """
        super().check_run(run)
        if run.verb != "fit":
            return
        if "real" not in getattr(run.data, "unpaired_dirs", ()):
            raise UserError(
                f"--data: got {type(run.data).__name__}; expected AdaptationImages, or a DataModule of your own whose "
                "`unpaired_dirs` and batches contain `real`"
            )
        multiple = self._domain[0].multiple * self.net.scale
        if (side := getattr(run.data, "crop_size", multiple)) % multiple:
            raise UserError(
                f"--data.crop_size: got {side}; expected a multiple of {multiple}, so that --model.domain takes the LQ"
            )
        self.load()

    def setup(self, stage: str) -> None:
        """Set up the networks, as in ``Adversarial``, and load the domain's discriminator for a fit."""
        super().setup(stage)
        if stage == "fit":
            self.load()

    def load(self) -> None:
        """Load the weights of the domain's discriminator if they are not loaded yet.

        Raises:
            UserError: If there is no file, or its weights do not fit.
        """
        if self._loaded:
            return
        if self.domain_from is None:
            raise UserError(
                "--model.domain_from: got none; expected the checkpoint of a fit with dasr.yaml, such as "
                "runs/dasr/last.ckpt"
            )
        start_discriminator(self._domain[0], self.domain_from, "domain_from")
        self._loaded = True

    def restore_batch(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Restore the generated LQ, for the losses against HQ, and the real LQ, for the discriminator."""
        lq, real = batch["lq"], batch["real"]
        return self.net(torch.cat([lq, real])).split([len(lq), len(real)])

    def pixel_losses(self, batch: dict[str, Any], restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the L1 loss with domain-distance weights, and that of the low frequencies."""
        weights = self.weights_of(batch["lq"])
        self.log("train/domain_weight", weights.mean())
        pixel = (weights * (restored - target).abs()).mean()
        low = F.l1_loss(gaussian_low(restored), gaussian_low(target))
        return {"pixel": self.pixel_weight * pixel, "low": self.low_weight * low}

    @torch.no_grad()
    def weights_of(self, lq: Tensor) -> Tensor:
        """Return the weights (N, 1, H, W) of the HQ pixels of generated LQ (N, 3, H / scale, W / scale)."""
        domain = self._domain[0].to(lq.device)
        with torch.autocast(lq.device.type, enabled=False):
            return domain_weights(domain(lq.float()), domain.radius, domain.multiple * self.net.scale)


def domain_weights(logits: Tensor, radius: int, factor: int) -> Tensor:
    """Turn the logits of patches into DASR's domain-distance map.

    A pixel's weight is the mean probability of being real of all patches that contain it. At the border, these are
    fewer patches. Patches are squares; where a discriminator pads its input, they are counted without the padding.

    Args:
        logits: (N, 1, h, w), of the patch around each position.
        radius: Radius of the patches, in positions.
        factor: Pixels of the map per position and direction.

    Returns:
        (N, 1, h * factor, w * factor) in [0, 1]. All pixels of a position have the same weight.
    """
    means = box_low(logits.sigmoid(), 2 * radius + 1)
    return F.interpolate(means, scale_factor=factor, mode="nearest")
