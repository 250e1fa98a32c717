"""The cells of the t study: one degradation at one t, compared with the real images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddpm_pairs.files import write_table
from ddpm_pairs.metrics.set_scores import SetScores, set_scores
from ddpm_pairs.metrics.texture import band_names, band_power, chroma_noise, power_gap_db
from ddpm_pairs.study.folder import PictureResult
from ddpm_pairs.study.sets import RealSet


@dataclass(frozen=True)
class Cell:
    """One degradation at one t.

    Attributes:
        degradation: Name of the degradation.
        t: The step.
        logsnr: Log-SNR of the step; ``None`` at t = 0.
        scores: FID, fid192 and KID of the LQ patches against real ones.
        chroma_noise: Chroma noise of the LQ patches in 8-bit units.
        power_gaps: Luminance power relative to real patches in dB, one value per octave, the finest last.
        psnr: Mean PSNR of HQ against LQ over images in dB. Images whose LQ equals HQ are left out; infinite if all do.
        psnr_median: Median of the PSNR.
        n: Number of images.
    """

    degradation: str
    t: int
    logsnr: float | None
    scores: SetScores
    chroma_noise: float
    power_gaps: tuple[float, ...]
    psnr: float
    psnr_median: float
    n: int


def make_cells(
    results: PictureResult,
    degradations: Sequence[str],
    ts: Sequence[int],
    logsnrs: Sequence[float | None],
    real: RealSet,
) -> list[Cell]:
    """Score every cell.

    Args:
        results: All images, see ``ddpm_pairs.study.folder.stack``.
        degradations: Names of the D degradations.
        ts: The T steps.
        logsnrs: Log-SNR of each step.
        real: Real LQ patches to compare with.
    """
    reference = band_power(real.patches.float() / 255)
    cells = []
    for d, degradation in enumerate(degradations):
        for column, (t, logsnr) in enumerate(zip(ts, logsnrs, strict=True)):
            patches = results.patches[:, d, column].float() / 255
            psnr = results.psnr[:, d, column]
            finite = psnr[psnr.isfinite()]
            cells.append(
                Cell(
                    degradation,
                    t,
                    logsnr,
                    set_scores({name: one[:, d, column] for name, one in results.features.items()}, real.features),
                    chroma_noise(patches),
                    tuple(power_gap_db(band_power(patches), reference).tolist()),
                    finite.mean().item() if len(finite) else math.inf,
                    psnr.median().item(),
                    len(psnr),
                )
            )
    return cells


def write_csv(path: Path, cells: Sequence[Cell], real: RealSet) -> None:
    """Write ``ablation.csv``: one line per cell, each with the floor."""
    bands = [f"power_{name}" for name in band_names(len(cells[0].power_gaps))]
    names = ["degradation", "t", "logsnr", "fid", "fid192", "kid", "kid_low", "kid_high", "psnr", "psnr_median", "n"]
    floor = [real.floor.fid, real.floor.fid192, real.floor.kid]
    chroma = chroma_noise(real.patches.float() / 255)
    rows = [[*names, "chroma_noise", *bands, "real_chroma_noise", "floor_fid", "floor_fid192", "floor_kid"]]
    for cell in cells:
        numbers = [
            *(cell.scores.fid, cell.scores.fid192, cell.scores.kid, *cell.scores.kid_interval),
            *(cell.psnr, cell.psnr_median, cell.n, cell.chroma_noise, *cell.power_gaps, chroma, *floor),
        ]
        shown = [f"{number:.6g}" if isinstance(number, float) else number for number in numbers]
        rows.append([cell.degradation, cell.t, "" if cell.logsnr is None else f"{cell.logsnr:.6f}", *shown])
    write_table(path, rows)


def table(cells: Sequence[Cell], real: RealSet) -> str:
    """Format the cells as text for a terminal of 100 columns."""
    bands = band_names(len(cells[0].power_gaps))[-2:]
    head = f"{'':<14}{'t':>5}{'FID':>9}{'FID192':>9}{'KID':>9}{'chroma':>9}" + "".join(f"{band:>10}" for band in bands)
    lines = [f"{head}{'PSNR':>8}{'median':>8}", f"{'':<55}{'power gap, dB':>20}"]
    for cell in cells:
        gaps = "".join(f"{gap:>+10.2f}" for gap in cell.power_gaps[-2:])
        lines.append(
            f"{cell.degradation:<14}{cell.t:>5}{cell.scores.fid:>9.2f}{cell.scores.fid192:>9.2f}"
            f"{cell.scores.kid:>9.4f}{cell.chroma_noise:>9.2f}{gaps}{cell.psnr:>8.2f}{cell.psnr_median:>8.2f}"
        )
    chroma = chroma_noise(real.patches.float() / 255)
    floor = real.floor
    lines.append(f"{'real vs real':<14}{'':>5}{floor.fid:>9.2f}{floor.fid192:>9.2f}{floor.kid:>9.4f}{chroma:>9.2f}")
    return "\n".join(lines)


def fine_power_falls(cells: Sequence[Cell]) -> bool:
    """Whether the finest octave of one degradation ends 1 dB or more below both its value at t = 0 and real images.

    An undertrained DDPM smooths what it denoises, and more so from a larger t.
    """
    gaps = [cell.power_gaps[-1] for cell in sorted(cells, key=lambda cell: cell.t)]
    return math.isfinite(gaps[-1]) and gaps[-1] <= min(gaps[0], 0.0) - 1.0
