"""Training a restorer against a discriminator."""

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
from ddpm_pairs.training.steps import check_precision


class Adversarial(Restorer):
    """A restorer trained to come near HQ and to pass for it: Real-ESRGAN's second phase, GPEN's fine-tuning.

    Each iteration the network takes a step against the discriminator as it is, then the discriminator one on the same
    pictures. Lightning's counters (``global_step``, ``max_steps``, validation, checkpoints, the moving average) count
    these iterations. Batches are dicts with ``hq`` and ``lq``, float32 in [0, 1].

    Args:
        net: The restorer, see ``Restorer``; path-length regularisation asks it for ``restore_with_latents``.
        discriminator: Pictures (N, 3, H, W) in [0, 1] -> logits of any shape with N first.
        pixel_loss: ``l1`` on [0, 1] (Real-ESRGAN), or ``smooth_l1`` on [-1, 1] (GPEN).
        pixel_weight: Its weight.
        perceptual: ``forward(restored, hq) -> number`` on [0, 1]; ``None`` goes without.
        perceptual_weight: Its weight.
        adversarial_weight: Weight of the adversarial loss.
        sharpen_hq: Come near sharpened HQ, as Real-ESRGAN does; the discriminator's real pictures stay as they are.
        r1_weight: gamma of R1, 10 in StyleGAN2; 0 goes without.
        r1_every: Iterations between R1's own steps of the discriminator.
        path_weight: Weight of the path-length regularisation, 2 in StyleGAN2; 0 goes without.
        path_every: Iterations between its own steps of the network.
        learning_rate: Adam's step size for the network.
        part_learning_rates: Step sizes of parts of the network, by the beginning of their weights' names.
        discriminator_learning_rate: Step size for the discriminator; ``None`` takes ``learning_rate``.
        betas: Adam's, for both.
        gradient_clip: Greatest L2 norm of the gradients of either; ``None`` leaves them.
        init_from: Start from these weights of a restorer, or, for GPEN's decoder, of a ``Prior``.
        discriminator_from: Start the discriminator from a checkpoint of ``Prior`` or ``Adversarial``, or a netD file.
        tile: See ``Restorer``.
        overlap: See ``Restorer``.
        seed: Seed of the path-length noise; the command line sets it to ``seed_everything``.

    Raises:
        UserError: for values outside their range, or weights that do not fit.
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
            raise UserError(f"pixel_loss {pixel_loss!r} is unknown: expected l1 or smooth_l1")
        rates = dict(part_learning_rates or {})
        critic_rate = learning_rate if discriminator_learning_rate is None else discriminator_learning_rate
        for name, rate in {"learning_rate": learning_rate, "discriminator_learning_rate": critic_rate, **rates}.items():
            if rate <= 0:
                raise UserError(f"the learning rate {name} is {rate}: expected more than 0")
        if path_weight > 0 and not hasattr(net, "restore_with_latents"):
            raise UserError(f"path_weight is for networks made of latents: {type(net).__name__} takes 0 only")
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
        """As ``Restorer``, and the same for the discriminator.

        Raises:
            UserError: for half precision.
        """
        super().setup(stage)
        to_channels_last(self.discriminator)
        if stage == "fit":
            check_precision(self.trainer)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the network, Adam for the discriminator."""
        fused = self.device.type == "cuda"
        return self.steps.optimizers(self.groups, self.discriminator, self.discriminator_learning_rate, fused)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """A step of the network and one of the discriminator, and those of the regularisations where they are due."""
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
        """The parts of the network's loss, weighted, by name; pictures (N, 3, H, W) in [0, 1]."""
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
    """A network's parameters with their learning rates, as Adam takes them.

    Args:
        net: The network.
        learning_rate: Of the parameters that belong to no part.
        parts: Learning rates by the beginning of the parameters' names, such as ``generator.``.

    Raises:
        UserError: if a part has no parameters.
    """
    groups: dict[str | None, list[nn.Parameter]] = {None: [], **{part: [] for part in parts}}
    for name, parameter in net.named_parameters():
        groups[next((part for part in parts if name.startswith(part)), None)].append(parameter)
    for part, parameters in groups.items():
        if part is not None and not parameters:
            raise UserError(f"part_learning_rates: no weight of {type(net).__name__} begins with {part!r}")
    rates = {None: learning_rate, **parts}
    return [{"params": members, "lr": rates[part]} for part, members in groups.items() if members]
