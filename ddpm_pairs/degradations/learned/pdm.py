"""PDM: a random blur kernel and random noise, each made by a small network."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_pairs.degradations.learned.exact_tiles import in_tiles
from ddpm_pairs.degradations.learned.generator import Generator, Made, ResidualBlock, conv
from ddpm_pairs.degradations.ops.draws import seed
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import pad_by_reflection
from ddpm_pairs.training.ranks import BatchNorm2d
from ddpm_pairs.training.steps import normal

KERNEL_SIDE = 21
CHANNELS = 3
"""Channels of the random fields, one number or one map each."""

INITIAL_NOISE = 0.02
"""Factor on the last layer of the noise network; its initial noise has a standard deviation of about 0.03, not 1."""

HARMONICS = 10
"""Sines with which ``quantized`` approximates rounding."""


class PDM(Generator):
    """The probabilistic degradation model of PDM-SR (Luo et al. 2022, arXiv 2203.04962): blur, decimate, add noise.

    The kernel of an image and its noise are drawn: two networks turn normal random numbers into them. The default has
    0.694 M parameters. LQ pixel i is centered at HQ pixel ``scale * i + (scale - 1) // 2``, up to half a pixel from the
    center of its cell, so that kernels without an offset keep LQ aligned with HQ.

    Args:
        scale: HQ sides over LQ sides.
        width: Number of channels of the kernel network.
        blocks: Number of its residual blocks.
        noise_width: Number of channels of the noise network; ``None`` adds no noise, but trains with LQ that is
            rounded to 8 bits by ``quantized``.
        noise_blocks: Number of its residual blocks.
        noise_sees_image: Give the blurred image to the noise network, so that noise can depend on it.
        gray_noise: Add the same noise to all three channels.
        initial_sigma: Standard deviation in HQ pixels of the Gaussian from which the kernel starts. ``None`` starts as
            the original: logits of 0 but for 1 at the center, an almost uniform kernel.

    Raises:
        UserError: If a value is out of range.
    """

    name = "pdm"
    least_batch = 2  # the kernel network normalizes over the batch alone

    def __init__(
        self,
        scale: int = 4,
        width: int = 64,
        blocks: int = 8,
        noise_width: int | None = 64,
        noise_blocks: int = 8,
        noise_sees_image: bool = False,
        gray_noise: bool = False,
        initial_sigma: float | None = None,
    ) -> None:
        arguments = {"width": width, "blocks": blocks, "noise_width": noise_width, "noise_blocks": noise_blocks}
        options = {"noise_sees_image": noise_sees_image, "gray_noise": gray_noise, "initial_sigma": initial_sigma}
        super().__init__(scale, {"scale": scale} | arguments | options)
        if initial_sigma is not None and not 0 < initial_sigma <= KERNEL_SIDE:
            raise UserError(f"pdm initial_sigma: got {initial_sigma}; expected more than 0 and at most {KERNEL_SIDE}")
        self.kernels = nn.Sequential(*_layers(CHANNELS, width, blocks, 1, KERNEL_SIDE**2))
        last = self.kernels[-1]
        with torch.no_grad():
            last.weight.mul_(0.1)  # so that the initial kernels of all images are close to the one in the bias
            last.bias.copy_(self.initial_logits(initial_sigma))
        self.noise_sees_image = noise_sees_image
        self.noise, self.radius = None, 0
        if noise_width is not None:
            channels = 2 * CHANNELS if noise_sees_image else CHANNELS
            outputs = 1 if gray_noise else 3
            self.noise = nn.Sequential(*_layers(channels, noise_width, noise_blocks, 3, outputs))
            with torch.no_grad():  # batch normalization would give the initial noise the contrast of an image
                self.noise[-1].weight.mul_(INITIAL_NOISE)
                self.noise[-1].bias.zero_()
            self.adds_noise, self.radius = True, 2 * noise_blocks + 2

    def initial_logits(self, sigma: float | None) -> Tensor:
        """Return the logits (441,) of the initial kernel; a Gaussian is centered exactly on the cell of an LQ pixel."""
        offset = torch.arange(KERNEL_SIDE) - KERNEL_SIDE // 2
        if sigma is None:
            return F.one_hot(torch.tensor(KERNEL_SIDE**2 // 2), KERNEL_SIDE**2).float()
        line = -((offset - (self.scale - 1) % 2 / 2) ** 2) / (2 * sigma**2)
        return (line[:, None] + line).flatten()

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw the seeds of the kernel and of the noise."""
        return {"kernel_seed": seed(generator), "noise_seed": seed(generator)}

    def make(self, hq: Tensor, rows: list[torch.Generator]) -> Made:
        """Turn a batch into LQ; see ``Generator.make``. The noise gives no gradient to the kernel."""
        blurred = self.blur(hq, self.kernels_of(normal(rows, (CHANNELS, 1, 1)).to(hq.dtype)))
        if self.noise is None:
            return Made(quantized(blurred))
        fields = normal(rows, (CHANNELS, *blurred.shape[-2:])).to(hq.dtype)
        noise = self.noise(self._noise_input(fields, blurred.detach()))
        return Made(blurred + noise, noise)

    def synthesize(self, hq: Tensor, parameters: dict[str, Any]) -> Tensor:
        """Turn one image into LQ; see ``Synthesizer.synthesize``."""
        rows = [torch.Generator(hq.device).manual_seed(parameters["kernel_seed"])]
        blurred = self.blur(hq, self.kernels_of(normal(rows, (CHANNELS, 1, 1))))
        if self.noise is None:
            return blurred
        rows = [torch.Generator(hq.device).manual_seed(parameters["noise_seed"])]
        fields = normal(rows, (CHANNELS, *blurred.shape[-2:]))
        return blurred + in_tiles(self.noise, self._noise_input(fields, blurred), self.tile, self.radius)

    def kernels_of(self, numbers: Tensor) -> Tensor:
        """Turn normal numbers (N, 3, 1, 1) into kernels (N, 21, 21), which are positive and sum to 1."""
        logits = self.kernels(numbers).flatten(1)
        return logits.softmax(1).view(-1, KERNEL_SIDE, KERNEL_SIDE)

    def blur(self, hq: Tensor, kernels: Tensor) -> Tensor:
        """Correlate each image (N, 3, H, W) with its kernel (N, 21, 21) at the LQ pixels."""
        radius, center = KERNEL_SIDE // 2, (self.scale - 1) // 2
        padded = pad_by_reflection(hq, radius + center)[..., 2 * center :, 2 * center :]
        # a batch is one image of 3 N channels, each with a kernel of its own
        weights = kernels.to(hq.dtype)[:, None, None].expand(-1, 3, -1, -1, -1).flatten(0, 1)
        planes = F.conv2d(padded.flatten(0, 1)[None], weights, stride=self.scale, groups=len(weights))
        return planes.view(len(hq), 3, hq.shape[-2] // self.scale, hq.shape[-1] // self.scale)

    def _noise_input(self, fields: Tensor, blurred: Tensor) -> Tensor:
        return torch.cat([fields, blurred], dim=1) if self.noise_sees_image else fields


def quantized(images: Tensor) -> Tensor:
    """Round images to multiples of 1/255 with a sine series, which has a gradient.

    x - round(x) is the sawtooth sum over k of (-1)^(k + 1) sin(2 pi k x) / (pi k); the series stops at ``HARMONICS``.
    At a distance d from the middle between two levels, its error is at most 1 / (11 pi sin(pi d)) levels.

    Args:
        images: (N, C, H, W), nominally in [0, 1].

    Returns:
        The same shape, float32 or more.
    """
    levels = 255 * images.to(torch.promote_types(images.dtype, torch.float32))
    terms = ((-1) ** (k + 1) * torch.sin(2 * math.pi * k * levels) / (math.pi * k) for k in range(1, HARMONICS + 1))
    return (levels - sum(terms)) / 255


def _layers(channels: int, width: int, blocks: int, side: int, outputs: int) -> list[nn.Module]:
    """Return a network of residual blocks with batch normalization, as a list of layers."""
    body = [ResidualBlock(width, side, nn.ReLU(), BatchNorm2d) for _ in range(blocks)]
    return [conv(channels, width, side), nn.ReLU(), *body, conv(width, outputs, side)]
