"""Adversarial training: the steps of an iteration in which a generator and a discriminator compete."""

from collections.abc import Callable

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import Strategy
from torch import Tensor, nn
from torch.optim import Optimizer

from ddpm_pairs.errors import UserError
from ddpm_pairs.training.losses.adversarial import path_length_penalty, path_lengths, r1_penalty
from ddpm_pairs.training.losses.competition import Competition, Logistic, gradient_penalty
from ddpm_pairs.training.optimizer import check_finite, check_weights
from ddpm_pairs.training.steps import generators, lazy_adam, normal, take_step
from ddpm_pairs.training.watch import DiscriminatorWatch

REMEDY = "lower learning rates or with --model.gradient_clip 1.0"
"""What to change after a loss that is not finite; see ``ddpm_pairs.training.optimizer.check_finite``."""

PATH_DECAY = 0.01
"""Weight of the latest batch in the running mean of the path lengths."""


class AdversarialSteps:
    """The optimizers of a generator and a discriminator, and the steps of an iteration.

    The module that uses it optimizes manually. The Trainer counts only the generator's main step, so that
    ``global_step``, ``max_steps``, the moving average, and the checkpoints count iterations.

    Args:
        r1_weight: gamma of R1; 0 turns it off.
        r1_every: Iterations between the discriminator's R1 steps.
        path_weight: Weight of the path-length regularization; 0 turns it off.
        path_every: Iterations between the generator's path-length steps.
        betas: Adam's, for both networks.
        gradient_clip: Largest L2 norm of each network's gradients; ``None`` does not clip.
        seed: Seed of the path-length noise and of the images between real and generated ones.
        loss: The adversarial loss.
        gradient_penalty: Weight of WGAN-GP's gradient penalty, 10 there; 0 turns it off.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(
        self,
        r1_weight: float,
        r1_every: int,
        path_weight: float,
        path_every: int,
        betas: tuple[float, float],
        gradient_clip: float | None,
        seed: int,
        loss: Competition | None = None,
        gradient_penalty: float = 0.0,
    ) -> None:
        for name, every in (("r1_every", r1_every), ("path_every", path_every)):
            if every < 1:
                raise UserError(f"--model.{name}: got {every}; expected 1 or more")
        check_weights({"r1_weight": r1_weight, "path_weight": path_weight, "gradient_penalty": gradient_penalty})
        if gradient_clip is not None and not gradient_clip > 0:
            raise UserError(f"--model.gradient_clip: got {gradient_clip}; expected more than 0, or null")
        if not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"--model.betas: got {tuple(betas)}; expected two numbers of 0 or more and less than 1")
        self.r1_weight, self.r1_every = r1_weight, r1_every
        self.path_weight, self.path_every = path_weight, path_every
        self.betas, self.gradient_clip, self.seed = (float(betas[0]), float(betas[1])), gradient_clip, seed
        self.loss, self.gradient_penalty = loss or Logistic(), gradient_penalty
        self.watch = DiscriminatorWatch(self.loss)

    def optimizers(self, groups: list[dict], discriminator: nn.Module, rate: float, fused: bool) -> list[Optimizer]:
        """Return one Adam for the generator's parameter groups and one for the discriminator.

        Args:
            groups: The generator's parameters with their learning rates.
            discriminator: The discriminator.
            rate: The discriminator's learning rate.
            fused: Whether to use torch's fused kernel.
        """
        path_every = self.path_every if self.path_weight > 0 else None
        r1_every = self.r1_every if self.r1_weight > 0 else None
        critics = [{"params": list(discriminator.parameters()), "lr": rate}]
        return [lazy_adam(groups, self.betas, path_every, fused), lazy_adam(critics, self.betas, r1_every, fused)]

    def generator_step(self, module: L.LightningModule, optimizer: LightningOptimizer, loss: Tensor) -> None:
        """Take the generator's main step, the one that the Trainer counts."""
        check_finite(loss, module, REMEDY)
        take_step(module, optimizer, loss, self.gradient_clip, counted=True)

    def path_due(self, step: int) -> bool:
        """Return whether iteration ``step`` includes a path-length step."""
        return self.path_weight > 0 and step % self.path_every == 0

    def path_step(
        self,
        module: L.LightningModule,
        optimizer: LightningOptimizer,
        made: Tensor,
        latents: Tensor,
        mean: Tensor,
        step: int,
    ) -> None:
        """Take the generator's path-length step.

        Args:
            module: The module being trained.
            optimizer: The generator's optimizer.
            made: Generated images (N, 3, H, W) in [0, 1], float32, attached to the graph.
            latents: (N, L, C), the latents from which they were generated.
            mean: Running mean of the path lengths, a buffer of the module; changed in place.
            step: The iteration.
        """
        noise = normal(generators(module, "path", len(made), self.seed, step), made.shape[1:])
        lengths = path_lengths(made * 2 - 1, latents, noise)
        target = update_mean(mean, lengths, module.trainer.strategy)
        loss = self.path_weight * self.path_every * path_length_penalty(lengths, target)
        take_step(module, optimizer, loss, self.gradient_clip)
        module.log("train/path_length", lengths.detach().mean())

    def discriminator_step(
        self,
        module: L.LightningModule,
        optimizer: LightningOptimizer,
        discriminator: Callable[[Tensor], Tensor],
        real: Tensor,
        made: Tensor,
        step: int,
    ) -> None:
        """Take the discriminator's step, and its R1 step if it is due.

        Args:
            module: The module being trained.
            optimizer: The discriminator's optimizer.
            discriminator: Images -> logits of any shape with N first.
            real: Real images (N, 3, H, W) in [0, 1].
            made: Generated images of the same shape.
            step: The iteration.
        """
        logits_real, logits_made = discriminator(real), discriminator(made.detach())
        loss = total = self.loss.discriminator(logits_real, logits_made)
        if self.gradient_penalty > 0:
            total = loss + self.gradient_penalty * self._penalty(module, discriminator, real, made, step)
        check_finite(total, module, REMEDY, step)
        take_step(module, optimizer, total, self.gradient_clip)
        module.log("train/discriminator", loss.detach(), prog_bar=True)
        means = {"train/logit_real": logits_real.detach().mean(), "train/logit_made": logits_made.detach().mean()}
        module.log_dict(means)
        if self.r1_weight > 0 and step % self.r1_every == 0:
            with torch.autocast(module.device.type, enabled=False):
                real = real.detach().clone().requires_grad_()
                penalty = r1_penalty(discriminator(real), real)
            take_step(module, optimizer, self.r1_weight / 2 * self.r1_every * penalty, self.gradient_clip)
            module.log("train/r1", penalty.detach())
        self.watch.update(loss)

    def _penalty(
        self,
        module: L.LightningModule,
        discriminator: Callable[[Tensor], Tensor],
        real: Tensor,
        made: Tensor,
        step: int,
    ) -> Tensor:
        """Compute the gradient penalty at random points between pairs of a real and a generated image."""
        rows = generators(module, "gradient penalty", len(real), self.seed, step)
        share = torch.stack([torch.rand((1, 1, 1), generator=row, device=row.device) for row in rows])
        with torch.autocast(module.device.type, enabled=False):
            between = torch.lerp(made.detach().to(real.dtype), real.detach(), share.to(real.dtype)).requires_grad_()
            penalty = gradient_penalty(discriminator(between), between)
        module.log("train/gradient_penalty", penalty.detach())
        return penalty


@torch.no_grad()
def update_mean(mean: Tensor, lengths: Tensor, strategy: Strategy) -> Tensor:
    """Update the running mean of path lengths with a batch, averaged over all ranks.

    Args:
        mean: The running mean, a scalar; changed in place.
        lengths: Path lengths (N,) of this rank's batch.
        strategy: The Trainer's strategy.

    Returns:
        A copy of the new mean.
    """
    mean.lerp_(strategy.reduce(lengths.detach().mean(), reduce_op="mean"), PATH_DECAY)
    return mean.clone()
