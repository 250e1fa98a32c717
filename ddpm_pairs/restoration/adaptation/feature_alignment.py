"""Feature alignment: a discriminator's reversed gradient makes features of paired and real LQ indistinguishable."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.adaptation.base import Adaptation
from ddpm_pairs.restoration.adaptation.noise_space import ramp as rise
from ddpm_pairs.training.losses.adversarial import discriminator_loss
from ddpm_pairs.training.optimizer import check_positive

SLOPE = 0.2
"""Slope of the discriminator's leaky ReLU."""

SHOWN = 20
"""Most names of layers in a message."""


class FeatureDiscriminator(nn.Module):
    """Tell features of paired LQ from features of real LQ, at each position.

    Args:
        channels: Channels of the features.
        widths: Channels of the 3x3 convolutions, each followed by a leaky ReLU.

    Raises:
        UserError: If a number is below 1.
    """

    def __init__(self, channels: int = 64, widths: Sequence[int] = (64, 64)) -> None:
        super().__init__()
        widths = tuple(widths)
        if not widths or min(channels, *widths) < 1:
            raise UserError(
                f"FeatureDiscriminator: got channels {channels} and widths {list(widths)}; expected positive numbers"
            )
        self.channels, layers = channels, []
        for inputs, outputs in zip((channels, *widths), widths, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Classify features (N, channels, h, w): logits (N, 1, h, w) of coming from real LQ.

        Raises:
            UserError: If the features have another shape.
        """
        if features.ndim != 4 or features.shape[1] != self.channels:
            raise UserError(
                f"--model.discriminator.channels: got {self.channels}, but the features are {tuple(features.shape)}; "
                "expected the second of these numbers, of features (N, channels, h, w)"
            )
        return self.layers(features)


class FeatureAlignment(Adaptation):
    """Train a restorer on pairs and on real LQ, with features that do not show which of them an image is.

    A discriminator learns to tell the features of paired LQ from those of real LQ. Its gradient is reversed before it
    reaches the restorer, so the restorer increases the loss that the discriminator decreases (DANN, Ganin et al. 2016,
    arXiv 1505.07818). One optimizer trains both.

    Wang et al. (ICCV 2021) also keep the aligned features near those of real LQ with additional losses. They published
    no code, and their abstract, which is all we know, does not define these losses, so they are left out.

    The reversed gradient is multiplied by alpha = weight (2 / (1 + exp(-5 p)) - 1), where p grows from 0 to 1
    during ``ramp`` steps. In DANN, it rises the same way if ``ramp`` is half of the training. The discriminator's
    own gradient is not weighted.

    Logged are ``train/pixel``, ``train/domain`` (the discriminator's loss per image; ln 2 = 0.693 if it guesses),
    ``train/alpha``, and ``train/loss``, which is the pixel loss plus ``train/domain``.

    Args:
        net: The restorer, see ``Restorer``.
        discriminator: Features -> logits of any shape with N first, see ``FeatureDiscriminator``.
        features: Name of the layer of ``net`` whose output is aligned, as in ``named_modules``; the default is the last
            layer of an RRDBNet's trunk, before it enlarges.
        weight: Weight of the reversed gradient, of which the ramp reaches 98.7%. 0 trains on the pairs alone, as
            ``Regression`` does.
        ramp: Length of the weight's rise in steps.
        loss: Pixel loss: ``l1``, ``charbonnier``, or ``mse``, see ``Regression``.
        learning_rate: Adam's step size for restorer and discriminator.
        betas: Adam's.
        warmup_steps: Steps over which the learning rate rises linearly.
        cosine_decay: Let the learning rate decay along a half cosine to 1% at the trainer's ``max_steps``.
        init_from: Initialize the restorer from these weights; an RRDBNet may have another scale.
        tile: See ``Restorer``.
        overlap: See ``Restorer``.

    Raises:
        UserError: If a value is out of range, the restorer has no such layer, or weights do not fit.
    """

    def __init__(
        self,
        net: nn.Module,
        discriminator: nn.Module | None = None,
        features: str = "conv_body",
        weight: float = 0.01,
        ramp: int = 4000,
        loss: Literal["l1", "charbonnier", "mse"] = "l1",
        learning_rate: float = 2e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        warmup_steps: int = 0,
        cosine_decay: bool = False,
        init_from: str | None = None,
        tile: int | None = 256,
        overlap: int = 32,
    ) -> None:
        if not 0 <= weight < math.inf:
            raise UserError(f"--model.weight: got {weight}; expected 0 or more")
        check_positive("--model.ramp", ramp)
        if weight > 0 and discriminator is None:
            raise UserError("--model.discriminator: got none; expected one, such as FeatureDiscriminator")
        check_layer(net, features)
        super().__init__(
            net, loss, False, learning_rate, betas, warmup_steps, cosine_decay, init_from, tile, overlap, seed=0
        )
        self.discriminator = discriminator if weight > 0 else None
        self.features, self.weight, self.ramp = features, weight, ramp
        self._seen: list[Tensor] = []

    def needs(self) -> tuple[str, ...]:
        """Return the unpaired images in batches that the adaptation needs; none if the weight is 0."""
        return ("real",) if self.weight > 0 else ()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the losses of a batch; see ``Adaptation``."""
        with outputs_of(self.net.get_submodule(self.features), self._seen):
            return super().training_step(batch, batch_idx)

    def adaptation_loss(self, batch: dict[str, Any], restored: Tensor, draw: int) -> Tensor | None:
        """Compute the discriminator's loss, whose gradient is reversed on its way to the restorer.

        Args:
            batch: A training batch.
            restored: Restored ``batch["lq"]``, (N, 3, H, W).
            draw: Number of the batch.

        Returns:
            A scalar; ``None`` if the weight is 0.

        Raises:
            UserError: If an image does not pass the layer exactly once.
        """
        if self.weight == 0:
            return None
        self.net(batch["real"])
        if len(self._seen) != 2:  # of the pairs and of the real images
            raise UserError(
                f"--model.features: got {self.features}, which the network calls {len(self._seen) / 2:g} times per "
                "image; expected a layer that it calls once"
            )
        alpha = self.weight * rise((draw // self.trainer.accumulate_grad_batches + 1) / self.ramp)
        pairs, real = (self.discriminator(Reversal.apply(features, alpha)) for features in self._seen)
        loss = discriminator_loss(real, pairs) / 2
        self.log("train/domain", loss.detach(), prog_bar=True)
        self.log("train/alpha", alpha)
        return loss


class Reversal(torch.autograd.Function):
    """Return features unchanged, and their gradient with the opposite sign, multiplied by a weight."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: float) -> Tensor:  # noqa: ANN401 - torch's signature
        """Return the features."""
        ctx.weight = weight
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        """Return the reversed gradient of the features, and none of the weight."""
        return -ctx.weight * gradient, None


@contextmanager
def outputs_of(layer: nn.Module, outputs: list[Tensor]) -> Iterator[None]:
    """Append the output of every call of a layer inside the block to a list, which is emptied at its end."""
    handle = layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output))
    try:
        yield
    finally:
        handle.remove()
        outputs.clear()


def check_layer(net: nn.Module, name: str) -> None:
    """Check that a network has a layer.

    Raises:
        UserError: If it has none; the message lists names, starting with the outermost layers.
    """
    names = [one for one, _ in net.named_modules() if one]
    if name in names:
        return
    shown = sorted(names, key=lambda one: one.count("."))[:SHOWN]
    more = ", ..." if len(names) > SHOWN else ""
    raise UserError(
        f"--model.features: got {name!r}; expected a layer of {type(net).__name__}: {', '.join(shown)}{more}"
    )
