"""The GAN prior: a decoder trained to generate HQ faces before it becomes part of GPEN."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.initial_weights import start_decoder, start_discriminator
from ddpm_pairs.restoration.networks.gpen import StyleDecoder, StyleDiscriminator
from ddpm_pairs.restoration.networks.gpen.decoder import STYLE_DIM
from ddpm_pairs.restoration.restorer import to_channels_last
from ddpm_pairs.run import Run
from ddpm_pairs.training.gan import AdversarialSteps
from ddpm_pairs.training.losses.adversarial import generator_loss
from ddpm_pairs.training.optimizer import check_positive, check_weights_type
from ddpm_pairs.training.steps import check_precision, generators, normal


class Prior(L.LightningModule):
    """Train an unconditional GAN on HQ images (StyleGAN2, Karras et al. 2020; GPEN's first stage).

    In each iteration, the decoder takes a step, then the discriminator takes one on the same generated images.
    Lightning's counters count iterations. Batches are dicts with ``hq`` (N, 3, size, size), float32 in [0, 1].
    Validation computes nothing from its batches, but it puts the averaged weights in place, and ``PriorSamples`` shows
    what they generate.

    Args:
        net: The decoder.
        discriminator: A discriminator of the same size.
        r1_weight: gamma of R1; 0 turns it off.
        r1_every: Iterations between the discriminator's R1 steps.
        path_weight: Weight of the path-length regularization; 0 turns it off.
        path_every: Iterations between the decoder's path-length steps.
        learning_rate: Adam's step size for both networks.
        betas: Adam's, for both networks.
        gradient_clip: Largest L2 norm of each network's gradients; ``None`` does not clip.
        init_from: Initialize the decoder from a checkpoint of ``Prior`` or a StyleGAN2 generator.
        discriminator_from: Initialize the discriminator from a checkpoint of ``Prior``, or from a file of its weights.
        seed: Seed of codes and noise; the command line sets it to ``seed_everything``.

    Raises:
        UserError: If a value is out of range, or weights do not fit.
    """

    def __init__(
        self,
        net: StyleDecoder,
        discriminator: StyleDiscriminator,
        r1_weight: float = 10.0,
        r1_every: int = 16,
        path_weight: float = 2.0,
        path_every: int = 4,
        learning_rate: float = 2e-3,
        betas: tuple[float, float] = (0.0, 0.99),
        gradient_clip: float | None = None,
        init_from: str | None = None,
        discriminator_from: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive("--model.learning_rate", learning_rate)
        if net.size != discriminator.size:
            raise UserError(
                f"--model.discriminator.size: got {discriminator.size}; expected {net.size}, the size of --model.net"
            )
        self.automatic_optimization = False
        self.net, self.discriminator = net, discriminator
        if init_from is not None:
            start_decoder(net, init_from)
        if discriminator_from is not None:
            start_discriminator(discriminator, discriminator_from)
        self.learning_rate, self.seed = learning_rate, seed
        self.steps = AdversarialSteps(r1_weight, r1_every, path_weight, path_every, betas, gradient_clip, seed)
        self.register_buffer("mean_path_length", torch.zeros(()))

    def check(self, scale: int | None, crop_size: int | None = None) -> None:
        """Check that the crops have the networks' size; the scale is ignored. See ``Restorer.check``.

        Raises:
            UserError: If the crops do not have the size that the networks require.
        """
        if crop_size is not None and crop_size != self.net.size:
            raise UserError(f"--data.crop_size: got {crop_size}; expected {self.net.size}, the size of the networks")

    def check_run(self, run: Run) -> None:
        """Check that the networks fit the data of a run; see ``check``."""
        check_weights_type(run.trainer)
        self.check(None, getattr(run.data, "crop_size", None))

    def setup(self, stage: str) -> None:
        """Convert the weights to channels_last, for fast convolutions.

        Raises:
            UserError: If the precision is float16.
        """
        to_channels_last(self)
        if stage == "fit":
            check_precision(self.trainer)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return one Adam for the decoder and one for the discriminator."""
        groups = [{"params": list(self.net.parameters()), "lr": self.learning_rate}]
        return self.steps.optimizers(groups, self.discriminator, self.learning_rate, self.device.type == "cuda")

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Take a step of the decoder, one of the discriminator, and any regularization step that is due."""
        hq, step = batch["hq"], self.trainer.global_step
        optimizer, critic = self.optimizers()
        with self.toggled_optimizer(optimizer):
            made, _ = self._make(len(hq), "prior", step)
            loss = generator_loss(self.discriminator(made))
            self.steps.generator_step(self, optimizer, loss)
            if self.steps.path_due(step):
                with torch.autocast(self.device.type, enabled=False):
                    again = self._make(len(hq), "prior path", step)
                    self.steps.path_step(self, optimizer, *again, self.mean_path_length, step)
        with self.toggled_optimizer(critic):
            self.steps.discriminator_step(self, critic, self.discriminator, hq, made, step)
        self.log("train/adversarial", loss.detach(), prog_bar=True)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Do nothing; validation lets callbacks use the averaged weights."""

    @torch.no_grad()
    def samples(self, n: int) -> Tensor:
        """Generate n images (n, 3, size, size) in [0, 1], float32, from the same codes and noise at every call."""
        with torch.autocast(self.device.type, enabled=False):
            return self._make(n, "samples", 0)[0].clamp(0, 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record the kind of the checkpoint."""
        checkpoint["ddpm_pairs"] = {"kind": "prior"}

    def _make(self, n: int, stream: str, step: int) -> tuple[Tensor, Tensor]:
        """Generate images from codes and noise drawn for this step.

        Returns:
            Images (n, 3, size, size), nominally in [0, 1], and their w's (n, latents, 512).
        """
        rows = generators(self, stream, n, self.seed, step)
        latents = self.net.copies(self.net.style(normal(rows, (STYLE_DIM,))))
        noise = [normal(rows, shape) for shape in self.net.noise_shapes]
        return (self.net.decode(latents, noise) + 1) / 2, latents
