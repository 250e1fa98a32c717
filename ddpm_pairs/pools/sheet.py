"""The contact sheet of pools: kernels as gray images with their shapes, and noise with its strength and grain."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ddpm_pairs.degradations.learned.pools import RealSR, lay_noise
from ddpm_pairs.pools.kernels import shape_of
from ddpm_pairs.reports.contact_sheet import Entry, save_sheet, spread

SHOWN = 24
SIDE = 128
"""Side of the noise that is shown, px."""
AMPLIFIED = 8


def save_pools_sheet(path: Path, net: RealSR, kernels_from: list[str], noise_from: list[str]) -> None:
    """Show up to 24 kernels and the noise of as many images; a kernel and the noise in its row are not related.

    Args:
        path: The PNG to write.
        net: The pools.
        kernels_from: Source image of each kernel.
        noise_from: Source image of each noise patch.
    """
    groups = net.sources.unique().tolist()
    rows = min(max(len(net.kernels), len(groups)), SHOWN)
    entries = []
    for kernel, group in zip(_places(len(net.kernels), rows), _places(len(groups), rows), strict=True):
        alike = net.sources == groups[group]
        patches = net.patches[alike]
        title = f"{kernels_from[kernel]}: {kernel_words(net.kernels[kernel])}"
        text = f"{noise_from[int(alike.nonzero()[0])]}: {noise_words(patches)}"
        entries.append(Entry((_kernel_image(net.kernels[kernel]), _noise_image(patches, group)), title, text))
    heading = (
        f"RealSR's pools, scale {net.scale}, kernels: {len(net.kernels)}, noise patches: {len(net.patches)} "
        f"of {len(set(noise_from))} images"
    )
    save_sheet(path, entries, ("kernel, HQ pixels", f"noise, amplified x{AMPLIFIED}, {SIDE} px"), heading)


def kernel_words(kernel: Tensor) -> str:
    """Describe a kernel (k, k): the standard deviations along its axes in HQ px, and its direction."""
    shape = shape_of(kernel)
    return f"kernel σ {shape.wide:.1f}/{shape.narrow:.1f} px {shape.degrees:.0f}°"


def noise_words(patches: Tensor) -> str:
    """Describe noise: standard deviation, correlation of neighboring pixels, and correlation between the channels.

    Args:
        patches: (n, 3, s, s), uint8, of one image.
    """
    noise = patches.double()
    noise = noise - noise.mean(dim=(-2, -1), keepdim=True)
    power = noise.square().mean().clamp(min=1e-12)
    neighbors = (noise[..., 1:] * noise[..., :-1]).mean() / 2 + (noise[..., 1:, :] * noise[..., :-1, :]).mean() / 2
    channels = sum((noise[:, one] * noise[:, other]).mean() for one, other in ((0, 1), (0, 2), (1, 2))) / 3
    return f"noise σ {power.sqrt():.1f}/255, neighbors {neighbors / power:+.2f}, channels {channels / power:+.2f}"


def _places(count: int, rows: int) -> list[int]:
    """Spread indices of a pool over the rows; a pool with fewer entries begins again."""
    return [place % count for place in spread(max(count, rows), rows)]


def _kernel_image(kernel: Tensor) -> Image.Image:
    gray = (kernel / kernel.max() * 255).clamp(0, 255).round().to(torch.uint8)
    return Image.fromarray(gray.numpy()).convert("RGB")


def _noise_image(patches: Tensor, seed: int) -> Image.Image:
    noise = lay_noise(patches, (SIDE, SIDE), seed)[0]
    shown = (128 + AMPLIFIED * 255 * noise).clamp(0, 255).round().to(torch.uint8)
    return Image.fromarray(shown.permute(1, 2, 0).contiguous().numpy())
