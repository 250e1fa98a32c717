"""The steps of an iteration in which two networks are trained against each other."""

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer

from ddpm_pairs.errors import UserError
from ddpm_pairs.training.gan import REMEDY, adam, follow, generators, normal, take_step
from ddpm_pairs.training.losses.adversarial import (
    discriminator_loss,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)
from ddpm_pairs.training.optimizer import check_finite
from ddpm_pairs.training.watch import DiscriminatorWatch


class Game:
    """Both players' optimizers, and the steps that restorers and priors have in common.

    The modules that play have ``discriminator`` and a buffer ``mean_path_length``, and optimize manually. Of the steps
    of an iteration the Trainer counts the generator's main one only.

    Args:
        r1_weight: gamma of R1; 0 goes without.
        r1_every: Iterations between R1's own steps of the discriminator.
        path_weight: Weight of the path-length regularisation; 0 goes without.
        path_every: Iterations between its own steps of the generator.
        betas: Adam's, for both.
        gradient_clip: Greatest L2 norm of the gradients of either; ``None`` leaves them.
        seed: Of the path-length noise.

    Raises:
        UserError: for values outside their range.
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
    ) -> None:
        for name, every in (("r1_every", r1_every), ("path_every", path_every)):
            if every < 1:
                raise UserError(f"{name} is {every}: expected 1 or more")
        for name, weight in (("r1_weight", r1_weight), ("path_weight", path_weight)):
            if weight < 0:
                raise UserError(f"{name} is {weight}: expected 0 or more")
        if gradient_clip is not None and gradient_clip <= 0:
            raise UserError(f"gradient_clip is {gradient_clip}: expected more than 0, or null")
        self.r1_weight, self.r1_every = r1_weight, r1_every
        self.path_weight, self.path_every = path_weight, path_every
        self.betas, self.gradient_clip, self.seed = (float(betas[0]), float(betas[1])), gradient_clip, seed
        self.watch = DiscriminatorWatch()

    def optimizers(self, module: L.LightningModule, groups: list[dict], discriminator_rate: float) -> list[Optimizer]:
        """Adam for the generator's groups of parameters, and Adam for the discriminator."""
        critics = [{"params": list(module.discriminator.parameters()), "lr": discriminator_rate}]
        path_every = self.path_every if self.path_weight > 0 else None
        r1_every = self.r1_every if self.r1_weight > 0 else None
        fused = module.device.type == "cuda"
        return [adam(groups, self.betas, path_every, fused), adam(critics, self.betas, r1_every, fused)]

    def generator_step(self, module: L.LightningModule, optimizer: LightningOptimizer, loss: Tensor) -> None:
        """The generator's main step, the one that is counted."""
        check_finite(loss, module, REMEDY)
        take_step(module, optimizer, loss, self.gradient_clip, counted=True)

    def path_due(self, step: int) -> bool:
        """Whether the generator's path lengths are regularised in iteration ``step``."""
        return self.path_weight > 0 and step % self.path_every == 0

    def path_step(
        self, module: L.LightningModule, optimizer: LightningOptimizer, pictures: Tensor, latents: Tensor, step: int
    ) -> None:
        """Regularise path lengths; made pictures in [0, 1] and their latents, with their graph, in float32."""
        noise = normal(generators(module, "path", len(pictures), self.seed, step), pictures.shape[1:])
        lengths = path_lengths(pictures * 2 - 1, latents, noise)
        mean = follow(module.mean_path_length, lengths, module.trainer.strategy)
        loss = self.path_weight * self.path_every * path_length_penalty(lengths, mean)
        take_step(module, optimizer, loss, self.gradient_clip)
        module.log("train/path_length", lengths.detach().mean())

    def discriminator_step(
        self, module: L.LightningModule, critic: LightningOptimizer, real: Tensor, made: Tensor, step: int
    ) -> None:
        """The discriminator's step on real and made pictures in [0, 1], and that of R1 where it is due."""
        logits_real, logits_made = module.discriminator(real), module.discriminator(made.detach())
        loss = discriminator_loss(logits_real, logits_made)
        check_finite(loss, module, REMEDY, step)
        take_step(module, critic, loss, self.gradient_clip)
        module.log("train/discriminator", loss.detach(), prog_bar=True)
        means = {"train/logit_real": logits_real.detach().mean(), "train/logit_made": logits_made.detach().mean()}
        module.log_dict(means)
        if self.r1_weight > 0 and step % self.r1_every == 0:
            with torch.autocast(module.device.type, enabled=False):
                real = real.detach().clone().requires_grad_()
                penalty = r1_penalty(module.discriminator(real), real)
            take_step(module, critic, self.r1_weight / 2 * self.r1_every * penalty, self.gradient_clip)
            module.log("train/r1", penalty.detach())
        self.watch.update(loss)
