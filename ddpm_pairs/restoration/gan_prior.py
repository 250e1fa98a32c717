"""The GAN prior: a decoder that learns what HQ faces look like, before GPEN embeds it."""

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
from ddpm_pairs.training.steps import check_precision, generators, normal


class Prior(L.LightningModule):
    """An unconditional GAN on HQ pictures (StyleGAN2, Karras et al. 2020; GPEN's first stage).

    Each iteration the decoder takes a step, then the discriminator one on the same made pictures; Lightning's counters
    count iterations. Batches are dicts with ``hq`` (N, 3, size, size), float32 in [0, 1]; of validation batches nothing
    is asked, but that is when the averaged weights are in place and ``PriorSamples`` shows what they make.

    Args:
        net: The decoder.
        discriminator: Of the same size.
        r1_weight: gamma of R1; 0 goes without.
        r1_every: Iterations between R1's own steps of the discriminator.
        path_weight: Weight of the path-length regularisation; 0 goes without.
        path_every: Iterations between its own steps of the decoder.
        learning_rate: Adam's step size for both.
        betas: Adam's.
        gradient_clip: Greatest L2 norm of the gradients of either; ``None`` leaves them.
        init_from: Start from a checkpoint of ``Prior`` or a StyleGAN2 generator.
        discriminator_from: Start the discriminator from a checkpoint of ``Prior``, or weights alone.
        seed: Seed of codes and noise; the command line sets it to ``seed_everything``.

    Raises:
        UserError: for values outside their range, or weights that do not fit.
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
        if learning_rate <= 0:
            raise UserError(f"learning_rate is {learning_rate}: expected more than 0")
        if net.size != discriminator.size:
            raise UserError(f"net makes pictures of {net.size} px, discriminator takes {discriminator.size}: give one")
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
        """Compare the networks with the data, as ``Restorer.check``; the scale plays no part.

        Raises:
            UserError: if the crops have another size than the networks' pictures.
        """
        if crop_size is not None and crop_size != self.net.size:
            raise UserError(f"--data.crop_size is {crop_size}, the networks take {self.net.size} px only: give that")

    def check_run(self, run: Run) -> None:
        """Compare the networks with the data of a run; see ``check``."""
        self.check(None, getattr(run.data, "crop_size", None))

    def setup(self, stage: str) -> None:
        """channels_last for fast convolutions.

        Raises:
            UserError: for half precision.
        """
        to_channels_last(self)
        if stage == "fit":
            check_precision(self.trainer)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the decoder, Adam for the discriminator."""
        groups = [{"params": list(self.net.parameters()), "lr": self.learning_rate}]
        return self.steps.optimizers(groups, self.discriminator, self.learning_rate, self.device.type == "cuda")

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """A step of the decoder and one of the discriminator, and those of the regularisations where they are due."""
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
        """Nothing; callbacks look at the averaged weights."""

    @torch.no_grad()
    def samples(self, n: int) -> Tensor:
        """The same n made pictures (n, 3, size, size) at every time, clamped to [0, 1], in float32."""
        with torch.autocast(self.device.type, enabled=False):
            return self._make(n, "samples", 0)[0].clamp(0, 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the checkpoint is."""
        checkpoint["ddpm_pairs"] = {"kind": "prior"}

    def _make(self, n: int, stream: str, step: int) -> tuple[Tensor, Tensor]:
        """Pictures (n, 3, size, size) of codes and noise drawn for this step, nominally in [0, 1], and their w's."""
        rows = generators(self, stream, n, self.seed, step)
        latents = self.net.copies(self.net.style(normal(rows, (STYLE_DIM,))))
        noise = [normal(rows, shape) for shape in self.net.noise_shapes]
        return (self.net.decode(latents, noise) + 1) / 2, latents
