"""The losses by which a generator and a discriminator compete; each is a pair of functions of logits."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ddpm_pairs.errors import UserError
from ddpm_pairs.training.losses.adversarial import discriminator_loss, generator_loss
from ddpm_pairs.training.ranks import mean_over_ranks


class Competition(ABC):
    """An adversarial loss. Logits have any shape with N first; results are scalars, at least float32.

    Attributes:
        undecided: The discriminator's loss if it guesses.
        bounded: Whether the discriminator's loss is 0 if it is always right, and never less.
        uses_real: Whether the generator's loss depends on the logits of real images.
    """

    undecided: ClassVar[float]
    bounded: ClassVar[bool] = True
    uses_real: ClassVar[bool] = False

    @abstractmethod
    def generator(self, made: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the generator's loss, from the logits of generated images and, if it uses them, of real ones."""

    @abstractmethod
    def discriminator(self, real: Tensor, made: Tensor) -> Tensor:
        """Return the discriminator's loss, from the logits of real and of generated images."""


class Logistic(Competition):
    """Binary cross-entropy, with the generator's non-saturating form (Goodfellow et al. 2014)."""

    undecided = 2 * math.log(2)

    def generator(self, made: Tensor, real: Tensor | None = None) -> Tensor:
        """Mean of softplus(-logit)."""
        return generator_loss(made)

    def discriminator(self, real: Tensor, made: Tensor) -> Tensor:
        """Mean of softplus(-real) plus mean of softplus(made)."""
        return discriminator_loss(real, made)


class LeastSquares(Competition):
    """Squared distance from 1 for real images and 0 for generated ones (LSGAN, Mao et al. 2017)."""

    undecided = 0.5

    def generator(self, made: Tensor, real: Tensor | None = None) -> Tensor:
        """Mean squared distance from 1."""
        return (_exact(made) - 1).square().mean()

    def discriminator(self, real: Tensor, made: Tensor) -> Tensor:
        """Mean squared distance of real from 1 plus that of generated from 0."""
        return (_exact(real) - 1).square().mean() + _exact(made).square().mean()


class Hinge(Competition):
    """Hinge loss: real logits should exceed 1, generated ones should be below -1 (Lim and Ye 2017)."""

    undecided = 2.0

    def generator(self, made: Tensor, real: Tensor | None = None) -> Tensor:
        """Mean logit, negative."""
        return -_exact(made).mean()

    def discriminator(self, real: Tensor, made: Tensor) -> Tensor:
        """Mean of max(0, 1 - real) plus mean of max(0, 1 + made)."""
        return F.relu(1 - _exact(real)).mean() + F.relu(1 + _exact(made)).mean()


class RelativisticAverage(Competition):
    """Logistic loss of logits minus the mean logit of the other kind (RaGAN, Jolicoeur-Martineau 2019).

    The means are those of the batches of all ranks.
    """

    undecided = 2 * math.log(2)
    uses_real = True

    def generator(self, made: Tensor, real: Tensor | None = None) -> Tensor:
        """Half of the discriminator's loss with real and generated exchanged, as in ESRGAN."""
        return self.discriminator(made, real) / 2

    def discriminator(self, real: Tensor, made: Tensor) -> Tensor:
        """Mean of softplus(mean(made) - real) plus mean of softplus(made - mean(real))."""
        real, made = _exact(real), _exact(made)
        real_mean, made_mean = mean_over_ranks(torch.stack([real.mean(), made.mean()])).unbind()
        return F.softplus(made_mean - real).mean() + F.softplus(made - real_mean).mean()


class Wasserstein(Competition):
    """Difference of mean logits (WGAN, Arjovsky et al. 2017); needs ``gradient_penalty``."""

    undecided = 0.0
    bounded = False

    def generator(self, made: Tensor, real: Tensor | None = None) -> Tensor:
        """Mean logit, negative."""
        return -_exact(made).mean()

    def discriminator(self, real: Tensor, made: Tensor) -> Tensor:
        """Mean logit of generated minus that of real."""
        return _exact(made).mean() - _exact(real).mean()


COMPETITIONS: dict[str, type[Competition]] = {
    "logistic": Logistic,
    "least_squares": LeastSquares,
    "relativistic": RelativisticAverage,
    "wasserstein": Wasserstein,
}
"""The adversarial losses by their names in configs."""


def competition(adversarial_loss: str, gradient_penalty: float) -> Competition:
    """Return an adversarial loss from the options of a module.

    Args:
        adversarial_loss: A name in ``COMPETITIONS``.
        gradient_penalty: Weight of the gradient penalty.

    Raises:
        UserError: If there is no such loss, or it needs the gradient penalty and has none.
    """
    if adversarial_loss not in COMPETITIONS:
        raise UserError(f"--model.adversarial_loss: got {adversarial_loss!r}; expected {', '.join(COMPETITIONS)}")
    if adversarial_loss == "wasserstein" and gradient_penalty == 0:
        raise UserError("--model.gradient_penalty: got 0; expected more, such as 10, for the wasserstein loss")
    return COMPETITIONS[adversarial_loss]()


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Mean squared distance from 1 of the norm of the discriminator's gradient (WGAN-GP, Gulrajani et al. 2017).

    Args:
        logits: Logits of ``images``, any shape with N first, attached to the graph. Those of an image are averaged.
        images: Images between real and generated ones (N, 3, H, W), a leaf that requires a gradient.

    Returns:
        A scalar, attached to the graph.
    """
    scores = _exact(logits).flatten(1).mean(1)
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def _exact(logits: Tensor) -> Tensor:
    """Convert to float32 or more, for any precision of the network."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
