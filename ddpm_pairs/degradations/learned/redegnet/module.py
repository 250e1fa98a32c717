"""Train ReDegNet: learn to read the code of a degradation from pairs of faces, and to render it on other images."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_pairs.degradations.learned.files import describe
from ddpm_pairs.degradations.learned.redegnet.discriminator import SynD
from ddpm_pairs.degradations.learned.redegnet.losses import disentangling, same_degradation
from ddpm_pairs.degradations.learned.redegnet.networks import ReDegNet
from ddpm_pairs.degradations.learned.redegnet.reader import KIND
from ddpm_pairs.errors import UserError
from ddpm_pairs.metrics.texture import band_power, power_gap_db
from ddpm_pairs.run import Run
from ddpm_pairs.training.gan import AdversarialSteps
from ddpm_pairs.training.learning_rate import LinearOrHalved
from ddpm_pairs.training.losses.competition import Hinge
from ddpm_pairs.training.optimizer import check_positive, check_weights, check_weights_type
from ddpm_pairs.training.steps import check_precision, generators

IMAGES = ("face_hq", "face_lq", "face_syn_lq", "natural_hq", "natural_syn_lq")
"""The images of a batch."""


class Codes(NamedTuple):
    """Codes (N, C) of a batch.

    Attributes:
        real: Of the real LQ faces.
        face: Of the synthetic LQ faces.
        natural: Of the natural LQ images with the same degradations as the synthetic LQ faces.
    """

    real: Tensor
    face: Tensor
    natural: Tensor


class DegradationCodes(L.LightningModule):
    """Train ReDegNet (Li et al. 2022, arXiv 2210.00752) on pairs of faces and on natural HQ images.

    Batches are dicts of images (N, 3, S, S), float32 in [0, 1], as from ``FacePairs``: ``face_hq`` with its real
    ``face_lq``, and ``face_syn_lq`` and ``natural_syn_lq`` of ``natural_hq``, which have the same random degradation.
    DegNet reads a code from each of the three pairs. SynNet renders the real LQ face from the code of its own pair, and
    the two synthetic ones mostly from each other's codes, which are then free of content. In each iteration, both
    networks take a step against the current discriminator, then the discriminator takes one on the real LQ faces.
    Lightning's counters count iterations. The released code has one Adam per network; with equal learning rates and no
    clipping, the one Adam here takes the same steps.

    ``ddpm-pairs bank`` makes a degradation of a checkpoint. Validation logs ``val/pixel``, the L1 distance of rendered
    real LQ faces; ``val/crossed_pixel``, that of natural LQ rendered with the codes of faces; ``val/power_gap``, the
    mean over octaves of how far their power is from that of the true LQ, in dB; and ``val/code_ratio``, the distance of
    codes of the same degradation over that of different ones, which is 0 for perfect codes and 1 for useless ones.

    Args:
        net: DegNet and SynNet.
        discriminator: SynD.
        perceptual: Its method ``with_style(made, target)`` returns the perceptual and the style loss of images in
            [0, 1]; ``None`` turns both off.
        pixel_weight: Weight of the L1 loss of all three rendered images, on [-1, 1].
        perceptual_weight: Weight of the perceptual loss.
        style_weight: Weight of the style loss; 160 in the released code, which divides by 3 once more than it averages.
        same_weight: Weight of the distance of codes of the same degradation.
        disentangling_weight: Weight of the loss that separates codes of the same face; see ``disentangling``.
        adversarial_weight: Weight of the adversarial loss, a hinge loss.
        crossing: Probability that a synthetic image is rendered with the code of the other one of its row.
        learning_rate: Adam's step size, for all networks.
        halve_at: Steps at which the learning rates are halved.
        betas: Adam's.
        gradient_clip: Largest L2 norm of the gradients, for both networks together and for the discriminator; ``None``
            does not clip.
        seed: Seed of everything random; the command line sets it to ``seed_everything``.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(
        self,
        net: ReDegNet,
        discriminator: SynD,
        perceptual: nn.Module | None = None,
        pixel_weight: float = 10.0,
        perceptual_weight: float = 0.2,
        style_weight: float = 53.3,
        same_weight: float = 100.0,
        disentangling_weight: float = 1.0,
        adversarial_weight: float = 0.01,
        crossing: float = 0.8,
        learning_rate: float = 1e-4,
        halve_at: tuple[int, ...] = (),
        betas: tuple[float, float] = (0.9, 0.999),
        gradient_clip: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive("--model.learning_rate", learning_rate)
        weights = {
            "pixel": pixel_weight,
            "perceptual": perceptual_weight if perceptual is not None else 0.0,
            "style": style_weight if perceptual is not None else 0.0,
            "same": same_weight,
            "disentangling": disentangling_weight,
            "adversarial": adversarial_weight,
        }
        check_weights({f"{name}_weight": weight for name, weight in weights.items()})
        if not 0 <= crossing <= 1:
            raise UserError(f"--model.crossing: got {crossing}; expected 0 to 1")
        self.automatic_optimization = False
        self.net, self.discriminator, self.perceptual = net, discriminator, perceptual
        self.weights, self.crossing = weights, crossing
        self.learning_rate, self.halve_at, self.seed = learning_rate, tuple(halve_at), seed
        self.steps = AdversarialSteps(0.0, 1, 0.0, 1, betas, gradient_clip, seed, Hinge())
        self._validated: list[Tensor] = []
        self._codes: list[Codes] = []

    def check_run(self, run: Run) -> None:
        """Check that the networks fit the data.

        Raises:
            UserError: If they do not fit, or the precision is not supported.
        """
        check_weights_type(run.trainer)
        if run.verb not in ("fit", "validate"):
            raise UserError(
                f"`{run.verb}` needs a bank of codes; make one with `ddpm-pairs bank` and use it as a degradation"
            )
        if run.verb == "fit":
            check_precision(run.trainer)
        side = getattr(run.data, "crop_size", self.net.size)
        if side != self.net.size:
            raise UserError(f"--data.crop_size: got {side}; expected {self.net.size}, the size of --model.net")

    def configure_optimizers(self) -> list[dict[str, Any]]:
        """Return one Adam with its schedule for DegNet and SynNet, and one for the discriminator."""
        groups = [{"params": list(self.net.parameters()), "lr": self.learning_rate}]
        fused = self.device.type == "cuda"
        optimizers = self.steps.optimizers(groups, self.discriminator, self.learning_rate, fused)
        return [{"optimizer": one, "lr_scheduler": LinearOrHalved(one, None, 0, self.halve_at)} for one in optimizers]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Take a step of both networks and one of the discriminator."""
        step, (hq, lq) = self.trainer.global_step, (batch["face_hq"], batch["face_lq"])
        optimizer, critic = self.optimizers()
        with self.toggled_optimizer(optimizer):
            codes = self.read(batch)
            rows = generators(self, "crossing", len(hq), self.seed, step)
            crossed = [torch.rand((), generator=row, device=row.device) < self.crossing for row in rows]
            made = self.render(batch, codes, torch.stack(crossed))
            losses = self.losses(batch, codes, made)
            self.steps.generator_step(self, optimizer, sum(losses.values()))
        with self.toggled_optimizer(critic):
            judge = partial(self.discriminator, hq=hq, codes=codes.real)
            self.steps.discriminator_step(self, critic, judge, lq, made[: len(hq)], step)
        for schedule in self.lr_schedulers():
            schedule.step()
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, prog_bar=True)

    def read(self, batch: dict[str, Tensor]) -> Codes:
        """Read the codes of the three pairs of a batch."""
        hq = torch.cat([batch["face_hq"], batch["face_hq"], batch["natural_hq"]])
        lq = torch.cat([batch["face_lq"], batch["face_syn_lq"], batch["natural_syn_lq"]])
        return Codes(*self.net.deg(hq, lq).chunk(3))

    def render(self, batch: dict[str, Tensor], codes: Codes, crossed: Tensor) -> Tensor:
        """Render real LQ faces, synthetic LQ faces, and synthetic natural LQ, in this order.

        Args:
            batch: The images.
            codes: Their codes.
            crossed: (N,), whether the synthetic images of a row exchange their codes.

        Returns:
            (3N, 3, S, S), nominally in [0, 1].
        """
        hq = torch.cat([batch["face_hq"], batch["natural_hq"]])
        faces, natural = torch.arange(len(hq), device=hq.device).chunk(2)
        order = torch.cat([faces, faces, natural])
        exchanged = crossed[:, None]
        for_faces = torch.where(exchanged, codes.natural, codes.face)
        for_natural = torch.where(exchanged, codes.face, codes.natural)
        content = [one[order] for one in self.net.syn.encoder(hq)]
        return self.net.syn.render(hq[order], content, torch.cat([codes.real, for_faces, for_natural]))

    def losses(self, batch: dict[str, Tensor], codes: Codes, made: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms of the networks' loss by name; those of weight 0 are left out."""
        target = torch.cat([batch["face_lq"], batch["face_syn_lq"], batch["natural_syn_lq"]])
        made = made.to(target.dtype)
        real = made[: len(batch["face_hq"])]
        terms = {
            "pixel": lambda: 2 * F.l1_loss(made, target),
            "same": lambda: same_degradation(codes.natural, codes.face),
            "disentangling": lambda: disentangling(codes.real, codes.face),
            "adversarial": lambda: self.steps.loss.generator(self.discriminator(real, batch["face_hq"], codes.real)),
        }
        losses = {name: self.weights[name] * term() for name, term in terms.items() if self.weights[name] > 0}
        if self.weights["perceptual"] > 0 or self.weights["style"] > 0:
            pair = zip(("perceptual", "style"), self.perceptual.with_style(made, target), strict=True)
            losses |= {name: self.weights[name] * value for name, value in pair}
        return losses

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add what is logged at the end of validation."""
        codes, count = self.read(batch), len(batch["face_hq"])
        faces, _, natural = self.render(batch, codes, torch.ones(count, device=self.device).bool()).clamp(0, 1).chunk(3)
        distances = [F.l1_loss(faces, batch["face_lq"]), F.l1_loss(natural, batch["natural_syn_lq"])]
        powers = [band_power(one) for one in (natural, batch["natural_syn_lq"])]
        ones = torch.ones(1, device=self.device)
        self._validated.append(count * torch.cat([ones, torch.stack(distances), *powers]).double())
        self._codes.append(codes)

    def on_validation_epoch_end(self) -> None:
        """Log how well codes are read and rendered."""
        face, natural = (torch.cat([getattr(one, name) for one in self._codes]) for name in ("face", "natural"))
        apart = [same_degradation(natural, face), same_degradation(natural, face.roll(1, 0))]
        total = torch.cat([torch.stack(self._validated).sum(0), torch.stack(apart).double()])
        total = self.trainer.strategy.reduce(total, reduce_op="sum").float()
        self._validated, self._codes = [], []
        count, pixel, crossed, *powers, same, other = total.split([1, 1, 1, *2 * [(len(total) - 5) // 2], 1, 1])
        gap = power_gap_db(*powers).abs().mean()
        values = {
            "pixel": pixel / count,
            "crossed_pixel": crossed / count,
            "power_gap": gap,
            "code_ratio": same / other,
        }
        self.log_dict({f"val/{name}": value for name, value in values.items()})

    @torch.no_grad()
    def samples(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Render the LQ faces of a batch with their own codes, and its natural HQ with the codes of the same faces.

        Returns:
            Two tensors (N, 3, S, S), float32 in [0, 1].
        """
        with torch.autocast(self.device.type, enabled=False):
            codes = self.net.deg(batch["face_hq"].float(), batch["face_lq"].float())
            faces, natural = (self.net.syn(batch[name].float(), codes) for name in ("face_hq", "natural_hq"))
        return faces.clamp(0, 1), natural.clamp(0, 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the networks, from which ``ddpm-pairs bank`` makes a degradation."""
        data = self.trainer.datamodule
        folders = {name: Path(getattr(data, name)).name for name in ("faces_dir", "hq_dir") if hasattr(data, name)}
        training = {"steps": self.trainer.global_step, "weights": self.weights, **folders}
        checkpoint["ddpm_pairs"] = describe(self.net, training, KIND)
