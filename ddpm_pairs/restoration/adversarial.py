"""Train a restorer against a discriminator."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_pairs.degradations.ops.bands import box_low
from ddpm_pairs.degradations.ops.sharpen import unsharp_mask
from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.initial_weights import start_discriminator, start_network
from ddpm_pairs.restoration.restorer import Restorer, to_channels_last
from ddpm_pairs.training.gan import AdversarialSteps
from ddpm_pairs.training.learning_rate import LinearOrHalved
from ddpm_pairs.training.losses.competition import competition
from ddpm_pairs.training.optimizer import check_positive
from ddpm_pairs.training.steps import check_precision

LOW_SIDE = 9
"""Side in px of the box averages that ``low_l1`` compares, DSGAN's."""

PIXEL_LOSSES = {
    "l1": F.l1_loss,
    "smooth_l1": lambda restored, target: F.smooth_l1_loss(restored * 2 - 1, target * 2 - 1),
    "low_l1": lambda restored, target: F.l1_loss(box_low(restored, LOW_SIDE), box_low(target, LOW_SIDE)),
}
"""Pixel losses of images (N, 3, H, W) in [0, 1], by name."""


class Adversarial(Restorer):
    """Train a restorer with pixel, perceptual, and adversarial losses: Real-ESRGAN's second phase, GPEN's fine-tuning.

    Other losses and discriminators make it the restorer of DSGAN or PDM-SR (``rrdb_dsgan.yaml``, ``rrdb_pdm.yaml``).

    In each iteration, the network takes a step against the current discriminator, then the discriminator takes one on
    the same images. Lightning's counters (``global_step``, ``max_steps``, validation, checkpoints, the moving average)
    count these iterations. Batches are dicts with ``hq`` and ``lq``, float32 in [0, 1].

    A subclass that compares other images overrides ``restore_batch`` and ``pixel_losses``.

    Args:
        net: The restorer, see ``Restorer``. Path-length regularization requires its method ``restore_with_latents``.
        discriminator: Images (N, 3, H, W) in [0, 1] -> logits of any shape with N first.
        pixel_loss: ``l1`` on [0, 1] (Real-ESRGAN), ``smooth_l1`` on [-1, 1] (GPEN), or ``low_l1``, the L1 distance of
            9x9 box averages (DSGAN).
        pixel_weight: Weight of the pixel loss.
        perceptual: ``forward(restored, hq) -> number`` on [0, 1]; ``None`` turns it off.
        perceptual_weight: Weight of the perceptual loss.
        style_weight: Weight of the style loss, which compares Gram matrices of the same features (F2N-ESRGAN); it needs
            ``perceptual`` with the method ``with_style``. 0 turns it off.
        adversarial_loss: ``logistic`` (binary cross-entropy), ``least_squares``, ``relativistic`` (average), or
            ``wasserstein``, which needs ``gradient_penalty``.
        adversarial_weight: Weight of the adversarial loss.
        sharpen_hq: Use sharpened HQ as the target, as Real-ESRGAN does. The discriminator's real images are not
            sharpened.
        r1_weight: gamma of R1, 10 in StyleGAN2; 0 turns it off.
        r1_every: Iterations between the discriminator's R1 steps.
        gradient_penalty: Weight of WGAN-GP's gradient penalty, 10 there; 0 turns it off.
        path_weight: Weight of the path-length regularization, 2 in StyleGAN2; 0 turns it off.
        path_every: Iterations between the network's path-length steps.
        learning_rate: Adam's step size for the network.
        part_learning_rates: Step sizes for parts of the network, by prefix of their weights' names.
        discriminator_learning_rate: Step size for the discriminator; ``None`` takes ``learning_rate``.
        halve_at: Steps at which all learning rates are halved.
        betas: Adam's, for both networks.
        gradient_clip: Largest L2 norm of each network's gradients; ``None`` does not clip.
        init_from: Initialize the network from these weights of a restorer, or GPEN's decoder from those of a
            ``Prior``.
        discriminator_from: Initialize the discriminator from a checkpoint of ``Prior`` or ``Adversarial``, or from a
            netD file.
        tile: See ``Restorer``.
        overlap: See ``Restorer``.
        seed: Seed of the path-length noise; the command line sets it to ``seed_everything``.

    Raises:
        UserError: If a value is out of range, or weights do not fit.
    """

    def __init__(
        self,
        net: nn.Module,
        discriminator: nn.Module,
        pixel_loss: Literal["l1", "smooth_l1", "low_l1"] = "l1",
        pixel_weight: float = 1.0,
        perceptual: nn.Module | None = None,
        perceptual_weight: float = 1.0,
        style_weight: float = 0.0,
        adversarial_loss: Literal["logistic", "least_squares", "relativistic", "wasserstein"] = "logistic",
        adversarial_weight: float = 0.1,
        sharpen_hq: bool = False,
        r1_weight: float = 0.0,
        r1_every: int = 16,
        gradient_penalty: float = 0.0,
        path_weight: float = 0.0,
        path_every: int = 4,
        learning_rate: float = 1e-4,
        part_learning_rates: dict[str, float] | None = None,
        discriminator_learning_rate: float | None = None,
        halve_at: tuple[int, ...] = (),
        betas: tuple[float, float] = (0.9, 0.99),
        gradient_clip: float | None = None,
        init_from: str | None = None,
        discriminator_from: str | None = None,
        tile: int | None = 256,
        overlap: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(net, tile, overlap)
        if pixel_loss not in PIXEL_LOSSES:
            raise UserError(f"--model.pixel_loss: got {pixel_loss!r}; expected {', '.join(PIXEL_LOSSES)}")
        loss = competition(adversarial_loss, gradient_penalty)
        rates = dict(part_learning_rates or {})
        critic_rate = learning_rate if discriminator_learning_rate is None else discriminator_learning_rate
        options = {"learning_rate": learning_rate, "discriminator_learning_rate": critic_rate}
        for name, rate in (options | {f"part_learning_rates {part}": rate for part, rate in rates.items()}).items():
            check_positive(f"--model.{name}", rate)
        if path_weight > 0 and not hasattr(net, "restore_with_latents"):
            raise UserError(
                f"--model.path_weight: got {path_weight}; expected 0 for {type(net).__name__}, which has no latents"
            )
        if style_weight > 0 and not hasattr(perceptual, "with_style"):
            raise UserError(
                f"--model.style_weight: got {style_weight}; expected 0 without --model.perceptual, such as Perceptual"
            )
        self.automatic_optimization = False
        if init_from is not None:
            start_network(net, init_from)
        if discriminator_from is not None:
            start_discriminator(discriminator, discriminator_from)
        self.discriminator = discriminator
        self.pixel_loss, self.pixel_weight = pixel_loss, pixel_weight
        self.perceptual, self.perceptual_weight, self.style_weight = perceptual, perceptual_weight, style_weight
        self.adversarial_weight, self.sharpen_hq = adversarial_weight, sharpen_hq
        self.groups = parameter_groups(net, learning_rate, rates)
        self.discriminator_learning_rate, self.halve_at = critic_rate, tuple(halve_at)
        self.steps = AdversarialSteps(
            r1_weight, r1_every, path_weight, path_every, betas, gradient_clip, seed, loss, gradient_penalty
        )
        self.register_buffer("mean_path_length", torch.zeros(()))

    def setup(self, stage: str) -> None:
        """Set up the network, as in ``Restorer``, and the discriminator.

        Raises:
            UserError: If the precision is float16.
        """
        super().setup(stage)
        to_channels_last(self.discriminator)
        if stage == "fit":
            check_precision(self.trainer)

    def configure_optimizers(self) -> list[dict[str, Any]]:
        """Return one Adam with its schedule for the network and one for the discriminator."""
        fused = self.device.type == "cuda"
        optimizers = self.steps.optimizers(self.groups, self.discriminator, self.discriminator_learning_rate, fused)
        return [{"optimizer": one, "lr_scheduler": LinearOrHalved(one, None, 0, self.halve_at)} for one in optimizers]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the schedules of a checkpoint from before ``halve_at`` start at its step."""
        if not checkpoint.get("lr_schedulers"):
            checkpoint["lr_schedulers"] = [{"last_epoch": checkpoint["global_step"]}] * 2

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Take a step of the network, one of the discriminator, and any regularization step that is due."""
        hq, step = batch["hq"], self.trainer.global_step
        optimizer, critic = self.optimizers()
        with self.toggled_optimizer(optimizer):
            restored, judged = self.restore_batch(batch)
            losses = self.network_losses(batch, restored, judged)
            self.steps.generator_step(self, optimizer, sum(losses.values()))
            if self.steps.path_due(step):
                with torch.autocast(self.device.type, enabled=False):
                    again = self.net.restore_with_latents(batch["lq"])
                    self.steps.path_step(self, optimizer, *again, self.mean_path_length, step)
        with self.toggled_optimizer(critic):
            self.steps.discriminator_step(self, critic, self.discriminator, hq, judged, step)
        for schedule in self.lr_schedulers():
            schedule.step()
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, prog_bar=True)

    def restore_batch(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Restore a batch of training.

        Returns:
            The restored LQ of the pairs, and the restored images that the discriminator compares with HQ: the same
            here, (N, 3, H, W), nominally in [0, 1].
        """
        restored = self.net(batch["lq"])
        return restored, restored

    def network_losses(self, batch: dict[str, Any], restored: Tensor, judged: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms of the network's loss by name, for what ``restore_batch`` returns."""
        hq = batch["hq"]
        target = unsharp_mask(hq).to(hq.dtype) if self.sharpen_hq else hq
        restored, judged = restored.to(hq.dtype), judged.to(hq.dtype)
        losses = self.pixel_losses(batch, restored, target)
        if self.style_weight > 0:
            perceptual, style = self.perceptual.with_style(restored, target)
            losses |= {"perceptual": self.perceptual_weight * perceptual, "style": self.style_weight * style}
        elif self.perceptual is not None:
            losses["perceptual"] = self.perceptual_weight * self.perceptual(restored, target)
        real = self.discriminator(hq) if self.steps.loss.uses_real else None
        losses["adversarial"] = self.adversarial_weight * self.steps.loss.generator(self.discriminator(judged), real)
        return losses

    def pixel_losses(self, batch: dict[str, Any], restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the weighted pixel losses by name, for images (N, 3, H, W) in [0, 1]."""
        return {"pixel": self.pixel_weight * PIXEL_LOSSES[self.pixel_loss](restored, target)}


def parameter_groups(net: nn.Module, learning_rate: float, parts: dict[str, float]) -> list[dict[str, Any]]:
    """Return a network's parameters with their learning rates, as parameter groups for Adam.

    Args:
        net: The network.
        learning_rate: For the parameters that match none of the prefixes.
        parts: Learning rates by prefix of the parameters' names, such as ``generator.``.

    Raises:
        UserError: If no parameter has a given prefix.
    """
    groups: dict[str | None, list[nn.Parameter]] = {None: [], **{part: [] for part in parts}}
    for name, parameter in net.named_parameters():
        groups[next((part for part in parts if name.startswith(part)), None)].append(parameter)
    for part, parameters in groups.items():
        if part is not None and not parameters:
            raise UserError(
                f"--model.part_learning_rates: got {part!r}; expected a prefix of a weight's name in "
                f"{type(net).__name__}"
            )
    rates = {None: learning_rate, **parts}
    return [{"params": members, "lr": rates[part]} for part, members in groups.items() if members]
