"""Fidelity columns of `benchmarks/synthesis.py`: how close results are to the ancestral walk's and to real LQ."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddpm_pairs.degradations import by_name
from ddpm_pairs.demo.scenes import HQ_PHOTOGRAPHS, scenes
from ddpm_pairs.images.decode import decode_picture
from ddpm_pairs.images.find import find_pictures
from ddpm_pairs.images.pixels import psnr_of
from ddpm_pairs.metrics.features import Inception, extract
from ddpm_pairs.metrics.set_scores import frechet_distance
from ddpm_pairs.metrics.texture import band_power, native_patches, power_gap_db
from ddpm_pairs.metrics.weights import INCEPTION, find_weights
from ddpm_pairs.tensors import generator_for

SCALE = 4
GROUP = 8
BANDS = 3
HEADER = (
    f"power against ancestral, dB, finest {BANDS} octaves",
    "against real LQ, dB",
    "PSNR to initial LQ, dB",
    "fid192 to real LQ",
)


@dataclass(frozen=True)
class Pictures:
    """Inputs of the walks and the images to compare with, each (n, 3, side, side), float32 in [0, 1].

    Attributes:
        starts: Initial LQ.
        power: Real LQ to compare the power with; ``None`` if there is none.
        others: Real LQ from other images, for the distance between sets; ``None`` if there is none.
    """

    starts: Tensor
    power: Tensor | None = None
    others: Tensor | None = None


def choose(hq_dir: Path | None, lq_dir: Path | None, n: int, side: int, seed: int) -> Pictures:
    """Cut patches of HQ and of real LQ.

    Initial LQ is HQ degraded by ``real_esrgan`` at x4. HQ is from ``hq_dir``, or from embedded photographs if there is
    no folder. With ``lq_dir`` alone, initial LQ is real LQ, which should not change, so any difference comes from the
    network and the sampler. The set for comparison then contains other images.

    Args:
        hq_dir: Folder of HQ images with sides of at least four times ``side``.
        lq_dir: Folder of real LQ images on which the DDPM was trained.
        n: Number of patches of each kind.
        side: Side of the patches in pixels.
        seed: Seed of the choice.

    Raises:
        ValueError: If a folder contains no images that are large enough.
    """
    if lq_dir is None:
        return Pictures(degraded(high_quality(hq_dir, n, side * SCALE, seed), seed))
    real = read(lq_dir, "--lq_dir", side)
    if len(real) < 2:
        raise ValueError(f"--lq_dir {lq_dir}: got 1 image of {side} px or more; expected 2 or more, for two halves")
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed)).tolist()
    first, second = (
        native_patches([real[i] for i in half], n=n, seed=seed, size=side) for half in (order[::2], order[1::2])
    )
    if hq_dir is None:
        return Pictures(first, first, second)
    return Pictures(degraded(high_quality(hq_dir, n, side * SCALE, seed), seed), second, second)


def high_quality(hq_dir: Path | None, n: int, side: int, seed: int) -> Tensor:
    """Return HQ patches (n, 3, side, side) from a folder, or from embedded photographs."""
    if hq_dir is None:
        cut = scenes(HQ_PHOTOGRAPHS, n, side, (0.6, 1.0), seed)
        return torch.stack(list(cut.values())).float() / 255
    return native_patches(read(hq_dir, "--hq_dir", side), n=n, seed=seed, size=side)


def degraded(hq: Tensor, seed: int) -> Tensor:
    """Return initial LQ with a quarter of HQ's sides."""
    model = by_name("real_esrgan", SCALE)
    drawn = [model.draw(generator_for(seed, str(row), "degradation")) for row in range(len(hq))]
    groups = [slice(first, first + GROUP) for first in range(0, len(hq), GROUP)]
    return torch.cat([model.apply(hq[group], drawn[group]) for group in groups])


def read(folder: Path, option: str, side: int) -> list[Tensor]:
    """Read the images of a folder with sides of at least ``side``, each (3, H, W) in [0, 1].

    Raises:
        ValueError: If there are none.
    """
    decoded = [decode_picture(picture.path) for picture in find_pictures(folder, option)[0]]
    large = [
        torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 for pixels in decoded if min(pixels.shape[:2]) >= side
    ]
    if not large:
        raise ValueError(f"{option} {folder}: got no image with sides of {side} px or more; use larger images")
    return large


class Comparison:
    """Compute the fidelity of results, one row of cells per method.

    Args:
        pictures: The inputs of the walks, and the references.
        ancestral: uint8 results of the ancestral walk, the reference for all others.
        device: Device on which Inception runs.
    """

    def __init__(self, pictures: Pictures, ancestral: Tensor, device: torch.device) -> None:
        self.pictures, self.device = pictures, device
        self.starts = (pictures.starts * 255).round().to(torch.uint8)
        self.ancestral = _power(ancestral)
        self.real = None if pictures.power is None else band_power(pictures.power)
        path = find_weights(INCEPTION)
        self.network = None if path is None or pictures.others is None else Inception(path).to(device).eval()
        self.features = None if self.network is None else self._features((pictures.others * 255).round().byte())

    def row(self, lq: Tensor) -> list[str]:
        """Return the cells under ``HEADER`` for LQ (n, 3, side, side), uint8; ``-`` if there is no reference."""
        power = _power(lq)
        values = [psnr_of(start, image) for start, image in zip(self.starts, lq, strict=True)]
        finite = [value for value in values if value < math.inf]
        return [
            decibels(power_gap_db(power, self.ancestral)),
            "-" if self.real is None else decibels(power_gap_db(power, self.real)),
            f"{statistics.fmean(finite):.1f}" if finite else "-",
            "-" if self.features is None else f"{frechet_distance(self._features(lq), self.features):.2f}",
        ]

    def references(self) -> dict[str, list[str]]:
        """Return the rows of the references: initial LQ, and other real LQ images."""
        rows = {"initial LQ": self.row(self.starts)}
        if self.pictures.others is not None and self.pictures.power is not self.pictures.others:
            gap = power_gap_db(band_power(self.pictures.others), self.real)
            rows["real LQ, other images"] = ["-", decibels(gap), "-", "-"]
        return rows

    def _features(self, lq: Tensor) -> Tensor:
        return extract(self.network, (part.to(self.device) for part in lq.split(16)))["fid192"]


def decibels(bands: Tensor) -> str:
    """Format the finest octaves, finest first."""
    return " / ".join(f"{value:+.2f}" for value in bands.flip(0)[:BANDS].tolist())


def spread(t_max: int, n: int, seed: int) -> list[int]:
    """Return n values of t, evenly spaced over 1..t_max, in random order."""
    ts = [max(1, round((i + 0.5) / n * t_max)) for i in range(n)]
    order: Sequence[int] = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    return [ts[i] for i in order]


def _power(lq: Tensor) -> Tensor:
    return band_power(lq.float() / 255)
