"""Train a network that turns HQ into LQ against a discriminator that sees real LQ."""

from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_pairs.degradations.learned.files import describe
from ddpm_pairs.degradations.learned.generator import Generator, Made, reduced
from ddpm_pairs.degradations.learned.identity_watch import IdentityWatch
from ddpm_pairs.degradations.ops.bands import box_low, haar
from ddpm_pairs.errors import UserError
from ddpm_pairs.metrics.texture import band_power, power_gap_db
from ddpm_pairs.run import Run
from ddpm_pairs.training.gan import AdversarialSteps
from ddpm_pairs.training.learning_rate import LinearOrHalved
from ddpm_pairs.training.losses.competition import competition
from ddpm_pairs.training.optimizer import check_positive, check_weights, check_weights_type
from ddpm_pairs.training.steps import check_precision, generators

LOW_PASSES = {"box": box_low, "haar": lambda images: haar(images).low / 2}
"""The low frequencies that the content loss compares, by name."""

LEAST_SIDE = {"perceptual": 32, "power": 8}
"""Smallest sides of LQ crops in pixels, for the perceptual loss and for the power in validation."""


class DegradationGAN(L.LightningModule):
    """Learn a degradation from unpaired images: the GANs of DSGAN, DASR, and PDM, which differ in network and losses.

    In each iteration, the network takes a step against the current discriminator, then the discriminator takes one on
    the same images. Lightning's counters count iterations. Batches are dicts with ``hq`` (N, 3, S, S) and unrelated
    real ``lq`` (N, 3, S / scale, S / scale), float32 in [0, 1], as from ``UnpairedCrops``. A checkpoint is a learned
    degradation: ``--model.degradation runs/dsgan/last.ckpt``.

    Validation logs, for each octave of frequency, how much more luminance power the generated LQ has than real LQ
    (``val/power_gap_1``, in dB, is the finest octave), and the mean of their absolute values, ``val/power_gap``. HQ and
    real LQ show different things, so the gap of a perfect degradation is not 0.

    Args:
        net: The network: ``DSGAN``, ``DASR``, or ``PDM``.
        discriminator: Images (N, 3, H, W) in [0, 1] -> logits of any shape with N first.
        adversarial_loss: ``logistic`` (binary cross-entropy), ``least_squares``, ``relativistic`` (average), or
            ``wasserstein``, which needs ``gradient_penalty``.
        adversarial_weight: Weight of the network's adversarial loss.
        content: The low frequencies that must equal those of bicubically reduced HQ, by L1: ``box`` (a 5x5 average) or
            ``haar`` (half the low band of a Haar wavelet).
        content_weight: Weight of this loss; 0 turns it off.
        perceptual: ``forward(made, reduced) -> number`` on [0, 1]; ``None`` turns it off.
        perceptual_weight: Weight of the perceptual loss.
        noise_mean_weight: Weight of the squared mean of the noise, per image and channel; 0 turns it off.
        r1_weight: gamma of R1; 0 turns it off.
        gradient_penalty: Weight of WGAN-GP's gradient penalty, 10 there; 0 turns it off.
        learning_rate: Adam's step size for the network.
        discriminator_learning_rate: Step size for the discriminator; ``None`` takes ``learning_rate``.
        decay_from: Step from which the learning rates decrease linearly, to 0 at ``max_steps``; ``None`` keeps them.
        halve_at: Steps at which the learning rates are halved.
        betas: Adam's, for both networks.
        gradient_clip: Largest L2 norm of each network's gradients; ``None`` does not clip.
        seed: Seed of everything random; the command line sets it to ``seed_everything``.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(
        self,
        net: Generator,
        discriminator: nn.Module,
        adversarial_loss: Literal["logistic", "least_squares", "relativistic", "wasserstein"] = "logistic",
        adversarial_weight: float = 0.005,
        content: Literal["box", "haar"] = "box",
        content_weight: float = 1.0,
        perceptual: nn.Module | None = None,
        perceptual_weight: float = 0.01,
        noise_mean_weight: float = 0.0,
        r1_weight: float = 0.0,
        gradient_penalty: float = 0.0,
        learning_rate: float = 2e-4,
        discriminator_learning_rate: float | None = None,
        decay_from: int | None = None,
        halve_at: tuple[int, ...] = (),
        betas: tuple[float, float] = (0.5, 0.999),
        gradient_clip: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        loss = competition(adversarial_loss, gradient_penalty)
        if content not in LOW_PASSES:
            raise UserError(f"--model.content: got {content!r}; expected {', '.join(LOW_PASSES)}")
        critic_rate = learning_rate if discriminator_learning_rate is None else discriminator_learning_rate
        for name, rate in (("learning_rate", learning_rate), ("discriminator_learning_rate", critic_rate)):
            check_positive(f"--model.{name}", rate)
        weights = {
            "adversarial": adversarial_weight,
            "content": content_weight,
            "perceptual": perceptual_weight if perceptual is not None else 0.0,
            "noise_mean": noise_mean_weight,
        }
        check_weights({f"{name}_weight": weight for name, weight in weights.items()})
        if noise_mean_weight > 0 and not net.adds_noise:
            raise UserError(
                f"--model.noise_mean_weight: got {noise_mean_weight}; expected 0 for {net.name}, which adds no noise"
            )
        self.automatic_optimization = False
        self.net, self.discriminator, self.perceptual = net, discriminator, perceptual
        self.adversarial_loss, self.content, self.weights = adversarial_loss, content, weights
        self.low_pass = LOW_PASSES[content]
        self.rates, self.decay_from, self.halve_at = (learning_rate, critic_rate), decay_from, tuple(halve_at)
        self.steps = AdversarialSteps(r1_weight, 16, 0.0, 1, betas, gradient_clip, seed, loss, gradient_penalty)
        self.seed, self.watch = seed, IdentityWatch()
        self._powers: list[Tensor] = []

    def check(self, scale: int, crop_size: int, batch_size: int) -> None:
        """Check that the networks fit the data.

        Args:
            scale: HQ side over LQ side.
            crop_size: Side of the HQ crops.
            batch_size: Images per step, over all ranks.

        Raises:
            UserError: If they do not fit.
        """
        if scale != self.net.scale:
            raise UserError(f"--data.scale: got {scale}; expected {self.net.scale}, the scale of --model.net")
        side, multiple = crop_size // scale, getattr(self.discriminator, "multiple", 1)
        if self.content == "haar" and self.weights["content"] > 0:
            multiple = max(multiple, 2)
        least = LEAST_SIDE["perceptual" if self.weights["perceptual"] > 0 else "power"]
        if crop_size % scale or side % multiple or side < least:
            raise UserError(
                f"--data.crop_size: got {crop_size}; expected a multiple of {scale * multiple}, {scale * least} or more"
            )
        if batch_size < self.net.least_batch:
            raise UserError(
                f"--data.batch_size: got {batch_size} over all ranks; expected {self.net.least_batch} or more for "
                f"{self.net.name}"
            )

    def check_run(self, run: Run) -> None:
        """Check the settings, and that the networks fit the data of a run; see ``check``."""
        check_weights_type(run.trainer)
        if run.verb != "fit":
            return
        check_precision(run.trainer)
        if self.decay_from is not None and not 0 <= self.decay_from < run.trainer.max_steps:
            raise UserError(
                f"--model.decay_from: got {self.decay_from}; expected less than --trainer.max_steps, which is "
                f"{run.trainer.max_steps}"
            )
        if all(hasattr(run.data, name) for name in ("scale", "crop_size", "batch_size")):
            self.check(run.data.scale, run.data.crop_size, run.data.batch_size * run.trainer.world_size)

    def configure_optimizers(self) -> list[dict[str, Any]]:
        """Return one Adam with its schedule for the network and one for the discriminator."""
        groups = [{"params": list(self.net.parameters()), "lr": self.rates[0]}]
        optimizers = self.steps.optimizers(groups, self.discriminator, self.rates[1], self.device.type == "cuda")
        schedule = (self.decay_from, self.trainer.max_steps, self.halve_at)
        return [{"optimizer": one, "lr_scheduler": LinearOrHalved(one, *schedule)} for one in optimizers]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Take a step of the network, one of the discriminator, and its R1 step if it is due."""
        hq, real, step = batch["hq"], batch["lq"], self.trainer.global_step
        optimizer, critic = self.optimizers()
        start = reduced(hq, self.net.scale)
        with self.toggled_optimizer(optimizer):
            made = self.net.make(hq, generators(self, "synthesis", len(hq), self.seed, step))
            losses = self.network_losses(made, start, real)
            self.steps.generator_step(self, optimizer, sum(losses.values()))
        with self.toggled_optimizer(critic):
            self.steps.discriminator_step(self, critic, self.discriminator, real, made.lq, step)
        for schedule in self.lr_schedulers():
            schedule.step()
        self.watch.update(made.lq, start, real)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, prog_bar=True)

    def network_losses(self, made: Made, start: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms of the network's loss by name; those of weight 0 are left out.

        Args:
            made: The generated LQ.
            start: The HQ from which it was made, reduced bicubically.
            real: Real LQ.
        """
        lq = made.lq.to(start.dtype)
        terms = {
            "adversarial": lambda: self._adversarial(lq, real),
            "content": lambda: F.l1_loss(self.low_pass(lq), self.low_pass(start)),
            "perceptual": lambda: self.perceptual(lq, start),
            "noise_mean": lambda: made.noise.to(start.dtype).mean((2, 3)).square().mean(),
        }
        return {name: weight * terms[name]() for name, weight in self.weights.items() if weight > 0}

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add the power of generated and real LQ per octave."""
        for images in (self.samples(batch["hq"]), batch["lq"]):
            self._powers.append(band_power(images) * len(images))

    def on_validation_epoch_end(self) -> None:
        """Log how much more power the generated LQ has than the real one, in dB."""
        made, real = (torch.stack(self._powers[first::2]).sum(0) for first in (0, 1))
        self._powers = []
        made, real = self.trainer.strategy.reduce(torch.stack([made, real]), reduce_op="sum")
        gap = power_gap_db(made, real).float()
        octaves = {f"val/power_gap_{octave}": one for octave, one in enumerate(gap.flip(0), start=1)}
        self.log_dict({"val/power_gap": gap.abs().mean()} | octaves)

    @torch.no_grad()
    def samples(self, hq: Tensor) -> Tensor:
        """Turn HQ (N, 3, H, W) in [0, 1] into LQ in [0, 1], float32, with the same random numbers at every call."""
        with torch.autocast(self.device.type, enabled=False):
            return self.net.make(hq.float(), generators(self, "samples", len(hq), self.seed, 0)).lq.clamp(0, 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the network, so that the checkpoint is a learned degradation."""
        training = {
            "steps": self.trainer.global_step,
            "adversarial_loss": self.adversarial_loss,
            "weights": self.weights,
        }
        data = self.trainer.datamodule
        folders = {name: Path(getattr(data, name)).name for name in ("hq_dir", "lq_dir") if hasattr(data, name)}
        checkpoint["ddpm_pairs"] = describe(self.net, training | folders)

    def _adversarial(self, lq: Tensor, real: Tensor) -> Tensor:
        logits = self.discriminator(lq)
        return self.steps.loss.generator(logits, self.discriminator(real) if self.steps.loss.uses_real else None)
