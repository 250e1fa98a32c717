"""The rows of the table of starts: each degradation as it is, and at the t that suits it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddpm_pairs.files import write_table
from ddpm_pairs.metrics.set_scores import SetScores
from ddpm_pairs.metrics.texture import band_names, chroma_noise
from ddpm_pairs.study.cells import Cell
from ddpm_pairs.study.recommendation import closest, keeping_content
from ddpm_pairs.study.sets import RealSet

SCORES = ("fid", "kid", "fid192")


@dataclass(frozen=True)
class Row:
    """One degradation, as it is or walked.

    Attributes:
        cell: Its scores; ``cell.t`` is 0 if it is not walked.
        walked: Whether this is the walk from the degradation.
        shares: Share of the way from the reference to the floor by score, 1 at the floor; NaN if the reference is at
            the floor.
        milliseconds: Time per pair.
    """

    cell: Cell
    walked: bool
    shares: dict[str, float]
    milliseconds: float

    @property
    def name(self) -> str:
        """The degradation, with its t if it is walked."""
        return f"{self.cell.degradation}, t = {self.cell.t}" if self.walked else self.cell.degradation


def rows_of(
    cells: Sequence[Cell],
    floor: SetScores,
    reference: str,
    limits: tuple[float | None, float | None],
    milliseconds: Mapping[tuple[str, int], float],
) -> list[Row]:
    """Choose the rows of the table, two per degradation: at t = 0, and at its best t above 0 that keeps the content.

    If no t above 0 satisfies the limits, the t closest to the real images is taken.

    Args:
        cells: All cells; each degradation has one at t = 0.
        floor: Scores of real images against real images.
        reference: The degradation at t = 0 from which shares are counted.
        limits: ``psnr_drop`` and ``psnr_floor`` of the study.
        milliseconds: Time per pair by degradation and t.
    """
    begin = next(cell for cell in cells if (cell.degradation, cell.t) == (reference, 0)).scores
    allowed = keeping_content(cells, *limits)
    rows = []
    for name in dict.fromkeys(cell.degradation for cell in cells):
        own = [cell for cell in cells if cell.degradation == name]
        walked = [cell for cell in own if cell.t > 0]
        usable = [cell for cell in walked if cell in allowed] or walked
        chosen = [next(cell for cell in own if cell.t == 0), *([closest(usable, floor.kid)] if usable else [])]
        for cell in chosen:
            shares = {
                score: share_of_way(*(getattr(s, score) for s in (begin, cell.scores, floor))) for score in SCORES
            }
            rows.append(Row(cell, cell.t > 0, shares, milliseconds[name, cell.t]))
    return rows


def share_of_way(begin: float, value: float, end: float) -> float:
    """Return how far ``value`` is on the way from ``begin`` (0) to ``end`` (1); NaN if ``begin`` is not above it."""
    return (begin - value) / (begin - end) if begin > end else math.nan


def write_starts_csv(path: Path, rows: Sequence[Row], real: RealSet) -> None:
    """Write ``starts.csv``: one line per row, and a last one for real images against real images."""
    bands = [f"power_{name}" for name in band_names(len(rows[0].cell.power_gaps))]
    shares = [f"share_{score}" for score in SCORES]
    head = ["degradation", "t", "fid", "kid", "kid_low", "kid_high", "fid192", *shares, "chroma_noise", *bands]
    table = [[*head, "psnr", "psnr_median", "n", "milliseconds"]]
    for row in rows:
        cell, scores = row.cell, row.cell.scores
        numbers = [scores.fid, scores.kid, *scores.kid_interval, scores.fid192, *row.shares.values()]
        numbers += [cell.chroma_noise, *cell.power_gaps, cell.psnr, cell.psnr_median, cell.n, row.milliseconds]
        table.append([cell.degradation, cell.t, *(_text(number) for number in numbers)])
    floor = real.floor
    numbers = [floor.fid, floor.kid, *floor.kid_interval, floor.fid192, 1.0, 1.0, 1.0]
    numbers += [chroma_noise(real.patches.float() / 255), *[0.0] * len(bands)]
    table.append(["real vs real", "", *(_text(number) for number in numbers), "", "", len(real.patches), ""])
    write_table(path, table)


def starts_table(rows: Sequence[Row], real: RealSet) -> str:
    """Format the rows as text for a terminal of 100 columns."""
    head = f"{'':<28}{'FID':>8}{'KID':>8}{'FID192':>8}{'way by KID':>12}{'chroma':>8}{'PSNR':>8}{'ms':>8}"
    lines = [head]
    for row in rows:
        scores, way = row.cell.scores, row.shares["kid"]
        share = "" if math.isnan(way) else f"{way:.0%}"
        lines.append(
            f"{row.name[:27]:<28}{scores.fid:>8.2f}{scores.kid:>8.4f}{scores.fid192:>8.3f}{share:>12}"
            f"{row.cell.chroma_noise:>8.2f}{row.cell.psnr_median:>8.2f}{row.milliseconds:>8.1f}"
        )
    floor, chroma = real.floor, chroma_noise(real.patches.float() / 255)
    lines.append(
        f"{'real vs real':<28}{floor.fid:>8.2f}{floor.kid:>8.4f}{floor.fid192:>8.3f}{'100%':>12}{chroma:>8.2f}"
    )
    return "\n".join(lines)


def _text(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.6g}"
