"""Base of restorers that learn from pairs and from real LQ images without HQ."""

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.regression import Regression, pixel_loss
from ddpm_pairs.run import Run
from ddpm_pairs.training.optimizer import adam, check_finite


class Adaptation(Regression):
    """Base: the pixel loss of ``Regression`` on pairs, plus a term on real LQ images that a subclass computes.

    Batches are dicts with ``hq`` (N, 3, H, W), ``lq`` and ``real`` (N, 3, H / scale, W / scale), float32 in [0, 1], as
    from ``AdaptationImages``. One optimizer trains all weights of the module. Networks that only training needs are
    attributes besides ``net``: they are in the checkpoint, but ``test``, ``predict``, and ``export`` do not read them.

    Args:
        net: The restorer, see ``Restorer``.
        loss: Pixel loss, see ``Regression``.
        signed: Compute the losses on images in [-1, 1] instead of [0, 1].
        learning_rate: Adam's step size.
        betas: Adam's.
        warmup_steps: Steps over which the learning rate rises linearly.
        cosine_decay: Let the learning rate decay to 1%, see ``Regression``.
        init_from: Initialize the restorer from these weights.
        tile: See ``Restorer``.
        overlap: See ``Restorer``.
        seed: Seed of everything random.

    Raises:
        UserError: If a value is out of range, or weights do not fit.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: str,
        signed: bool,
        learning_rate: float,
        betas: tuple[float, float],
        warmup_steps: int,
        cosine_decay: bool,
        init_from: str | None,
        tile: int | None,
        overlap: int,
        seed: int,
    ) -> None:
        super().__init__(
            net, loss, learning_rate, warmup_steps, cosine_decay, init_from=init_from, tile=tile, overlap=overlap
        )
        if not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"--model.betas: got {list(betas)}; expected two numbers from 0 to less than 1")
        self.signed, self.betas, self.seed = signed, tuple(betas), seed

    @abstractmethod
    def adaptation_loss(self, batch: dict[str, Any], restored: Tensor, draw: int) -> Tensor | None:
        """Compute the weighted term on real LQ, and log its parts.

        Args:
            batch: A training batch.
            restored: Restored ``batch["lq"]``, (N, 3, H, W), float32, not clamped.
            draw: Number of the batch, counted from the start of the run, which seeds random numbers.

        Returns:
            A scalar; ``None`` trains on the pairs alone.
        """

    def check_run(self, run: Run) -> None:
        """Check that a fit has real images, besides the checks of ``Regression``."""
        super().check_run(run)
        given = getattr(run.data, "unpaired_dirs", {})
        if run.verb == "fit" and (missing := [name for name in self.needs() if name not in given]):
            options = {"real": "--data.lq_dir", "clean": "--data.clean_dir"}
            raise UserError(
                f"--data: got {type(run.data).__name__} without {' and '.join(missing)} images; expected "
                f"AdaptationImages with {' and '.join(options[name] for name in self.needs())}"
            )

    def needs(self) -> tuple[str, ...]:
        """Return the unpaired images in batches, ``real`` or ``clean``, that the adaptation needs."""
        return ("real",)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the pixel loss of the pairs plus the term on real images.

        Raises:
            UserError: If the loss is not finite.
        """
        restored = self.net(batch["lq"]).float()
        loss = pixel = pixel_loss(self.in_range(restored), self.in_range(batch["hq"]), self.loss)
        accumulated = self.trainer.accumulate_grad_batches
        draw = self.trainer.global_step * accumulated + batch_idx % accumulated
        term = self.adaptation_loss(batch, restored, draw)
        if term is not None:
            loss = pixel + term
        check_finite(loss, self, "a lower --model.learning_rate or with --trainer.gradient_clip_val 1.0")
        self.log_dict({"train/loss": loss.detach(), "train/pixel": pixel.detach()}, prog_bar=True)
        return loss

    def in_range(self, images: Tensor) -> Tensor:
        """Convert images in [0, 1] to the range of the losses."""
        return images * 2 - 1 if self.signed else images

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning accepts several forms
        """Return one Adam over all weights, and the learning rate's warmup and decay."""
        options = self.learning_rate, self.warmup_steps, self.cosine_decay
        return adam(self.parameters(), self.trainer, *options, betas=self.betas)
