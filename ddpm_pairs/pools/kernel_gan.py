"""KernelGAN: estimate the blur of one image from the image alone (Bell-Kligler et al., arXiv 1909.06581).

Small patches of a natural image recur at other scales of the same image. So the kernel that made the image out of a
sharper one of twice the size is also the kernel that halves the image without a change in how its patches look. A
linear generator halves crops of the image, and a discriminator that sees patches of 7 px tells halved crops from native
crops. Both play the least-absolute-deviation form of LSGAN. As the paper says, the generator is regularized, crops with
strong gradients are drawn more often, and at first the generator learns to imitate bicubic downscaling.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ddpm_pairs.images.pixels import resize_bicubic

SIDES = (7, 5, 3, 1, 1, 1)
"""Sides of the generator's kernels in px; the last convolution has stride 2."""
KERNEL_SIDE = 1 + sum(side - 1 for side in SIDES)
CENTER = KERNEL_SIDE // 2 + 0.5
"""Row and column of the center of a kernel that halves an image without moving it: between the four middle pixels."""
WIDTH = 64
CROP = 64
"""Side in px of the crops that are halved."""
HALVED = (CROP - KERNEL_SIDE) // 2 + 1
"""Side in px of halved crops, and of the native crops they are compared with."""

WARM_UP = 200
"""Number of iterations in which the generator imitates bicubic downscaling."""
RATE, BETAS, RATE_DROPS_EVERY = 2e-4, (0.5, 0.999), 750
BICUBIC, SUM_TO_ONE, BOUNDARIES, CENTERED, SPARSE = 5.0, 0.5, 0.5, 1.0, 5.0
"""Weights of the terms of the generator's loss besides the adversarial one."""

_OFFSETS = torch.arange(KERNEL_SIDE) - CENTER
_RADIUS = torch.hypot(_OFFSETS[:, None], _OFFSETS[None, :])
_BORDER = torch.exp(_RADIUS - _RADIUS.max())
"""Costs of taps; they grow exponentially with the distance from the center."""


class NoKernel(ValueError):  # noqa: N818 - a finding, not a fault
    """No kernel can be estimated from an image; the message says why."""


class Generator(nn.Module):
    """Six convolutions without bias or activation. Together they are one convolution, whose kernel is all that is used.

    Convolving with that kernel gives the same images and gradients as the six layers, at a small part of the cost. The
    layers still matter: gradient descent on a product of matrices finds better kernels than on the kernel itself.
    """

    def __init__(self) -> None:
        super().__init__()
        channels = [1, *[WIDTH] * (len(SIDES) - 1), 1]
        layers = zip(channels[:-1], channels[1:], SIDES, strict=True)
        self.layers = nn.ModuleList(nn.Conv2d(before, after, side, bias=False) for before, after, side in layers)
        for layer in self.layers:
            nn.init.xavier_normal_(layer.weight, gain=0.1)

    def forward(self) -> Tensor:
        """Return the kernel that the layers make together, (KERNEL_SIDE, KERNEL_SIDE)."""
        kernel = self.layers[0].weight.new_ones(1, 1, 1, 1)
        for layer in reversed(self.layers):
            kernel = F.conv_transpose2d(kernel, layer.weight)
        return kernel[0, 0]


