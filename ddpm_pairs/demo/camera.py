"""A simulated camera: a source of "real" LQ images whose HQ is known.

The demo and the tests need an LQ domain that can be compared with HQ. This camera does what no handcrafted degradation
in ``ddpm_pairs.degradations`` does: it adds noise to linear light on a Bayer sensor and then develops the image. The
noise is therefore correlated across pixels and channels, smeared in chroma, sharpened in luminance, and stronger in
some channels than in others.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.degradations.base import check_batch, check_scale
from ddpm_pairs.degradations.ops.blur import blur
from ddpm_pairs.degradations.ops.draws import seed, uniform
from ddpm_pairs.degradations.ops.jpeg import jpeg
from ddpm_pairs.degradations.ops.kernels import build_kernels
from ddpm_pairs.degradations.ops.noise import luminance
from ddpm_pairs.images.pixels import round_to_8_bit
from ddpm_pairs.tensors import full_float32, to_device

OPTICS_RADIUS = 2  # in LQ pixels: more than three standard deviations of the widest optical blur
CHROMA_SIDE = 9
HALO_SIDE = 7

_AVERAGE_OF_NEIGHBORS = {
    "green": ((0, 0.25, 0), (0.25, 1, 0.25), (0, 0.25, 0)),
    "red_blue": ((0.25, 0.5, 0.25), (0.5, 1, 0.5), (0.25, 0.5, 0.25)),
}


class Camera:
    """Takes noisy snapshots like a small, cheap camera.

    The steps are optical blur, area sampling by the sensor, white-balance gains and exposure, shot and read noise in
    linear light, a Bayer mosaic (RGGB), bilinear demosaicking, gamma and a contrast curve, blurred Cb and Cr, sharpened
    luminance, and JPEG. It follows the protocol of ``ddpm_pairs.degradations.base.Degradation``.
    """

    name = "camera"

    def __init__(self, scale: int = 4) -> None:
        """Choose the scale.

        Args:
            scale: HQ size divided by LQ size: 1, 2 or 4.

        Raises:
            ValueError: If the scale is not one of these.
        """
        self.scale = check_scale(self.name, scale)

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw the parameters of one image.

        Args:
            generator: A CPU generator for this image only.

        Returns:
            A JSON-serializable dictionary: blurs in LQ pixels (``optics_x``, ``optics_y``, ``optics_angle``,
            ``chroma_sigma``, ``halo_sigma``); ``exposure``; the sensor's gains, which white balance undoes
            (``red_gain``, ``blue_gain``), and its error (``red_cast``, ``blue_cast``); noise variance ``shot`` * x +
            ``read``^2 for linear light x; ``contrast``, ``sharpening``, ``quality`` and ``noise_seed``.
        """
        ranges = {
            "optics_x": (0.35, 0.6),
            "optics_y": (0.35, 0.6),
            "optics_angle": (0.0, math.pi),
            "exposure": (0.85, 1.15),
            "red_gain": (1.6, 2.2),
            "blue_gain": (1.5, 2.0),
            "red_cast": (0.94, 1.08),
            "blue_cast": (0.94, 1.06),
            "shot": (0.0015, 0.006),
            "read": (0.002, 0.006),
            "contrast": (0.0, 0.35),
            "chroma_sigma": (0.7, 1.2),
            "halo_sigma": (0.8, 1.2),
            "sharpening": (0.5, 1.1),
            "quality": (80.0, 96.0),
        }
        drawn = {key: uniform(generator, low, high) for key, (low, high) in ranges.items()}
        return {**drawn, "noise_seed": seed(generator)}

    @torch.no_grad()
    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Photograph a batch of scenes; see ``Degradation.apply``.

        Args:
            hq: (N, 3, H, W) float in [0, 1]; H and W are multiples of ``scale``, and LQ has sides of at least 2 px (one
                Bayer cell).
            parameters: N results of ``draw``.

        Returns:
            (N, 3, H / scale, W / scale) float32 in [0, 1], rounded to multiples of 1/255.

        Raises:
            ValueError: If shapes, type, or number of parameters do not match.
        """
        check_batch(self.name, hq, parameters, self.scale)
        height, width = hq.shape[-2:]
        if min(height, width) < 2 * self.scale:
            raise ValueError(
                f"camera: got HQ of {width}x{height} px at scale {self.scale}; "
                f"expected sides of {2 * self.scale} px or more"
            )

        def column(key: str) -> Tensor:
            values = [entry[key] for entry in parameters]
            return to_device(torch.tensor(values, dtype=torch.float32), hq.device).view(-1, 1, 1, 1)

        with full_float32(hq.device):
            ones = torch.ones_like(column("exposure"))
            gains = torch.cat((column("red_gain"), ones, column("blue_gain")), dim=1)
            casts = torch.cat((column("red_cast"), ones, column("blue_cast")), dim=1)
            seeds = [entry["noise_seed"] for entry in parameters]
            scene = to_linear(self._through_lens(hq.float().contiguous(), parameters))
            raw = mosaic(scene * column("exposure") / gains)
            raw = (raw + sensor_noise(raw, column("shot"), column("read"), seeds)).clamp(0, 1)
            developed = demosaic(raw) * gains * casts
            encoded = _contrast(to_srgb(developed.clamp(0, 1)), column("contrast"))
            finished = _finish(encoded, column("sharpening"), parameters)
            return round_to_8_bit(jpeg(finished.clamp(0, 1), [entry["quality"] for entry in parameters]))

    def _through_lens(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Apply the blur of the optics and average over the cells of the sensor."""
        side = 2 * OPTICS_RADIUS * self.scale + 1
        kernels = [
            {
                "kind": "aniso",
                "side": side,
                "sigma_x": self.scale * entry["optics_x"],
                "sigma_y": self.scale * entry["optics_y"],
                "angle": entry["optics_angle"],
            }
            for entry in parameters
        ]
        return F.avg_pool2d(blur(hq, build_kernels(kernels, side)), self.scale)


