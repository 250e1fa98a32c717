"""The adversarial loss and its two regularizations."""

import torch
from torch import Tensor
from torch.nn import functional as F


def generator_loss(made: Tensor) -> Tensor:
    """Non-saturating logistic loss of the generator: mean of softplus(-logit) (Goodfellow et al. 2014).

    StyleGAN2's softplus and Real-ESRGAN's "vanilla" binary cross-entropy with logits against the label 1 are the same
    function.

    Args:
        made: The discriminator's logits of generated images, any shape.

    Returns:
        A scalar, at least float32.
    """
    return F.softplus(-_exact(made)).mean()


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """Logistic loss of the discriminator: mean of softplus(-real) plus mean of softplus(made).

    It is 2 ln 2 = 1.386 for a discriminator that guesses, and 0 for one that is always right.

    Args:
        real: Logits of real images, any shape.
        made: Logits of generated images, any shape.

    Returns:
        A scalar, at least float32.
    """
    return F.softplus(-_exact(real)).mean() + F.softplus(_exact(made)).mean()


def r1_penalty(logits: Tensor, pictures: Tensor) -> Tensor:
    """Mean squared norm of the discriminator's gradient at real images (Mescheder et al. 2018, Eq. 9).

    Args:
        logits: Logits of ``pictures``, any shape with N first, attached to the graph.
        pictures: Real images (N, 3, H, W) in [0, 1], a leaf that requires a gradient.

    Returns:
        A scalar, attached to the graph. As in StyleGAN2, the gradient is taken with respect to images in [-1, 1], so it
        is half of that in [0, 1].
    """
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return (gradient / 2).square().sum(dim=(1, 2, 3)).mean()


def path_lengths(pictures: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
    """Path length |J^T y| of each image: how far it moves with its latents (Karras et al. 2020, section 3.2).

    Args:
        pictures: Images (N, 3, H, W), attached to the graph; in [-1, 1] for StyleGAN2's values.
        latents: (N, L, C), the latents from which the images are generated, a w for each of the generator's L layers.
        noise: y, standard normal, of the images' shape; divided here by sqrt(H W).

    Returns:
        (N,), attached to the graph: the root of the squared norms averaged over the layers.
    """
    height, width = pictures.shape[2:]
    (gradient,) = torch.autograd.grad((pictures * noise).sum() / (height * width) ** 0.5, latents, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def path_length_penalty(lengths: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of path lengths (N,) from ``target``, their running mean without a graph."""
    return (lengths - target).square().mean()


def _exact(logits: Tensor) -> Tensor:
    """Convert to float32 or more, for any precision of the network."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
