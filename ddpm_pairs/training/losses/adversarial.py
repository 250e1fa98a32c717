"""The adversarial loss and its two regularisations."""

import torch
from torch import Tensor
from torch.nn import functional as F


def generator_loss(made: Tensor) -> Tensor:
    """How surely the discriminator recognises what the generator made: mean of softplus(-logit).

    The non-saturating logistic loss (Goodfellow et al. 2014), under whichever name: StyleGAN2's softplus, and
    Real-ESRGAN's "vanilla" binary cross-entropy with logits against the label 1, are this same function.

    Args:
        made: The discriminator's logits of made pictures, any shape.

    Returns:
        A number, float32 for lesser logits.
    """
    return F.softplus(-_exact(made)).mean()


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """How often the discriminator errs: mean of softplus(-logit) of real plus mean of softplus(logit) of made.

    It is 2 ln 2 = 1.386 for a discriminator that knows nothing, and 0 for one that is always right.

    Args:
        real: Logits of real pictures, any shape.
        made: Logits of made pictures, any shape.

    Returns:
        A number, float32 for lesser logits.
    """
    return F.softplus(-_exact(real)).mean() + F.softplus(_exact(made)).mean()


def r1_penalty(logits: Tensor, pictures: Tensor) -> Tensor:
    """Mean squared norm of the discriminator's gradient at real pictures (Mescheder et al. 2018, Eq. 9).

    Args:
        logits: Of ``pictures``, any shape with N first, with their graph.
        pictures: (N, 3, H, W) in [0, 1], leaves that require a gradient.

    Returns:
        A number with a graph. As in StyleGAN2, the gradient is that at pictures in [-1, 1], half of that here.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return (gradient / 2).square().sum(dim=(1, 2, 3)).mean()


def path_lengths(pictures: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
    """How far each picture moves with its latents: |J^T y| (Karras et al. 2020, section 3.2).

    Args:
        pictures: (N, 3, H, W), with their graph; in [-1, 1], for StyleGAN2's numbers.
        latents: (N, L, C) of which the pictures are made, a w for each of the generator's L places.
        noise: y, standard normal, of the pictures' shape; divided here by sqrt(H W).

    Returns:
        (N,) with a graph, the root of the mean over the places of the squared norms.
    """
    height, width = pictures.shape[2:]
    (gradient,) = torch.autograd.grad((pictures * noise).sum() / (height * width) ** 0.5, latents, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def path_length_penalty(lengths: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of path lengths (N,) from their running mean, a number without a graph."""
    return (lengths - target).square().mean()


def _exact(logits: Tensor) -> Tensor:
    """At least float32, whatever the network computes in."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
