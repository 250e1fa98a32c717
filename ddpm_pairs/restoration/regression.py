"""Train a restorer with a pixel loss."""

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_pairs.degradations.ops.sharpen import unsharp_mask
from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.initial_weights import start_network
from ddpm_pairs.restoration.restorer import Restorer
from ddpm_pairs.run import Run
from ddpm_pairs.training.optimizer import adam, check_decay, check_finite, check_schedule

LOSSES = ("l1", "charbonnier", "mse")

CHARBONNIER_EPSILON = 1e-3
"""The error, on [0, 1], below which ``charbonnier`` changes from L1 to a parabola."""


class Regression(Restorer):
    """Train a restorer with a pixel loss: the first phase of Real-ESRGAN, called Real-ESRNet (arXiv 2107.10833).

    The defaults are Real-ESRNet's settings. Batches are dicts with ``hq`` (N, 3, H, W) and ``lq``
    (N, 3, H / scale, W / scale), float32 in [0, 1].

    Args:
        net: The restorer, see ``Restorer``.
        loss: ``l1``; ``charbonnier``, sqrt(error^2 + 1e-6), which is smooth at 0; or ``mse``.
        learning_rate: Adam's step size. Adam's betas are 0.9 and 0.99.
        warmup_steps: Steps over which the learning rate rises linearly.
        cosine_decay: Let the learning rate decay along a half cosine to 1% at the trainer's ``max_steps``.
        sharpen_hq: Use sharpened HQ as the target. Real-ESRNet does so when it degrades on the fly, but not for pairs
            from disk, for which only Real-ESRGAN's second phase sharpens. Leave it off for pairs made with
            ``sharpen_hq``, whose HQ is already sharpened.
        init_from: Initialize the network from these weights of a restorer; an RRDBNet may have another scale.
        tile: See ``Restorer``.
        overlap: See ``Restorer``.

    Raises:
        UserError: If a value is out of range, or weights do not fit.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Literal["l1", "charbonnier", "mse"] = "l1",
        learning_rate: float = 2e-4,
        warmup_steps: int = 0,
        cosine_decay: bool = False,
        sharpen_hq: bool = False,
        init_from: str | None = None,
        tile: int | None = 256,
        overlap: int = 32,
    ) -> None:
        super().__init__(net, tile, overlap)
        if loss not in LOSSES:
            raise UserError(f"--model.loss: got {loss!r}; expected l1, charbonnier, or mse")
        check_schedule(learning_rate, warmup_steps)
        if init_from is not None:
            start_network(net, init_from)
        self.loss, self.learning_rate, self.sharpen_hq = loss, learning_rate, sharpen_hq
        self.warmup_steps, self.cosine_decay = warmup_steps, cosine_decay

    def check_run(self, run: Run) -> None:
        """Check the decay, and that the network fits the data; see ``Restorer``."""
        super().check_run(run)
        if run.verb == "fit":
            check_decay(self.cosine_decay, run.trainer)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the pixel loss of a batch.

        Raises:
            UserError: If the loss is not finite.
        """
        hq = unsharp_mask(batch["hq"]) if self.sharpen_hq else batch["hq"]
        loss = pixel_loss(self.net(batch["lq"]).float(), hq, self.loss)
        check_finite(loss, self, "a lower --model.learning_rate or with --trainer.gradient_clip_val 1.0")
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning accepts several forms
        """Return Adam with betas (0.9, 0.99) and the learning rate's warmup and decay."""
        return adam(self.net.parameters(), self.trainer, self.learning_rate, self.warmup_steps, self.cosine_decay)


def pixel_loss(restored: Tensor, hq: Tensor, loss: str) -> Tensor:
    """Return the loss with this name in ``LOSSES``, averaged over all elements of two tensors of equal shape."""
    if loss == "l1":
        return F.l1_loss(restored, hq)
    if loss == "mse":
        return F.mse_loss(restored, hq)
    return ((restored - hq).square() + CHARBONNIER_EPSILON**2).sqrt().mean()
