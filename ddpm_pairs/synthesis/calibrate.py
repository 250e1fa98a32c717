"""``ddpm-pairs calibrate``: fit the blur of the start to the spectrum of real LQ images.

The DDPM adds realistic noise to any start, but it does not blur: HQ detail that the start keeps is also in the pair.
How much detail the camera keeps is visible in the power spectrum of its images, minus that of their noise. From pairs
made with ``bicubic``, this module measures, per frequency band, the walk's transfer T from initial LQ to LQ and the
power N that it adds. A start with gain g then gives pairs of power T^2 g^2 S + N, where S is the power of bicubic LQ,
and g is chosen so that this equals the power of the real images. No paired ground truth is needed.
"""

import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor

from ddpm_pairs.degradations import Bicubic
from ddpm_pairs.degradations.ops.noise import luminance
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import write_atomically
from ddpm_pairs.images.decode import UnreadablePicture, decode_picture
from ddpm_pairs.images.find import Failure, Picture, find_pictures
from ddpm_pairs.pairset.folder import PairsFolder, read_run
from ddpm_pairs.plain_text import printable
from ddpm_pairs.synthesis.old_runs import modern_run

BANDS = 8
SIDE = 32  # of a patch, px
STRIDE = 16
GAINS = (0.05, 1.5)
FREE_BANDS = 2
"""Number of lowest bands whose gains may increase with frequency, as those of a camera that sharpens do. Above them,
gains never increase, because little of the real power there is image content."""
LEAST_SHARE = 0.02
"""Minimum share of the real power that is attributed to the image rather than to the walk's noise."""


@dataclass(frozen=True)
class Calibration:
    """Measurements per band, each (2, BANDS), float64, for luminance and color.

    Attributes:
        real: Power of real LQ.
        start: Power of bicubic LQ.
        made: Power of the pairs' LQ.
        transfer: Amplitude transfer of the walk.
        scale: Scale of the pairs.
        failures: LQ images, of ``lq_dir`` and of the pairs, that were skipped.
    """

    real: Tensor
    start: Tensor
    made: Tensor
    transfer: Tensor
    scale: int
    failures: list[Failure]

    @property
    def noise(self) -> Tensor:
        """Power that the walk adds, (2, BANDS)."""
        return self.made - self.transfer**2 * self.start

    def gains(self) -> Tensor:
        """Gains of the start, (2, BANDS).

        The gain of the lowest band is 1, because a difference in contrast between the two sets is not blur.
        """
        wanted = torch.maximum(self.real - self.noise, LEAST_SHARE * self.real)
        gains = (wanted / self.start).sqrt() / self.transfer.clamp(min=1e-3)
        gains = (gains / gains[:, :1]).clamp(*GAINS)
        gains[:, FREE_BANDS:] = gains[:, FREE_BANDS:].cummin(dim=1).values
        return gains


def main(arguments: Namespace) -> int:
    """Run ``ddpm-pairs calibrate PAIRS LQ_DIR OUT.yaml``.

    Args:
        arguments: ``pairs``, ``lq_dir`` and ``out`` of the command line.

    Returns:
        0.

    Raises:
        UserError: If the name ``out`` does not end in ``.yaml``; see also ``calibrate``.
    """
    if arguments.out.suffix != ".yaml":
        raise UserError(f"OUT: got {arguments.out}; expected a name ending in .yaml")
    found = calibrate(arguments.pairs, arguments.lq_dir)
    gains = found.gains()
    write_atomically(arguments.out, _config(arguments, gains, found.scale).encode())
    for failure in found.failures:
        print(printable(f"skipped {failure.source}: {failure.reason}"), file=sys.stderr)
    print(_table(found, gains))
    print(f"wrote {arguments.out}; make pairs with --config pairs_natural.yaml --config {arguments.out}")
    return 0


def calibrate(pairs: Path, lq_dir: Path) -> Calibration:
    """Measure the spectra of real LQ images and of pairs made with ``bicubic``.

    Args:
        pairs: A pairs folder made by ``predict --model.degradation bicubic``, with the DDPM and the range of t that
            the final pairs will use.
        lq_dir: The folder of real LQ images.

    Returns:
        The measurements, on overlapping patches of 32 px.

    Raises:
        UserError: If the pairs were made differently, or no image is large enough.
    """
    run = read_run(pairs)
    if run is None:
        raise UserError(f"{pairs} contains no run.yaml; expected a pairs folder written by `lightning predict`")
    settings = modern_run(run)["settings"]
    made_by = settings["degradation"]
    start, walked = made_by, False
    if made_by["name"] == "walk":
        start, walked = made_by["init_args"]["start"], made_by["init_args"]["t"][1] > 0
    if start["name"] != Bicubic.name or not walked:
        found = f"from {start['name']} with a DDPM" if walked else f"by {start['name']} alone"
        raise UserError(f"{pairs} was made {found}; expected pairs of --model.degradation bicubic with a DDPM")
    found, failures = find_pictures(lq_dir, "LQ_DIR")
    (real,) = _mean(_of_real(found, failures), f"LQ_DIR {lq_dir}")
    start_power, made_power, cross = _mean(_of_pairs(pairs, Bicubic(settings["scale"]), failures), str(pairs))
    return Calibration(real, start_power, made_power, cross / start_power, settings["scale"], failures)