class Discriminator(nn.Module):
    """Score every patch of 7 px: one convolution, then layers on each pixel's features, with spectral normalization.

    Args:
        blocks: Number of hidden layers, each normalized over the pixels of an image. (The paper's batch normalization
            of a single image is the same.)
    """

    def __init__(self, blocks: int = 5) -> None:
        super().__init__()
        self.first = spectral_norm(nn.Conv2d(3, WIDTH, 7))
        self.hidden = nn.ModuleList(spectral_norm(nn.Linear(WIDTH, WIDTH, bias=False)) for _ in range(blocks))
        self.gains = nn.ParameterList(torch.ones(WIDTH, 1, 1) for _ in range(blocks))
        self.biases = nn.ParameterList(torch.zeros(WIDTH, 1, 1) for _ in range(blocks))
        self.last = spectral_norm(nn.Linear(WIDTH, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the probability that each patch is native, (N, patches), for images (N, 3, H, W)."""
        features = self.first(images).flatten(2).transpose(0, 1)  # (WIDTH, N, patches): layers are single products
        shape = features.shape
        for layer, gain, bias in zip(self.hidden, self.gains, self.biases, strict=True):
            features = (layer.weight @ features.reshape(WIDTH, -1)).view(shape)
            features = F.relu(torch.addcmul(bias, gain, F.layer_norm(features, shape[2:])))
        return torch.sigmoid(self.last.weight @ features.view(WIDTH, -1) + self.last.bias).view(shape[1:])


def estimate_kernel(image: Tensor, iterations: int, seed: int) -> Tensor:
    """Estimate the kernel of an image for a factor of 2.

    One thread is used, so that the result depends on nothing but the arguments.

    Args:
        image: (3, H, W), float32 in [0, 1].
        iterations: Number of steps; the paper takes 3000.
        seed: Seed of weights and crops.

    Returns:
        (KERNEL_SIDE, KERNEL_SIDE) float32, as it was learned: the taps of a correlation, see ``halve``.

    Raises:
        NoKernel: If the image is smaller than a crop, or has a single color.
    """
    height, width = image.shape[1:]
    if min(height, width) < CROP:
        raise NoKernel(f"{width}x{height} px, smaller than a crop of {CROP} px")
    gradients = torch.stack(torch.gradient(image.mean(dim=0))).norm(dim=0)
    if gradients.max() == 0:
        raise NoKernel("it has a single color")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _learned(image * 2 - 1, gradients, iterations)
    finally:
        torch.set_num_threads(threads)


def halve(images: Tensor, kernel: Tensor) -> Tensor:
    """Blur with a kernel and keep every second pixel, without padding.

    Args:
        images: (N, C, H, W).
        kernel: (k, k); output pixel (i, j) is the sum of ``kernel[y, x] * images[..., 2 i + y, 2 j + x]``.

    Returns:
        (N, C, (H - k) // 2 + 1, (W - k) // 2 + 1).
    """
    planes = F.conv2d(images.flatten(0, 1).unsqueeze(1), kernel[None, None], stride=2)
    return planes.view(*images.shape[:2], *planes.shape[-2:])


def _learned(image: Tensor, gradients: Tensor, iterations: int) -> Tensor:
    generator, discriminator = Generator(), Discriminator()
    optimizer = torch.optim.Adam([*generator.parameters(), *discriminator.parameters()], RATE, BETAS, fused=True)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, RATE_DROPS_EVERY, 0.1)
    places = zip(_corners(gradients, CROP, iterations), _corners(gradients, HALVED, iterations), strict=True)
    for number, ((top, left), (native_top, native_left)) in enumerate(places):
        crop = image[None, :, top : top + CROP, left : left + CROP]
        native = image[None, :, native_top : native_top + HALVED, native_left : native_left + HALVED]
        kernel = generator()
        halved = halve(crop, kernel)
        seen = halved.detach().requires_grad_()
        optimizer.zero_grad()
        of_native, of_halved = discriminator(torch.cat([native, seen])).mean(dim=1)
        ((1 - of_native + of_halved) / 2).backward()
        # The generator's adversarial loss, 1 - D(halved), has -2 times the gradient that the line above left in `seen`.
        loss = _penalty(kernel, number >= WARM_UP)
        if number < WARM_UP:
            loss = loss + BICUBIC * F.mse_loss(halved, _bicubic(crop))
        torch.autograd.backward([halved, loss], [-2 * seen.grad, None])
        optimizer.step()
        schedule.step()
    return generator().detach()


def _corners(gradients: Tensor, side: int, count: int) -> list[list[int]]:
    """Draw crops with probabilities in proportion to the gradients inside; returns [top, left] of each."""
    strength = F.avg_pool2d(gradients[None, None], side, stride=1)[0, 0]
    drawn = torch.multinomial(strength.flatten(), count, replacement=True)
    return torch.stack([drawn // strength.shape[1], drawn % strength.shape[1]], dim=1).tolist()


def _penalty(kernel: Tensor, warm: bool) -> Tensor:
    """Ask for a sum of one and a dark border and, after the warm-up, for a centered kernel with few taps."""
    total, taps = kernel.sum(), kernel.abs()
    penalty = SUM_TO_ONE * (1 - total).abs() + BOUNDARIES * (taps * _BORDER).sum()
    if not warm:
        return penalty
    center = torch.stack([kernel.sum(dim=1) @ _OFFSETS, kernel.sum(dim=0) @ _OFFSETS]) / total
    return penalty + CENTERED * center.norm() + SPARSE * (taps + 1e-8).sqrt().mean()


def _bicubic(crop: Tensor) -> Tensor:
    """Halve by bicubic interpolation the part of a crop that ``halve`` keeps."""
    first = int(CENTER) // 2
    return resize_bicubic(crop, (CROP // 2, CROP // 2))[..., first : first + HALVED, first : first + HALVED]
