"""The cells of the t study: one degradation at one t, beside the real pictures."""

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
        degradation: Its name.
        t: The step.
        logsnr: Its log-SNR; ``None`` at t = 0.
        scores: FID, FID at 192-d and KID of the LQ patches against real ones.
        chroma_noise: Of the LQ patches, 8-bit units.
        power_gaps: Luminance power over that of real patches, dB by octave, the finest last.
        psnr: HQ against LQ, mean over pictures, dB; those whose LQ is HQ itself are left out, infinite if all are.
        psnr_median: The median.
        n: Number of pictures.
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
        results: All pictures, see ``ddpm_pairs.study.folder.stack``.
        degradations: Names of the D degradations.
        ts: The T steps.
        logsnrs: Their log-SNR.
        real: What they are compared with.
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
    """Write ``ablation.csv``: one line a cell, the floor beside it."""
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
    """The cells as text for a terminal of 100 columns."""
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
    """Whether the finest octave of one degradation's cells, by t, ends 1 dB or more below both its start and real.

    A DDPM that was trained too little smooths what it walks back, the more the longer the walk.
    """
    gaps = [cell.power_gaps[-1] for cell in sorted(cells, key=lambda cell: cell.t)]
    return math.isfinite(gaps[-1]) and gaps[-1] <= min(gaps[0], 0.0) - 1.0