def to_linear(encoded: Tensor) -> Tensor:
    """Convert sRGB values in [0, 1] to linear light (IEC 61966-2-1)."""
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055).clamp(min=0) ** 2.4)


def to_srgb(linear: Tensor) -> Tensor:
    """Convert linear light in [0, 1] to sRGB values; the inverse of ``to_linear``."""
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def mosaic(images: Tensor) -> Tensor:
    """Reduce (N, 3, H, W) to (N, 1, H, W), the one channel that each cell of an RGGB sensor sees."""
    return (images * _color_filters(images)).sum(dim=1, keepdim=True)


def demosaic(raw: Tensor) -> Tensor:
    """Interpolate the two missing channels of an RGGB mosaic bilinearly.

    The value of a channel is the weighted mean of the cells of its color within the 3x3 window, also at the border.

    Args:
        raw: (N, 1, H, W) with sides of at least 2 px.

    Returns:
        (N, 3, H, W).
    """
    filters = _color_filters(raw)
    red_blue, green = _AVERAGE_OF_NEIGHBORS["red_blue"], _AVERAGE_OF_NEIGHBORS["green"]
    weights = torch.tensor((red_blue, green, red_blue), device=raw.device).unsqueeze(1)
    return F.conv2d(raw * filters, weights, padding=1, groups=3) / F.conv2d(filters, weights, padding=1, groups=3)


def sensor_noise(raw: Tensor, shot: Tensor, read: Tensor, seeds: list[int]) -> Tensor:
    """Draw signal-dependent noise of standard deviation sqrt(shot * raw + read^2), white before demosaicking.

    Args:
        raw: (N, 1, H, W) linear light in [0, 1].
        shot: (N, 1, 1, 1) variance of the shot noise at white.
        read: (N, 1, 1, 1) standard deviation at black.
        seeds: N seeds, one per image.

    Returns:
        (N, 1, H, W) noise.
    """
    fields = [
        torch.randn(raw.shape[1:], generator=torch.Generator(raw.device).manual_seed(number), device=raw.device)
        for number in seeds
    ]
    return torch.stack(fields) * (shot * raw.clamp(min=0) + read**2).sqrt()


def _color_filters(like: Tensor) -> Tensor:
    """Return (1, 3, H, W) of zeros and ones that mark where an RGGB sensor sees R, G and B."""
    height, width = like.shape[-2:]
    odd_row = (torch.arange(height, device=like.device) % 2 == 1).view(-1, 1)
    odd_column = (torch.arange(width, device=like.device) % 2 == 1).view(1, -1)
    return torch.stack((~odd_row & ~odd_column, odd_row ^ odd_column, odd_row & odd_column)).unsqueeze(0).to(like.dtype)


def _contrast(encoded: Tensor, strength: Tensor) -> Tensor:
    """Blend with the smooth step 3 x^2 - 2 x^3, which steepens midtones and keeps black and white."""
    return encoded + strength * (encoded**2 * (3 - 2 * encoded) - encoded)


def _finish(encoded: Tensor, sharpening: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
    """Smear chroma and sharpen luminance, with halos."""

    def gaussian(images: Tensor, key: str, side: int) -> Tensor:
        kernels = [{"kind": "iso", "side": side, "sigma_x": entry[key], "sigma_y": entry[key]} for entry in parameters]
        return blur(images, build_kernels(kernels, side))

    luma = luminance(encoded)
    # Cb and Cr are multiples of two color differences, so blurring these blurs Cb and Cr
    smeared = gaussian(encoded - luma, "chroma_sigma", CHROMA_SIDE)
    return smeared + luma + sharpening * (luma - gaussian(luma, "halo_sigma", HALO_SIDE))
