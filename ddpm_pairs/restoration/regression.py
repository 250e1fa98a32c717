"""Training a restorer to come near HQ, pixel by pixel."""

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_pairs.degradations.ops.sharpen import unsharp_mask
from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.initial_weights import start_network
from ddpm_pairs.restoration.restorer import Restorer
from ddpm_pairs.training.optimizer import adam, check_finite

LOSSES = ("l1", "charbonnier", "mse")

CHARBONNIER_EPSILON = 1e-3
"""The error, on [0, 1], below which ``charbonnier`` turns from L1 to a parabola."""


class Regression(Restorer):
    """A restorer trained with a pixel loss: the first phase of Real-ESRGAN, called Real-ESRNet (arXiv 2107.10833).

    Its settings are the defaults. Batches are dicts with ``hq`` (N, 3, H, W) and ``lq`` (N, 3, H / scale, W / scale),
    float32 in [0, 1].

    Args:
        net: The restorer, see ``Restorer``.
        loss: ``l1``; ``charbonnier``, sqrt(error^2 + 1e-6), which is smooth at 0; or ``mse``.
        learning_rate: Adam's step size; betas are 0.9 and 0.99.
        warmup_steps: Steps over which the learning rate rises linearly.
        cosine_decay: Let the learning rate fall along a half cosine to 1% at the trainer's ``max_steps``.
        sharpen_hq: Come near sharpened HQ. Real-ESRNet does where it degrades on the fly, but not on pairs from disk,
            where only Real-ESRGAN's second phase sharpens; so its two phases disagree on pairs. Leave it off for pairs
            that were made with ``sharpen_hq``, whose HQ is sharpened already.
        init_from: Start from these weights of a restorer; an RRDBNet may be of another scale.
        tile: See ``Restorer``.
        overlap: See ``Restorer``.

    Raises:
        UserError: for values outside their range, or weights that do not fit.
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
            raise UserError(f"loss {loss!r} is unknown: expected l1, charbonnier or mse")
        if learning_rate <= 0:
            raise UserError(f"learning_rate is {learning_rate}: expected more than 0")
        if warmup_steps < 0:
            raise UserError(f"warmup_steps is {warmup_steps}: expected 0 or more")
        if init_from is not None:
            start_network(net, init_from)
        self.loss, self.learning_rate, self.sharpen_hq = loss, learning_rate, sharpen_hq
        self.warmup_steps, self.cosine_decay = warmup_steps, cosine_decay

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The pixel loss of ``batch``.

        Raises:
            UserError: If it is not finite.
        """
        hq = unsharp_mask(batch["hq"]) if self.sharpen_hq else batch["hq"]
        loss = pixel_loss(self.net(batch["lq"]).float(), hq, self.loss)
        check_finite(loss, self, "a lower --model.learning_rate or with --trainer.gradient_clip_val 1.0")
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning takes several forms
        """Adam with betas (0.9, 0.99) and a learning rate that may warm up and decay."""
        return adam(self.net.parameters(), self.trainer, self.learning_rate, self.warmup_steps, self.cosine_decay)


def pixel_loss(restored: Tensor, hq: Tensor, loss: str) -> Tensor:
    """The mean loss over all numbers of two equal shapes, by its name in ``LOSSES``."""
    if loss == "l1":
        return F.l1_loss(restored, hq)
    if loss == "mse":
        return F.mse_loss(restored, hq)
    return ((restored - hq).square() + CHARBONNIER_EPSILON**2).sqrt().mean()
