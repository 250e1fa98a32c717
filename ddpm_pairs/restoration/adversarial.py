"""Train a restorer against a discriminator."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_pairs.degradations.ops.sharpen import unsharp_mask
from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.initial_weights import start_discriminator, start_network
from ddpm_pairs.restoration.restorer import Restorer, to_channels_last
from ddpm_pairs.training.gan import AdversarialSteps
from ddpm_pairs.training.losses.adversarial import generator_loss
from ddpm_pairs.training.optimizer import check_positive
from ddpm_pairs.training.steps import check_precision


class Adversarial(Restorer):
    """Train a restorer with pixel, perceptual, and adversarial losses: Real-ESRGAN's second phase, GPEN's fine-tuning.

    In each iteration, the network takes a step against the current discriminator, then the discriminator takes one on
    the same images. Lightning's counters (``global_step``, ``max_steps``, validation, checkpoints, the moving average)
    count these iterations. Batches are dicts with ``hq`` and ``lq``, float32 in [0, 1].

    Args:
        net: The restorer, see ``Restorer``. Path-length regularization requires its method ``restore_with_latents``.
        discriminator: Images (N, 3, H, W) in [0, 1] -> logits of any shape with N first.
        pixel_loss: ``l1`` on [0, 1] (Real-ESRGAN), or ``smooth_l1`` on [-1, 1] (GPEN).
        pixel_weight: Weight of the pixel loss.
        perceptual: ``forward(restored, hq) -> number`` on [0, 1]; ``None`` turns it off.
        perceptual_weight: Weight of the perceptual loss.
        adversarial_weight: Weight of the adversarial loss.
        sharpen_hq: Use sharpened HQ as the target, as Real-ESRGAN does. The discriminator's real images are not
            sharpened.
        r1_weight: gamma of R1, 10 in StyleGAN2; 0 turns it off.
        r1_every: Iterations between the discriminator's R1 steps.
        path_weight: Weight of the path-length regularization, 2 in StyleGAN2; 0 turns it off.
        path_every: Iterations between the network's path-length steps.
        learning_rate: Adam's step size for the network.
        part_learning_rates: Step sizes for parts of the network, by prefix of their weights' names.
        discriminator_learning_rate: Step size for the discriminator; ``None`` takes ``learning_rate``.
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
        pixel_loss: Literal["l1", "smooth_l1"] = "l1",
        pixel_weight: float = 1.0,
        perceptual: nn.Module | None = None,
        perceptual_weight: float = 1.0,
        adversarial_weight: float = 0.1,
        sharpen_hq: bool = False,
        r1_weight: float = 0.0,
        r1_every: int = 16,
        path_weight: float = 0.0,
        path_every: int = 4,
        learning_rate: float = 1e-4,
        part_learning_rates: dict[str, float] | None = None,
        discriminator_learning_rate: float | None = None,
        betas: tuple[float, float] = (0.9, 0.99),
        gradient_clip: float | None = None,
        init_from: str | None = None,
        discriminator_from: str | None = None,
        tile: int | None = 256,
        overlap: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(net, tile, overlap)
        if pixel_loss not in ("l1", "smooth_l1"):
            raise UserError(f"--model.pixel_loss: got {pixel_loss!r}; expected l1 or smooth_l1")
        rates = dict(part_learning_rates or {})
        critic_rate = learning_rate if discriminator_learning_rate is None else discriminator_learning_rate
        options = {"learning_rate": learning_rate, "discriminator_learning_rate": critic_rate}
        for name, rate in (options | {f"part_learning_rates {part}": rate for part, rate in rates.items()}).items():
            check_positive(f"--model.{name}", rate)
        if path_weight > 0 and not hasattr(net, "restore_with_latents"):
            raise UserError(
                f"--model.path_weight: got {path_weight}; expected 0 for {type(net).__name__}, which has no latents"
            )
        self.automatic_optimization = False
        if init_from is not None:
            start_network(net, init_from)
        if discriminator_from is not None:
            start_discriminator(discriminator, discriminator_from)
        self.discriminator = discriminator
        self.pixel_loss, self.pixel_weight = pixel_loss, pixel_weight
        self.perceptual, self.perceptual_weight = perceptual, perceptual_weight
        self.adversarial_weight, self.sharpen_hq = adversarial_weight, sharpen_hq
        self.groups = parameter_groups(net, learning_rate, rates)
        self.discriminator_learning_rate = critic_rate
        self.steps = AdversarialSteps(r1_weight, r1_every, path_weight, path_every, betas, gradient_clip, seed)
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

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return one Adam for the network and one for the discriminator."""
        fused = self.device.type == "cuda"
        return self.steps.optimizers(self.groups, self.discriminator, self.discriminator_learning_rate, fused)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Take a step of the network, one of the discriminator, and any regularization step that is due."""
        hq, lq, step = batch["hq"], batch["lq"], self.trainer.global_step
        optimizer, critic = self.optimizers()
        with self.toggled_optimizer(optimizer):
            restored = self.net(lq)
            losses = self.network_losses(restored, unsharp_mask(hq).to(hq.dtype) if self.sharpen_hq else hq)
            self.steps.generator_step(self, optimizer, sum(losses.values()))
            if self.steps.path_due(step):
                with torch.autocast(self.device.type, enabled=False):
                    again = self.net.restore_with_latents(lq)
                    self.steps.path_step(self, optimizer, *again, self.mean_path_length, step)
        with self.toggled_optimizer(critic):
            self.steps.discriminator_step(self, critic, self.discriminator, hq, restored, step)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, prog_bar=True)

    def network_losses(self, restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms of the network's loss by name, for images (N, 3, H, W) in [0, 1]."""
        restored = restored.to(target.dtype)
        if self.pixel_loss == "l1":
            pixel = F.l1_loss(restored, target)
        else:
            pixel = F.smooth_l1_loss(restored * 2 - 1, target * 2 - 1)
        losses = {"pixel": self.pixel_weight * pixel}
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual_weight * self.perceptual(restored, target)
        losses["adversarial"] = self.adversarial_weight * generator_loss(self.discriminator(restored))
        return losses


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