def _of_real(pictures: list[Picture], failures: list[Failure]) -> Iterator[Tensor]:
    """Yield the power of each image's patches."""
    for picture in pictures:
        lq = _large_enough(picture.path, picture.source, failures)
        if lq is not None:
            yield _spectra(lq)


def _of_pairs(root: Path, model: Bicubic, failures: list[Failure]) -> Iterator[Tensor]:
    """Yield, for each pair's patches, the power of bicubic LQ, the power of its LQ, and their cross-power."""
    folder = PairsFolder(root)
    for record in folder.records():
        lq = _large_enough(folder.path(record["lq"]), record["lq"], failures)
        if lq is not None:
            yield _spectra(model.apply(_read(folder.path(record["hq"]))[None], [{}])[0], lq)


def _large_enough(path: Path, source: str, failures: list[Failure]) -> Tensor | None:
    """Read an image; record a failure and return ``None`` if that is impossible or the image is too small."""
    try:
        picture = _read(path)
    except (UnreadablePicture, OSError) as error:
        failures.append(Failure(source, str(error)))
        return None
    height, width = picture.shape[1:]
    if min(height, width) < SIDE:
        failures.append(Failure(source, f"{width}x{height} px, smaller than a patch of {SIDE} px"))
        return None
    return picture


def _read(path: Path) -> Tensor:
    """Read an image as (3, H, W), float32 in [0, 1]."""
    return torch.from_numpy(decode_picture(path)).permute(2, 0, 1).float() / 255


def _spectra(*pictures: Tensor) -> Tensor:
    """Compute the band powers of each patch of one image, or of two images of equal size.

    Returns:
        (patches, 1, 2, BANDS) for one image; (patches, 3, 2, BANDS) for two: the power of each and the real part of
        their cross-spectrum.
    """
    spectra = [torch.fft.fft2(_patches(picture)) for picture in pictures]
    pairs = [(one, one) for one in spectra] + ([tuple(spectra)] if len(spectra) == 2 else [])
    power = torch.stack([(first.conj() * second).real for first, second in pairs], dim=1)
    frequency = torch.fft.fftfreq(SIDE)
    radius = torch.hypot(frequency[:, None], frequency[None, :])
    edges = [0.5 * band / BANDS for band in range(BANDS + 1)]
    inside = [(radius > low) & (radius <= high) for low, high in zip(edges[:-1], edges[1:], strict=True)]
    bands = torch.stack([power[..., mask].mean(dim=-1) for mask in inside], dim=-1)  # (patches, kinds, 3, BANDS)
    return torch.stack([bands[:, :, 0], bands[:, :, 1:].mean(dim=2)], dim=2)


def _patches(picture: Tensor) -> Tensor:
    """Cut overlapping patches, (n, 3, SIDE, SIDE): Y, R - Y and B - Y minus their means, under a Hann window."""
    gray = luminance(picture)
    planes = torch.cat([gray, picture[0:1] - gray, picture[2:3] - gray]).double()
    patches = planes.unfold(1, SIDE, STRIDE).unfold(2, SIDE, STRIDE).flatten(1, 2).transpose(0, 1)
    ramp = torch.hann_window(SIDE, dtype=torch.float64)
    return (patches - patches.mean(dim=(2, 3), keepdim=True)) * (ramp[:, None] * ramp[None, :])


def _mean(spectra: Iterable[Tensor], place_of: str) -> Tensor:
    """Average over all patches, (kinds, 2, BANDS)."""
    sums = [(one.sum(dim=0), len(one)) for one in spectra]
    if not sums:
        raise UserError(f"{place_of} contains no LQ image of {SIDE} px or more per side; use larger images")
    return torch.stack([total for total, _ in sums]).sum(dim=0) / sum(patches for _, patches in sums)


def _config(arguments: Namespace, gains: Tensor, scale: int) -> str:
    luma, chroma = ([round(gain, 3) for gain in row] for row in gains.tolist())
    operation = {"class_path": "ddpm_pairs.degradations.BandGain", "init_args": {"luma": luma, "chroma": chroma}}
    chain = {"class_path": "ddpm_pairs.degradations.Chain", "init_args": {"scale": scale, "operations": [operation]}}
    title = f"# A start fitted to {arguments.lq_dir}, with the pairs {arguments.pairs}, by ddpm-pairs calibrate."
    return f"{title}\n{yaml.safe_dump({'model': {'degradation': chain}}, sort_keys=False)}"


def _table(found: Calibration, gains: Tensor) -> str:
    """Format the result as a table with one line per band."""
    after = found.transfer**2 * gains**2 * found.start + found.noise
    gaps = [10 * torch.log10(power / found.real) for power in (found.made, after)]
    lines = ["             luminance: power vs. real, dB          color"]
    lines.append("cycles/px      now   expected   gain             now   expected   gain")
    for band in range(BANDS):
        cells = [f"{gaps[0][row, band]:+6.1f}{gaps[1][row, band]:+10.1f}{gains[row, band]:9.2f}" for row in range(2)]
        lines.append(f"up to {0.5 * (band + 1) / BANDS:<7.4g}{cells[0]}        {cells[1]}")
    return "\n".join(lines)
